//! Units as types: a byte offset in the file is not one on the guest's disk, and neither is a
//! cluster number, an index or a count.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// The value with this number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }
            /// The bare number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// Byte offset in the image file (specification: "host offset").
    HostOffset(u64)
}
unit! {
    /// Number of a cluster of the image file: host offset / cluster size.
    HostCluster(u64)
}
unit! {
    /// Byte offset on the virtual disk; VM state is past the end of the disk.
    GuestOffset(u64)
}
unit! {
    /// Number of a cluster of the guest's disk: guest offset / cluster size.
    GuestCluster(u64)
}
unit! {
    /// How many clusters.
    ClusterCount(u64)
}
unit! {
    /// Position of an entry in an L1 table.
    L1Index(u32)
}
unit! {
    /// Position of an entry in an L2 table.
    L2Index(u32)
}
unit! {
    /// Position of an entry in the refcount table.
    ReftableIndex(u64)
}
unit! {
    /// Position of an entry in a refcount block.
    RefblockIndex(u32)
}

impl HostOffset {
    /// The offset `bytes` further on, or `None` past 2^64.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The offset `bytes` further on, at most 2^64 - 1.
    pub const fn saturating_add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl HostCluster {
    /// The cluster after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Add<ClusterCount> for HostCluster {
    type Output = Self;
    fn add(self, count: ClusterCount) -> Self {
        Self(self.0 + count.0)
    }
}

impl Sub for HostCluster {
    type Output = ClusterCount;
    fn sub(self, other: Self) -> ClusterCount {
        ClusterCount(self.0 - other.0)
    }
}

impl Add for ClusterCount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for ClusterCount {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Add<ClusterCount> for GuestCluster {
    type Output = Self;
    fn add(self, count: ClusterCount) -> Self {
        Self(self.0 + count.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_and_counts_add_up() {
        let first = HostCluster::new(5);
        let end = first + ClusterCount::new(3);
        assert_eq!(end, HostCluster::new(8));
        assert_eq!(end - first, ClusterCount::new(3));
        assert_eq!(first.next(), HostCluster::new(6));
    }

    #[test]
    fn offsets_do_not_wrap() {
        assert_eq!(HostOffset::new(u64::MAX).checked_add(1), None);
        assert_eq!(HostOffset::new(u64::MAX).saturating_add(1), HostOffset::new(u64::MAX));
    }
}
