//! Runs of clusters of the image file.

use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset};

/// Neighbouring clusters of the image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClusterRun {
    pub(crate) first: HostCluster,
    pub(crate) count: ClusterCount,
}

impl ClusterRun {
    /// `count` clusters from `first` on.
    pub(crate) const fn new(first: HostCluster, count: ClusterCount) -> Self {
        Self { first, count }
    }

    /// One cluster.
    pub(crate) const fn one(cluster: HostCluster) -> Self {
        Self::new(cluster, ClusterCount::new(1))
    }

    /// The clusters that a range of bytes touches.
    pub(crate) const fn of(geometry: &Geometry, at: HostOffset, bytes: u64) -> Self {
        let (first, count) = geometry.span(at, bytes);
        Self { first, count }
    }

    /// The cluster after the last.
    pub(crate) fn end(self) -> HostCluster {
        self.first + self.count
    }

    /// Whether there is no cluster.
    pub(crate) const fn is_empty(self) -> bool {
        self.count.get() == 0
    }

    /// The clusters of the run, one by one.
    pub(crate) fn clusters(self) -> impl Iterator<Item = HostCluster> {
        (0..self.count.get()).map(move |n| self.first + ClusterCount::new(n))
    }
}
