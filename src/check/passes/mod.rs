//! The passes over the image's structures, each stating what it relies on.

pub mod bitmaps;
pub mod compare;
pub mod compressed;
pub mod copied;
pub mod crypto;
pub mod cut;
pub mod header;
pub mod mapping;
pub mod overlaps;
pub mod refcounts;
pub mod shared;
pub mod snapshots;
