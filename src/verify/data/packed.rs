//! Compressed extents in words.

use crate::format::HostOffset;
use crate::format::geometry::Geometry;
use crate::format::l2::{CompressedExtent, SECTOR_BYTES};

/// An extent in one word, in the order of the file: its offset, then its sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Packed(u64);

impl Packed {
    const fn shift(geometry: &Geometry) -> u32 {
        geometry.cluster_bits() - 8
    }

    /// The word for an extent.
    pub(super) const fn of(extent: CompressedExtent, geometry: &Geometry) -> Self {
        let offset = extent.offset.get();
        let sectors = (extent.bytes + offset % SECTOR_BYTES) / SECTOR_BYTES;
        Self(offset << Self::shift(geometry) | (sectors - 1))
    }

    /// The extent.
    pub(super) const fn extent(self, geometry: &Geometry) -> CompressedExtent {
        let shift = Self::shift(geometry);
        let offset = self.0 >> shift;
        let sectors = (self.0 & ((1 << shift) - 1)) + 1;
        let bytes = sectors * SECTOR_BYTES - offset % SECTOR_BYTES;
        CompressedExtent { offset: HostOffset::new(offset), bytes }
    }
}
