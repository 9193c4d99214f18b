//! Which clusters of the file are in use, and which are free.

pub(in crate::image) mod alloc;
pub(in crate::image) mod claims;
mod reclaim;
pub(in crate::image) mod refcounts;
mod reftable;
