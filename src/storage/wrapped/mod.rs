//! Storages over another storage.

mod cancelable;
mod forward;
mod latch;
mod overlay;
mod peeked;
mod read_only;
mod window;

pub(crate) use cancelable::Cancelable;
pub(crate) use forward::forward;
pub use latch::Latch;
pub use overlay::Overlay;
pub(crate) use peeked::Peeked;
pub(crate) use read_only::ReadOnly;
pub(crate) use window::Window;
