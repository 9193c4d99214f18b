//! The in-memory refcount table: how often each cluster of the file is referenced.
//!
//! Pages of [`PAGE_CLUSTERS`] counts come into being when they are touched, and hold no more bits a
//! count than they need, so memory follows what is referenced: never a number in the header, never
//! a hole in the file. Several threads may count at once.

mod page;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::{ClusterCount, Geometry, HostCluster, ReftableIndex};
use page::{PAGE_BITS, PAGE_CLUSTERS, Page};

const SHARDS: usize = 64;

/// Page numbers are well spread by a multiplication; the standard hasher costs more than the count.
#[derive(Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

type Shard = HashMap<u64, Page, BuildHasherDefault<PageHasher>>;

/// Counts of references to clusters.
pub struct RefcountMap {
    shards: Vec<Mutex<Shard>>,
    shared: AtomicBool,
}

impl Default for RefcountMap {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shared: AtomicBool::new(false) }
    }
}

impl Clone for RefcountMap {
    fn clone(&self) -> Self {
        let copy =
            |s: &Mutex<Shard>| Mutex::new(s.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let shards = self.shards.iter().map(copy).collect();
        Self { shards, shared: AtomicBool::new(self.has_shared()) }
    }
}

impl fmt::Debug for RefcountMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefcountMap").field("ranges", &self.ranges()).finish_non_exhaustive()
    }
}

impl RefcountMap {
    fn shard(&self, page: u64) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of SHARDS")]
        let shard = (page % SHARDS as u64) as usize;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `times` references to each cluster of a run. Counts stop at 2^64 - 1.
    pub fn add(&self, first: HostCluster, count: ClusterCount, times: u64) {
        if times == 0 {
            return;
        }
        for_each_page(first, count, |page, range| {
            if self.shard(page).entry(page).or_default().add(range, times) {
                self.shared.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Adds all references of another map.
    pub fn add_all(&self, other: &Self) {
        for range in other.ranges() {
            other.for_each_run(range, |first, count, references| {
                self.add(first, count, references);
            });
        }
    }

    /// Whether a cluster was ever referenced twice.
    pub fn has_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Takes `times` references from each cluster of a run; no count falls under 0.
    pub fn take(&self, first: HostCluster, count: ClusterCount, times: u64) {
        for_each_page(first, count, |page, range| {
            if let Some(found) = self.shard(page).get_mut(&page) {
                found.take(range, times);
            }
        });
    }

    /// How often a cluster is referenced.
    pub fn get(&self, cluster: HostCluster) -> u64 {
        let (page, index) = split(cluster);
        self.shard(page).get(&page).map_or(0, |p| p.get(index))
    }

    /// Whether every cluster of a run is referenced exactly once.
    pub fn is_one(&self, first: HostCluster, count: ClusterCount) -> bool {
        let mut one = true;
        for_each_page(first, count, |page, range| {
            one = one && self.shard(page).get(&page).is_some_and(|p| p.is_one(range));
        });
        one
    }

    /// Calls `visit(first, count, references)` for each run of equal counts in a range of
    /// clusters, in order; runs that nothing references come as well.
    pub fn for_each_run(
        &self,
        range: Range<HostCluster>,
        mut visit: impl FnMut(HostCluster, ClusterCount, u64),
    ) {
        if range.start >= range.end {
            return;
        }
        let mut run: Option<(u64, u64, u64)> = None;
        let mut emit = |from: u64, to: u64, value: u64| match &mut run {
            Some((_, end, same)) if *same == value && *end == from => *end = to,
            _ => {
                if let Some((from, to, value)) = run.replace((from, to, value)) {
                    visit(HostCluster::new(from), ClusterCount::new(to - from), value);
                }
            }
        };
        for_each_page(range.start, range.end - range.start, |page, within| {
            let base = page << PAGE_BITS;
            match self.shard(page).get(&page) {
                None => emit(base + within.start as u64, base + within.end as u64, 0),
                Some(found) => found.for_each_run(within, |r, value| {
                    emit(base + r.start as u64, base + r.end as u64, value);
                }),
            }
        });
        if let Some((from, to, value)) = run {
            visit(HostCluster::new(from), ClusterCount::new(to - from), value);
        }
    }

    /// The parts of a range of clusters that nothing references, in order.
    pub fn unreferenced(&self, range: Range<HostCluster>) -> Vec<Range<HostCluster>> {
        let mut runs = Vec::new();
        self.for_each_run(range, |first, count, references| {
            if references == 0 {
                runs.push(first..first + count);
            }
        });
        runs
    }

    /// Whether nothing is referenced in a range of clusters.
    pub fn is_unreferenced(&self, first: HostCluster, count: ClusterCount) -> bool {
        let mut free = true;
        for_each_page(first, count, |page, range| {
            free = free && self.shard(page).get(&page).is_none_or(|p| p.is_zero(range));
        });
        free
    }

    /// Writes the refcount block that these counts ask for into `block`, a cluster long. Counts
    /// that do not fit into the width are written as the greatest that does; returns whether all
    /// fitted.
    pub fn encode_block(
        &self,
        index: ReftableIndex,
        geometry: &Geometry,
        block: &mut [u8],
    ) -> bool {
        let mut fits = true;
        let first = geometry.first_cluster_of_block(index);
        let count = ClusterCount::new(geometry.refblock_entries());
        let order = geometry.refcount_order();
        let mut at = 0;
        for_each_page(first, count, |page, range| {
            let bytes = range.len() << order >> 3;
            let out = &mut block[at..at + bytes];
            at += bytes;
            match self.shard(page).get(&page) {
                None => out.fill(0),
                Some(found) => fits &= found.encode(range, order, out),
            }
        });
        fits
    }

    /// How many clusters have a reference.
    pub fn in_use(&self) -> ClusterCount {
        let mut clusters = 0;
        if let Some(last) = self.last() {
            self.for_each_run(HostCluster::new(0)..last.next(), |_, count, references| {
                clusters += if references > 0 { count.get() } else { 0 };
            });
        }
        ClusterCount::new(clusters)
    }

    /// The first cluster that is referenced.
    pub fn first(&self) -> Option<HostCluster> {
        self.page_numbers().into_iter().find_map(|page| self.end_in(page, Page::first))
    }

    /// The last cluster that is referenced.
    pub fn last(&self) -> Option<HostCluster> {
        self.page_numbers().into_iter().rev().find_map(|page| self.end_in(page, Page::last))
    }

    fn end_in(&self, page: u64, end: fn(&Page) -> Option<usize>) -> Option<HostCluster> {
        let index = self.shard(page).get(&page).and_then(end)?;
        Some(HostCluster::new((page << PAGE_BITS) + index as u64))
    }

    /// The last cluster of a range that is referenced.
    pub fn last_used_in(&self, range: Range<HostCluster>) -> Option<HostCluster> {
        let mut last = None;
        self.for_each_run(range, |first, count, references| {
            if references > 0 {
                last = Some(HostCluster::new((first + count).get() - 1));
            }
        });
        last
    }

    /// The first cluster from `from` on that nothing references.
    pub fn next_free(&self, from: HostCluster) -> HostCluster {
        let (mut page, mut index) = split(from);
        loop {
            let free = match self.shard(page).get(&page) {
                None => Some(index),
                Some(found) => found.next_zero(index),
            };
            if let Some(free) = free {
                return HostCluster::new((page << PAGE_BITS) + free as u64);
            }
            (page, index) = (page + 1, 0);
        }
    }

    /// The refcount blocks that have a count other than 0, in order.
    pub fn used_blocks(&self, geometry: &Geometry) -> Vec<ReftableIndex> {
        let entries = ClusterCount::new(geometry.refblock_entries());
        let mut used = Vec::new();
        for range in self.ranges() {
            let (mut index, _) = geometry.refcount_place(range.start);
            loop {
                let first = geometry.first_cluster_of_block(index);
                if first >= range.end {
                    break;
                }
                if used.last() != Some(&index) && !self.is_unreferenced(first, entries) {
                    used.push(index);
                }
                index = ReftableIndex::new(index.get() + 1);
            }
        }
        used
    }

    /// The ranges of clusters that hold all references, in order, a page or more each.
    pub fn ranges(&self) -> Vec<Range<HostCluster>> {
        let mut ranges: Vec<Range<HostCluster>> = Vec::new();
        for page in self.page_numbers() {
            let start = HostCluster::new(page << PAGE_BITS);
            let end = start + ClusterCount::new(PAGE_CLUSTERS as u64);
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        ranges
    }

    fn page_numbers(&self) -> Vec<u64> {
        let mut pages: Vec<u64> = self
            .shards
            .iter()
            .flat_map(|s| {
                s.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect::<Vec<_>>()
            })
            .collect();
        pages.sort_unstable();
        pages
    }
}

const fn split(cluster: HostCluster) -> (u64, usize) {
    #[expect(clippy::cast_possible_truncation, reason = "a position inside a page")]
    let index = (cluster.get() & (PAGE_CLUSTERS as u64 - 1)) as usize;
    (cluster.get() >> PAGE_BITS, index)
}

/// Calls `visit(page, positions in it)` for the pages that a run of clusters touches.
fn for_each_page(
    first: HostCluster,
    count: ClusterCount,
    mut visit: impl FnMut(u64, Range<usize>),
) {
    let mut at = first;
    let mut left = count.get();
    while left > 0 {
        let (page, index) = split(at);
        let here = left.min((PAGE_CLUSTERS - index) as u64);
        #[expect(clippy::cast_possible_truncation, reason = "at most a page")]
        visit(page, index..index + here as usize);
        at = at + ClusterCount::new(here);
        left -= here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::refcount::{get_refcount, set_refcount};

    fn c(n: u64) -> HostCluster {
        HostCluster::new(n)
    }
    fn n(n: u64) -> ClusterCount {
        ClusterCount::new(n)
    }

    #[test]
    fn runs_across_pages_count_each_cluster() {
        let map = RefcountMap::default();
        map.add(c(32_000), n(2000), 1);
        map.add(c(32_760), n(10), 3);
        assert_eq!(map.get(c(31_999)), 0);
        assert_eq!(map.get(c(32_000)), 1);
        assert_eq!(map.get(c(32_769)), 4);
        assert_eq!(map.last(), Some(c(33_999)));
        assert!(map.is_one(c(32_000), n(760)));
        assert!(!map.is_one(c(32_000), n(761)));
        let mut runs = Vec::new();
        map.for_each_run(c(0)..c(40_000), |f, c, v| runs.push((f.get(), c.get(), v)));
        let want = [
            (0, 32_000, 0),
            (32_000, 760, 1),
            (32_760, 10, 4),
            (32_770, 1230, 1),
            (34_000, 6000, 0),
        ];
        assert_eq!(runs, want);
    }

    #[test]
    fn counts_agree_with_a_plain_table_under_any_sequence() {
        let map = RefcountMap::default();
        let mut plain = vec![0u64; 70_000];
        let mut seed = 1u64;
        for step in 0..4000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let first = (seed >> 33) % 60_000;
            let count = if step % 7 == 0 { (seed >> 20) % 9000 } else { (seed >> 20) % 3 };
            let times = [1, 1, 1, 2, 9, 300, 70_000][(seed >> 50) as usize % 7];
            if step % 11 == 10 {
                map.take(c(first), n(count), times);
                for v in &mut plain[first as usize..(first + count) as usize] {
                    *v = v.saturating_sub(times);
                }
            } else {
                map.add(c(first), n(count), times);
                for v in &mut plain[first as usize..(first + count) as usize] {
                    *v += times;
                }
            }
        }
        for (i, &v) in plain.iter().enumerate() {
            assert_eq!(map.get(c(i as u64)), v, "cluster {i}");
        }
        for order in 0..=6 {
            let geometry = Geometry::new(12, order, false, 0).unwrap();
            let entries = geometry.refblock_entries() as usize;
            let max = geometry.refcount_max();
            for block in 0..2 {
                let mut got = vec![0; 4096];
                let mut want = vec![0; 4096];
                let fits = map.encode_block(ReftableIndex::new(block as u64), &geometry, &mut got);
                let mut all_fit = true;
                for i in 0..entries {
                    let v = plain.get(block * entries + i).copied().unwrap_or(0);
                    all_fit &= v <= max;
                    set_refcount(&mut want, order, i, v.min(max));
                }
                assert_eq!(fits, all_fit, "order {order}");
                assert_eq!(got, want, "order {order}");
                assert_eq!(get_refcount(&got, order, 0), plain[block * entries].min(max));
            }
        }
    }

    #[test]
    fn far_apart_clusters_cost_little_memory() {
        let map = RefcountMap::default();
        map.add(c(1 << 54), n(1), 1);
        map.add(c(5), n(1), 1);
        assert_eq!(map.last(), Some(c(1 << 54)));
        assert_eq!(map.ranges().len(), 2);
    }
}
