//! The counts as they are stored, or as they will be after a repair.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::refcount_map::RefcountMap;
use super::refcounts::Refcounts;
use crate::check::options::Assume;
use crate::format::refcount::get_refcount;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, ReftableIndex};
use crate::storage::ReadAt;

/// Blocks kept in memory at most, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Looks counts up.
pub struct StoredCounts<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    map: Arc<RefcountMap>,
    refcounts: &'a Refcounts,
    /// Blocks that differ from the references, in order; all others are known without reading.
    differing: &'a [ReftableIndex],
    assume: Assume,
    /// References that tables would make that no L1 entry points to; a repair keeps refcounts for
    /// them.
    claims: Arc<RefcountMap>,
    /// References past the end of the file, where a repair rebuilds all blocks: it gives refcounts
    /// to them.
    beyond: Arc<RefcountMap>,
    /// Counts that are too high stay, since references may be hidden.
    held: bool,
    /// From this cluster on stored refcounts stay: they are past the end of the file.
    kept_from: Option<HostCluster>,
    /// Clusters whose refcounts cannot be relied on, in order.
    uncounted: &'a [Range<HostCluster>],
    cache: Mutex<HashMap<ReftableIndex, Arc<Vec<u8>>>>,
    unread: Mutex<BTreeMap<ReftableIndex, (HostOffset, String)>>,
}

impl<'a> StoredCounts<'a> {
    /// Counts of an image whose `differing` blocks are known.
    pub fn new(
        source: &'a dyn ReadAt,
        geometry: Geometry,
        map: Arc<RefcountMap>,
        refcounts: &'a Refcounts,
        (differing, uncounted): (&'a [ReftableIndex], &'a [Range<HostCluster>]),
        assume: Assume,
    ) -> Self {
        let (held, cache, unread) = (false, Mutex::default(), Mutex::default());
        let (claims, beyond) = (Arc::default(), Arc::default());
        Self {
            source,
            geometry,
            map,
            refcounts,
            differing,
            assume,
            claims,
            beyond,
            held,
            kept_from: None,
            uncounted,
            cache,
            unread,
        }
    }

    /// From here on, these references count too under every assumption.
    pub fn claim(&mut self, claims: Arc<RefcountMap>, beyond: Arc<RefcountMap>) {
        self.claims = claims;
        self.beyond = beyond;
    }

    /// From here on, counts that are too high stay as they are under every assumption.
    pub const fn hold(&mut self) {
        self.held = true;
    }

    /// From here on, the refcounts of clusters from this one on stay as they are under every
    /// assumption.
    pub const fn keep_from(&mut self, first: HostCluster) {
        self.kept_from = Some(first);
    }

    /// The refcount of a cluster under the assumption; `None` where it cannot be read, or where a
    /// repaired one would be more than can be counted.
    pub fn get(&self, cluster: HostCluster) -> Option<u64> {
        let references = || {
            let counts = [&self.map, &self.claims, &self.beyond].map(|map| map.get(cluster));
            counts.into_iter().fold(0, u64::saturating_add)
        };
        let kept = self.kept_from.is_some_and(|first| cluster >= first);
        match (self.assume, self.held || kept) {
            (Assume::AllRepaired, held) => {
                let mended = Some(references()).filter(|&n| n <= self.geometry.refcount_max())?;
                let stored = if held { self.stored(cluster) } else { None };
                Some(stored.map_or(mended, |stored| stored.max(mended)))
            }
            (Assume::LeaksRepaired, false) => {
                self.stored(cluster).map(|count| count.min(references()))
            }
            (Assume::LeaksRepaired, true) | (Assume::Stored, _) => self.stored(cluster),
        }
    }

    /// Whether the refcounts are those after a repair.
    pub fn is_assumption(&self) -> bool {
        self.assume != Assume::Stored
    }

    /// Whether every refcount is taken to be what the references require; `too_low`: whether a
    /// stored one is lower than that.
    pub fn assumes_references(&self, too_low: bool) -> bool {
        match self.assume {
            _ if self.held || self.kept_from.is_some() || self.claims.last().is_some() => false,
            Assume::AllRepaired => true,
            Assume::LeaksRepaired => !too_low,
            Assume::Stored => false,
        }
    }

    /// Whether each of these clusters has as many references as [`Self::get`] returns, known
    /// without reading.
    pub fn is_as_referenced(&self, first: HostCluster, count: ClusterCount) -> bool {
        let adds = self.claims.last().is_some() || self.beyond.last().is_some();
        if count.get() == 0
            || self.refcounts.unreadable
            || adds && self.assume == Assume::AllRepaired
        {
            return false;
        }
        let (low, _) = self.geometry.refcount_place(first);
        let (high, _) = self.geometry.refcount_place(first + ClusterCount::new(count.get() - 1));
        (low.get()..=high.get()).map(ReftableIndex::new).all(|index| {
            let block = self.refcounts.block(index);
            let is_there = block.is_some_and(|block| {
                block.offset.get() != 0 && self.geometry.is_aligned(block.offset)
            });
            is_there && self.differing.binary_search(&index).is_err()
        })
    }

    /// The refcount of a cluster as stored in the file; `None` where it cannot be read.
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
        let bytes = self.load(index, block.offset)?;
        Some(get_refcount(&bytes, self.geometry.refcount_order(), entry.get() as usize))
    }

    /// Whether the comparison reported nothing about these clusters.
    pub fn is_equal(&self, first: HostCluster, count: ClusterCount) -> bool {
        let max = self.geometry.refcount_max();
        (0..count.get()).all(|n| {
            let cluster = first + ClusterCount::new(n);
            let references = self.map.get(cluster);
            references <= max && self.stored(cluster) == Some(references)
        })
    }

    /// The refcount of a cluster where it can be relied on.
    pub fn evident(&self, cluster: HostCluster) -> Option<u64> {
        if is_within(self.uncounted, cluster) {
            return None;
        }
        let (index, _) = self.geometry.refcount_place(cluster);
        self.refcounts.block(index).filter(|block| block.sound)?;
        self.stored(cluster)
    }

    /// The blocks that could not be read when a refcount was looked up, though they could before.
    pub fn into_unread(self) -> BTreeMap<ReftableIndex, (HostOffset, String)> {
        self.unread.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, index: ReftableIndex, offset: HostOffset) -> Option<Arc<Vec<u8>>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(&index) {
            return Some(Arc::clone(bytes));
        }
        let mut bytes = vec![0; self.geometry.cluster_len()];
        if let Err(error) = self.source.read_padded_at(offset.get(), &mut bytes) {
            let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
            unread.insert(index, (offset, error.to_string()));
            return None;
        }
        if (cache.len() + 1) * bytes.len() > CACHE_BYTES {
            cache.clear();
        }
        let bytes = Arc::new(bytes);
        cache.insert(index, Arc::clone(&bytes));
        Some(bytes)
    }
}

/// Whether one of these ranges, which are in order, contains a cluster.
pub fn is_within(ranges: &[Range<HostCluster>], cluster: HostCluster) -> bool {
    let after = ranges.partition_point(|range| range.end <= cluster);
    ranges.get(after).is_some_and(|range| range.start <= cluster)
}
