//! The header: its fields, features and extensions, what is recognised by them, and how they are
//! rewritten.

pub mod drivers;
pub mod extension;
pub mod feature;
mod field;
mod fixed;
pub mod probe;
pub(crate) mod rewrite;

pub use field::{HeaderField, encode_field, read_field};
pub use fixed::{
    Header, HeaderError, MAGIC, MAX_BACKING_NAME_BYTES, V2_BYTES, V3_BYTES,
    V3_BYTES_WITH_COMPRESSION,
};
