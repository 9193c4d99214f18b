//! Storages over another storage.

mod forward;
mod latch;
mod overlay;
mod peeked;
mod read_only;

pub use latch::Latch;
pub use overlay::Overlay;
pub(crate) use peeked::Peeked;
pub(crate) use read_only::ReadOnly;
