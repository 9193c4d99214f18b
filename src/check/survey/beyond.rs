//! What pointers claim past the end of the file: never compared with the refcounts, but not free
//! space either.

use std::sync::Arc;

use super::extent::Extent;
use super::refcount_map::RefcountMap;
use crate::format::{Geometry, HostCluster};

/// How far past the end claims are kept, beside the file's own length once more, in clusters: far
/// enough for whatever a file may have lost or get, and no more memory than the file itself may ask
/// for.
const CLUSTERS: u64 = 1 << 21;

/// References to clusters past the end of the file, as far as they are kept.
#[derive(Debug)]
pub struct Beyond {
    references: Arc<RefcountMap>,
    /// Nothing from this cluster on is kept.
    end: HostCluster,
}

impl Beyond {
    /// None as yet, for a file of this length.
    pub fn new(geometry: &Geometry, file_bytes: u64) -> Self {
        let end =
            geometry.clusters_for(file_bytes).get().saturating_mul(2).saturating_add(CLUSTERS);
        Self { references: Arc::default(), end: HostCluster::new(end) }
    }

    /// Takes the part of an extent that is past the end.
    pub fn add(&self, extent: &Extent, times: u64) {
        let first = extent.first + extent.count;
        if extent.outside.get() > 0 && first < self.end {
            let kept = extent.outside.min(self.end - first);
            self.references.add(first, kept, times);
        }
    }

    /// The references.
    pub fn references(&self) -> Arc<RefcountMap> {
        Arc::clone(&self.references)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ClusterCount, HostOffset};

    #[test]
    fn what_is_past_the_end_is_kept_up_to_a_bound() {
        let geometry = Geometry::new(16, 4, false, 0).unwrap();
        let file_bytes = 10 << 16;
        let beyond = Beyond::new(&geometry, file_bytes);
        for (offset, bytes) in [(8 << 16, 5 << 16), (2 << 16, 1 << 16), (1 << 55, 1 << 16)] {
            let extent = Extent::of(&geometry, file_bytes, HostOffset::new(offset), bytes);
            beyond.add(&extent, 2);
        }
        let references = beyond.references();
        assert_eq!(references.first(), Some(HostCluster::new(10)));
        assert_eq!(references.last(), Some(HostCluster::new(12)));
        assert_eq!(references.get(HostCluster::new(12)), 2);
        let far = Extent {
            first: HostCluster::new(0),
            count: ClusterCount::new(10),
            outside: ClusterCount::new(u64::MAX >> 9),
        };
        let beyond = Beyond::new(&geometry, file_bytes);
        beyond.add(&far, 1);
        assert_eq!(beyond.references().last(), Some(HostCluster::new(20 + CLUSTERS - 1)));
    }
}
