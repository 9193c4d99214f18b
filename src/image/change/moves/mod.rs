//! Clusters that go to other places of the file, or are no longer needed: what makes an image file
//! shorter. What the guest reads, of the disk and of every snapshot, stays as it is.
//!
//! * `survey`: which clusters are in use and which are free
//! * `references`: what refers to clusters, all of it
//! * `plain`: clusters of data, L2 tables and bitmap data, with all references to each
//! * `packed`: compressed data, likewise; `compressed`: data that become compressed
//! * `blocks`: refcount blocks; `roots`: structures that have one pointer
//! * `zeroes`: what reads as zeroes and has clusters
//! * `ends`: the beginning and the end of the work
//!
//! A step copies to free clusters, flushes, raises their refcounts, flushes, changes the pointers,
//! flushes, and then lowers the refcounts of what it replaced. So every crash leaves leaks at
//! worst, whatever was written of a step (I1 and I2 of `docs/design.md`): while references to a
//! shared cluster are split between its two places, both have the full refcount, and no COPIED
//! flag. A cluster with several references has more than the disk and all snapshots can have
//! meanwhile (`marks`): were it left with its own refcount, it would look as if it was lost
//! (`check/lost/doubt`).

mod blocks;
mod compressed;
mod ends;
mod marks;
mod packed;
mod plain;
mod references;
mod roots;
mod survey;
mod zeroes;

pub(crate) use compressed::CompressStep;
pub(crate) use packed::PackedStep;
pub(crate) use plain::Step;
pub(crate) use references::{Content, Packed, Reference, References};
pub(crate) use survey::Window;

/// Whether the data of clusters is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copying {
    /// It is.
    Data,
    /// It is not: the image is a plan in memory, and only its metadata counts.
    Nothing,
}
