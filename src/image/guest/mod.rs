//! Guest bytes, read and written by several threads at once.

mod compress;
pub(in crate::image) mod mapping;
mod read;
mod write;
mod zero;

pub use mapping::{Run, RunKind};
