//! The source of the library and of the tests.

pub mod imports;
pub mod source;
