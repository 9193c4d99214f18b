//! The counts as they are stored, or as they will be after a repair.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::pass_refcounts::Refcounts;
use super::refcount_map::RefcountMap;
use crate::format::refcount::get_refcount;
use crate::format::{Geometry, HostCluster, ReftableIndex};
use crate::storage::ReadAt;

/// Blocks kept in memory at most, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Which counts to assume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Assume {
    /// Those in the file.
    #[default]
    Stored,
    /// Those in the file once counts that are too high are mended.
    LeaksMended,
    /// Those that the references ask for.
    AllMended,
}

/// Looks counts up.
pub struct StoredCounts<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    map: Arc<RefcountMap>,
    refcounts: &'a Refcounts,
    /// Blocks that differ from the references, in order; all others can be told without reading.
    differing: &'a [ReftableIndex],
    assume: Assume,
    cache: Mutex<HashMap<ReftableIndex, Arc<Vec<u8>>>>,
}

impl<'a> StoredCounts<'a> {
    /// Counts of an image whose `differing` blocks are known.
    pub fn new(
        source: &'a dyn ReadAt,
        geometry: Geometry,
        map: Arc<RefcountMap>,
        refcounts: &'a Refcounts,
        differing: &'a [ReftableIndex],
        assume: Assume,
    ) -> Self {
        Self { source, geometry, map, refcounts, differing, assume, cache: Mutex::default() }
    }

    /// The count of a cluster under the assumption; `None` where it cannot be read.
    pub fn get(&self, cluster: HostCluster) -> Option<u64> {
        let referenced = || self.map.get(cluster).min(self.geometry.refcount_max());
        match self.assume {
            Assume::AllMended => Some(referenced()),
            Assume::LeaksMended => self.stored(cluster).map(|count| count.min(referenced())),
            Assume::Stored => self.stored(cluster),
        }
    }

    /// Whether every count is taken to be what the references ask for.
    pub fn assumes_references(&self) -> bool {
        self.assume == Assume::AllMended
    }

    /// The count of a cluster as it stands in the file; `None` where it cannot be read.
    pub fn stored(&self, cluster: HostCluster) -> Option<u64> {
        if self.refcounts.unreadable {
            return None;
        }
        let (index, entry) = self.geometry.refcount_place(cluster);
        let Some(block) = self.refcounts.block(index) else { return Some(0) };
        if !self.geometry.is_aligned(block.offset) {
            return None;
        }
        if block.offset.get() == 0 {
            return Some(0);
        }
        if self.differing.binary_search(&index).is_err() {
            return Some(self.map.get(cluster));
        }
        let bytes = self.load(index, block.offset.get())?;
        Some(get_refcount(&bytes, self.geometry.refcount_order(), entry.get() as usize))
    }

    fn load(&self, index: ReftableIndex, offset: u64) -> Option<Arc<Vec<u8>>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(&index) {
            return Some(Arc::clone(bytes));
        }
        let mut bytes = vec![0; self.geometry.cluster_len()];
        self.source.read_padded_at(offset, &mut bytes).ok()?;
        if (cache.len() + 1) * bytes.len() > CACHE_BYTES {
            cache.clear();
        }
        let bytes = Arc::new(bytes);
        cache.insert(index, Arc::clone(&bytes));
        Some(bytes)
    }
}
