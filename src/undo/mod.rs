//! Undoing a repair: what was overwritten is recorded before, and put back to the byte.
//!
//! [`UndoLog`] wraps the image while it is repaired, and records into a [`Durable`] file; [`undo`]
//! puts back what its [`Record`] holds. The file's format is described in `docs/undo.md`.

mod compare;
mod durable;
mod encoding;
mod held;
mod log;
mod reader;
mod restore;
mod segments;
mod writer;

pub use durable::Durable;
pub use log::UndoLog;
pub use reader::Record;
pub use restore::{Undone, undo};
