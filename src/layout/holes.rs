//! Which clusters of a file are holes.

use std::ops::Range;

use crate::format::{Geometry, HostCluster};
use crate::storage::ReadAt;

/// Asks a file for its holes, and remembers the last answer.
pub struct Holes<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    known: Range<HostCluster>,
    hole: bool,
}

impl<'a> Holes<'a> {
    /// Nothing is asked yet.
    pub fn new(source: &'a dyn ReadAt, geometry: Geometry) -> Self {
        let nowhere = HostCluster::new(0)..HostCluster::new(0);
        Self { source, geometry, known: nowhere, hole: false }
    }

    /// Whether a cluster is a hole, and the first one after it, up to `end`, that may differ.
    pub fn run_at(&mut self, cluster: HostCluster, end: HostCluster) -> (bool, HostCluster) {
        if !self.known.contains(&cluster) {
            self.ask(cluster, end);
        }
        (self.hole, self.known.end.min(end))
    }

    fn ask(&mut self, cluster: HostCluster, end: HostCluster) {
        let at = self.geometry.offset_of(cluster).get();
        let floor = |byte: u64| HostCluster::new(byte >> self.geometry.cluster_bits());
        let (hole, until) = match self.source.next_data(at) {
            Ok(None) => (true, end),
            Ok(Some(data)) if floor(data.start) > cluster => (true, floor(data.start)),
            Ok(Some(data)) => {
                let behind = self.geometry.clusters_for(data.end).get();
                (false, HostCluster::new(behind).max(cluster.next()))
            }
            Err(_) => (false, end),
        };
        (self.known, self.hole) = (cluster..until, hole);
    }
}
