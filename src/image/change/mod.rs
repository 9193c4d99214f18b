//! Changes of the whole image: snapshots, another size, another backing file, another version or
//! refcount width, other passphrases, and no guest data at all. `moves`: another place for what is
//! in the file.

mod empty;
mod grow;
mod keys;
mod labels;
mod moves;
mod shrink;
mod snapshots;
mod switch;
mod version;
mod width;

pub use grow::Preallocation;
pub(crate) use grow::write_zero_buffers;
pub use labels::BackingLabel;
pub(crate) use moves::{
    CompressStep, Content, Copying, Packed, PackedStep, Reference, References, Step, Window,
};
