//! The clusters that a pointer refers to, those in the file and those past its end.

use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset};

/// The clusters that a pointer refers to, as far as the file has them.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The first cluster.
    pub first: HostCluster,
    /// How many are in the file: the last one may be past its end by less than a cluster.
    pub count: ClusterCount,
    /// How many are past its end, where the range goes past it by a cluster or more. QEMU then
    /// counts none of the range; here the part inside the file counts as used.
    pub outside: ClusterCount,
}

impl Extent {
    /// The clusters that `bytes` bytes at `offset` touch in a file of `file_bytes`.
    pub fn of(geometry: &Geometry, file_bytes: u64, offset: HostOffset, bytes: u64) -> Self {
        let (first, count) = geometry.span(offset, bytes);
        let over = offset.get().saturating_add(bytes).saturating_sub(file_bytes);
        let none = ClusterCount::new(0);
        if bytes == 0 || over < geometry.cluster_bytes() {
            return Self { first, count, outside: none };
        }
        let in_file = geometry.clusters_for(file_bytes).get().saturating_sub(first.get());
        let inside = count.get().min(in_file);
        let outside = ClusterCount::new(count.get() - inside);
        Self { first, count: ClusterCount::new(inside), outside }
    }

    /// Whether the range goes past the end by a cluster or more.
    pub const fn is_beyond(&self) -> bool {
        self.outside.get() > 0
    }
}
