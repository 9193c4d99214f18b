//! Operations that change an image in place: its options, its size, its snapshots, its bitmaps.

pub mod amend;
pub mod bitmap;
pub mod resize;
pub mod snapshot;
