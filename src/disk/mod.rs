//! A disk as a guest sees it: a raw image, or a qcow2 image with the backing chain below it.
//!
//! * [`Disk`]: its size and its bytes (`read`); `past`: what a shorter one would lose
//! * [`Extent`]: what is known of bytes without reading them, and where they are; [`Extents`]: of a
//!   range, one after the other
//! * `identity`: which files a chain is read from; `preallocated`: holes in image files; `zeroes`:
//!   runs of zeroes in bytes that were read

pub(crate) mod extent;
mod extents;
pub(crate) mod identity;
mod past;
mod preallocated;
mod read;
pub(crate) mod zeroes;

pub use extent::{Extent, ExtentKind};
pub use extents::Extents;
pub(crate) use identity::shared_from;
pub use past::DataPast;
pub use read::Disk;
