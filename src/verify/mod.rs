//! What only a full read shows: whether guest data exists and can be decompressed, whether the
//! files that an image names are there, and digests of its disks. Nothing is written.
//!
//! * [`deep`] reads all data; [`digests`] are those of an image's disks, [`digest`](fn@digest) is
//!   that of one

use crate::crypt::Key;
use std::path::Path;

use crate::image::Opener;

mod data;
mod digest;

pub use data::deep;
pub use digest::{Algorithm, Digest, Digests, NoDigest, SnapshotDigest, Wanted, digest, digests};

/// An image's files.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// The image's own path: relative names in it are resolved against its folder.
    pub path: &'a Path,
    /// Opens backing files; without one they stay closed.
    pub backing: Option<&'a dyn Opener>,
    /// Opens external data files, likewise.
    pub data_file: Option<&'a dyn Opener>,
    /// The secrets of encrypted images.
    pub key: &'a Key,
}

impl std::fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("path", &self.path).finish_non_exhaustive()
    }
}
