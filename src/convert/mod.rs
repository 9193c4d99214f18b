//! Copying disks from image to image: several threads, each byte read once, and a target that is
//! not an image before it is whole.
//!
//! * `run`: one conversion; `options`: what is converted, to what, and how
//! * [`source`]: what is read
//! * `flow`: the source cut into items, and the threads that work on them
//! * `target`: a new qcow2 image (`fresh`), a `raw` one, an `existing` image, or a stream (`pipe`)
//! * `verify`: both sides read again; `bitmaps`: persistent bitmaps

mod bitmaps;
pub(crate) mod flow;
mod options;
mod run;
pub mod source;
mod target;
mod verify;

pub(crate) use flow::InOrder;
pub use flow::Loss;
pub use options::{Control, ConvertOptions, ConvertReport, DEFAULT_SPARSE, Input, Outlet, Target};
pub use run::{convert, convert_to_stream, verify};
pub use source::SourceDisk;
