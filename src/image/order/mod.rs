//! In which order metadata reaches the disk, and what may be written where.

pub(in crate::image) mod cache;
pub(in crate::image) mod disk;
pub(in crate::image) mod ordering;
pub(in crate::image) mod regions;
pub(in crate::image) mod root;
