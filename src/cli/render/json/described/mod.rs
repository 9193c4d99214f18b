//! What `info` and `snapshot -l` print.

pub mod image;
pub mod layout;
pub mod metadata;
pub mod space;
