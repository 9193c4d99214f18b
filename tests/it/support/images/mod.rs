//! Images made and read without the library.

pub mod builder;
pub mod bytes;
pub mod fields;
pub mod layout;
pub mod luks;
pub mod reader;
