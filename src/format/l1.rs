//! L1 table entries (specification, "Cluster mapping").

use super::addr::HostOffset;
use super::geometry::Geometry;

/// Greatest L1 table in bytes (QEMU's limit: 32 MiB).
pub const MAX_L1_BYTES: u64 = 32 << 20;
/// The only reference to its cluster (bit 63 of L1 and standard L2 entries).
pub const COPIED: u64 = 1 << 63;
/// Bits 9 - 55: a host offset in L1, standard L2 and refcount table entries.
pub const OFFSET_MASK: u64 = 0x00FF_FFFF_FFFF_FE00;

/// One entry of an L1 table; any bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Entry(pub u64);

impl L1Entry {
    /// Bits 0 - 8 and 56 - 62.
    pub const RESERVED: u64 = 0x7F00_0000_0000_01FF;

    /// An entry that points to the L2 table at `offset`.
    pub const fn new(offset: HostOffset, copied: bool) -> Self {
        Self(offset.get() | if copied { COPIED } else { 0 })
    }

    /// Host offset of the L2 table; 0 means none.
    pub const fn offset(self) -> HostOffset {
        HostOffset::new(self.0 & OFFSET_MASK)
    }

    /// Whether the COPIED flag is set.
    pub const fn copied(self) -> bool {
        self.0 & COPIED != 0
    }

    /// The entry with the COPIED flag set or cleared.
    pub const fn with_copied(self, copied: bool) -> Self {
        if copied { Self(self.0 | COPIED) } else { Self(self.0 & !COPIED) }
    }

    /// Whether a reserved bit is set.
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & Self::RESERVED != 0
    }

    /// Whether there is a table and it does not begin at a cluster.
    pub const fn is_unaligned(self, geometry: &Geometry) -> bool {
        !geometry.is_aligned(self.offset())
    }
}
