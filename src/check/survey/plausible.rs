//! Which refcounts a cluster can have: higher ones are not refcounts.

use crate::format::Geometry;

/// The fewest bytes that a compressed cluster takes.
const SMALLEST_EXTENT: u64 = 16;
/// Snapshots that may be lost.
const UNKNOWN_SNAPSHOTS: u64 = 255;
/// The narrowest refcounts, as an order, in which other data shows.
const WIDE: u32 = 4;

/// What a cluster's refcount can be: each disk refers to a cluster once, to one with compressed
/// data as often as extents are in it.
#[derive(Debug, Clone, Copy)]
pub struct Plausible {
    most: u64,
    is_wide: bool,
}

impl Plausible {
    /// For an image with so many snapshots.
    pub const fn new(geometry: &Geometry, snapshots: u64, has_compressed: bool) -> Self {
        let is_wide = geometry.refcount_order() >= WIDE;
        let many = has_compressed && is_wide;
        let extents = if many { geometry.cluster_bytes() / SMALLEST_EXTENT } else { 1 };
        let unknown = if is_wide { UNKNOWN_SNAPSHOTS } else { 0 };
        let most = (snapshots + 1).saturating_mul(extents).saturating_add(unknown);
        Self { most, is_wide }
    }

    /// Whether a cluster with so many references can have this refcount.
    pub fn allows(&self, stored: u64, referenced: u64) -> bool {
        stored <= referenced.max(self.most)
    }

    /// Whether this refcount shows that something else was written in its place: narrow ones can
    /// have any value.
    pub fn excludes(&self, stored: u64, referenced: u64) -> bool {
        self.is_wide && !self.allows(stored, referenced)
    }

    /// Whether the refcount of a cluster with so many references is lost.
    pub fn is_lost(&self, stored: u64, referenced: u64) -> bool {
        let too_low = if self.is_wide { stored == 0 } else { true };
        (stored < referenced && too_low) || self.excludes(stored, referenced)
    }
}
