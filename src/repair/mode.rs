//! What a repair may do.

use crate::check::Assume;

/// What may be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepairMode {
    /// Only refcounts that are too high.
    Leaks,
    /// Everything that can be repaired without losing data.
    All,
    /// That, and what cannot be repaired is dropped: mappings that point nowhere, snapshots and
    /// bitmaps that cannot be read, and leaked clusters that may have belonged to them.
    Lossy,
}

impl RepairMode {
    /// The refcounts with which COPIED flags are compared: those that the repair leaves.
    pub(super) const fn assume(self) -> Assume {
        match self {
            Self::Leaks => Assume::LeaksRepaired,
            Self::All | Self::Lossy => Assume::AllRepaired,
        }
    }

    /// Whether more than leaks may be repaired.
    pub(super) const fn is_all(self) -> bool {
        matches!(self, Self::All | Self::Lossy)
    }
}
