//! Digests of disks over `hasher` and `memo`: pieces of a disk in any order, their hashes in its
//! order.

mod disk;
mod hasher;
mod image;
mod memo;
mod value;

pub use disk::digest;
pub use image::{Digests, SnapshotDigest, digests};
pub use value::{Algorithm, Digest, NoDigest, Wanted};
