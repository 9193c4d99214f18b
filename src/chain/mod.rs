//! The only place that follows names stored in an image: of its backing file, that one's backing
//! file and so on, and of external data files.
//!
//! * `name`: which file a name means; [`Described`]: a file that options describe; `export`: an
//!   export of a server that they describe; `opener`: how it is opened
//! * [`Walk`]: from image to image, with one rule for formats, loops and depth

mod described;
mod driver;
#[cfg(feature = "nbd")]
mod export;
mod format;
mod json;
mod link;
mod name;
mod opener;
mod options;
mod stop;
mod walk;

pub use described::{Below, Described, Instead, Part};
pub use format::Format;
pub use link::Link;
pub use name::{data_file, resolve};
pub use opener::{FileOpener, Opener};
pub use stop::{MAX_DEPTH, Stop};
pub use walk::Walk;
