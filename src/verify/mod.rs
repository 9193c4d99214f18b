//! What only reading everything tells: whether guest data is there and can be unpacked, whether the files
//! that an image names are there, and digests of its disks. Nothing is written.
//!
//! * [`deep`]: `tables` gathers what the L2 tables lead to, `clusters` and `compressed` read it once, `blame` finds
//!   whose it is where that fails; `bitmaps` and `chain` look at the rest
//! * [`digests`] over [`digest`], `hasher` and `memo`: pieces of a disk in any order, their hashes in its order

use std::path::Path;

use crate::image::Opener;

mod bitmaps;
mod blame;
mod chain;
mod clusters;
mod compressed;
mod deep;
mod digest;
mod digests;
mod hasher;
mod memo;
mod tables;

pub use deep::deep;
pub use digest::{Algorithm, Digest, NoDigest, digest};
pub use digests::{Digests, SnapshotDigest, Wanted, digests};

/// An image's files.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// The image's own path: relative names in it are resolved against its folder.
    pub path: &'a Path,
    /// Opens backing files; without one they stay closed.
    pub backing: Option<&'a dyn Opener>,
    /// Opens external data files, likewise.
    pub data_file: Option<&'a dyn Opener>,
}

impl std::fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("path", &self.path).finish_non_exhaustive()
    }
}
