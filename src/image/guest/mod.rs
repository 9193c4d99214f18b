//! Guest bytes, read and written by several threads at once.

mod ahead;
mod compress;
mod expand;
pub(in crate::image) mod mapping;
mod read;
mod runs;
mod sparse;
mod write;
mod zero;

pub use runs::{Run, RunKind, Stored};
