//! Changes of the whole image: snapshots and another size.

mod grow;
mod shrink;
mod snapshots;
mod switch;

pub use grow::Preallocation;
pub(crate) use grow::write_zero_buffers;
