//! Creation of a new image. Its blueprint is computed first and written in bulk, and the header
//! comes last: what a failure leaves is not an image.

mod blueprint;
mod header;
mod new_image;
mod options;
mod write;

pub use crate::image::Preallocation;
pub(crate) use blueprint::{checked_l1_bytes, counting_clusters, refcount_clusters};
pub(crate) use header::Roots;
pub use new_image::NewImage;
pub(crate) use new_image::{geometry, round_up as in_sectors};
pub use options::{BackingName, Compression, CreateOptions, DataFile, Version};
pub(crate) use write::{begin_luks, cut_off, header_last, put, sync};
pub use write::{create_luks, create_raw};
