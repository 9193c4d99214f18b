//! Changes of the whole image: snapshots, another size, another backing file, another
//! version or refcount width, other passphrases, and no guest data at all.

mod empty;
mod grow;
mod keys;
mod labels;
mod shrink;
mod snapshots;
mod switch;
mod version;
mod width;

pub use grow::Preallocation;
pub(crate) use grow::write_zero_buffers;
pub use labels::BackingLabel;
