//! The iterative search for free space for new refcount blocks and a new refcount table.
//!
//! Placing a structure makes refcounts non-zero, which can need another block, which needs space in
//! turn; and the table must be long enough for all. Everything happens in an overlay over the
//! counts: nothing is written here, so a start from the beginning with a longer table costs
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::check::survey::refcount_map::RefcountMap;
use crate::error::{Error, Result};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::refcount::MAX_REFTABLE_BYTES;
use crate::format::{ClusterCount, Geometry, HostCluster, ReftableIndex};
use crate::storage::Capacity;

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// First cluster of the refcount table.
    pub table: HostCluster,
    /// Length of the refcount table.
    pub table_clusters: ClusterCount,
    /// The blocks by what they describe.
    pub blocks: Vec<(ReftableIndex, HostCluster)>,
    /// First of the extra clusters that were requested.
    pub extra: HostCluster,
    /// All clusters that are taken, in no order.
    pub taken: Vec<(HostCluster, ClusterCount)>,
}

/// Runs of clusters that are in use or taken, joined where they touch.
#[derive(Debug, Clone, Default)]
struct Busy(BTreeMap<HostCluster, HostCluster>);

impl Busy {
    fn add(&mut self, mut range: Range<HostCluster>) {
        while let Some(other) = self.touching(&range) {
            self.0.remove(&other.start);
            range = range.start.min(other.start)..range.end.max(other.end);
        }
        self.0.insert(range.start, range.end);
    }

    /// A run that overlaps the range or borders on it.
    fn touching(&self, range: &Range<HostCluster>) -> Option<Range<HostCluster>> {
        let (&start, &end) = self.0.range(..=range.end).next_back()?;
        (end >= range.start).then_some(start..end)
    }

    /// Where a run ends that overlaps the range.
    fn end_of_overlap(&self, range: &Range<HostCluster>) -> Option<HostCluster> {
        let (_, &end) = self.0.range(..range.end).next_back()?;
        (end > range.start).then_some(end)
    }
}

/// Where something may be placed.
pub struct Free<'a> {
    /// How far the file may grow.
    pub capacity: Capacity,
    /// The length of the file in bytes.
    pub file_bytes: u64,
    /// Whether a cluster that nothing references may be overwritten.
    pub is_free: &'a dyn Fn(HostCluster) -> Result<bool>,
}

impl Free<'_> {
    /// No cluster from here on can be used: a file can grow, a device ends with its last whole
    /// cluster.
    pub fn end(&self, geometry: &Geometry) -> HostCluster {
        match self.capacity {
            Capacity::Growable => HostCluster::new(u64::MAX >> geometry.cluster_bits()),
            Capacity::Fixed(bytes) => HostCluster::new(bytes >> geometry.cluster_bits()),
        }
    }

    /// The first run of this length that is neither counted nor overlaps, and may be overwritten;
    /// `None` where `is_past` holds that the search has come to its end. `overlap` returns where to
    /// go on; `tries` counts what may not be overwritten.
    pub fn first_run(
        &self,
        (geometry, counts): (&Geometry, &RefcountMap),
        (from, count): (HostCluster, ClusterCount),
        tries: &mut usize,
        is_past: impl Fn(&Range<HostCluster>) -> bool,
        overlap: impl Fn(&Range<HostCluster>) -> Option<HostCluster>,
    ) -> Result<Option<HostCluster>> {
        let mut at = from;
        loop {
            at = counts.next_free(at);
            let run = at..at + count;
            if is_past(&run) {
                return Ok(None);
            }
            let used = || counts.last_used_in(run.clone()).map(HostCluster::next);
            at = match overlap(&run).or_else(used) {
                Some(after) => after,
                None => match self.taken_in(run)? {
                    None => return Ok(Some(at)),
                    Some(taken) => {
                        *tries += 1;
                        self.after(geometry, taken, *tries)
                    }
                },
            };
        }
    }

    /// The first cluster of a run that may not be overwritten.
    fn taken_in(&self, run: Range<HostCluster>) -> Result<Option<HostCluster>> {
        let mut at = run.start;
        while at < run.end {
            if !(self.is_free)(at)? {
                return Ok(Some(at));
            }
            at = at.next();
        }
        Ok(None)
    }

    /// Where to go on after so many clusters that may not be overwritten: in a file that can grow,
    /// at its end.
    fn after(&self, geometry: &Geometry, taken: HostCluster, tries: usize) -> HostCluster {
        let end = HostCluster::new(geometry.clusters_for(self.file_bytes).get());
        match self.capacity {
            Capacity::Growable if tries > MAX_TRIES => taken.next().max(end),
            _ => taken.next(),
        }
    }
}

/// Clusters with other content that are looked at before the file grows instead.
const MAX_TRIES: usize = 1024;

/// Clusters that nothing uses, lowest first.
struct FreeRoom<'a> {
    geometry: &'a Geometry,
    counts: &'a RefcountMap,
    /// Old structures, in use until the switch, and what was taken.
    busy: Busy,
    taken: Vec<(HostCluster, ClusterCount)>,
    free: &'a Free<'a>,
    /// There is no free single cluster before this one.
    from: HostCluster,
    /// Clusters that may not be overwritten, so far.
    tries: usize,
}

impl FreeRoom<'_> {
    /// Takes the first run of this length.
    fn take(&mut self, count: ClusterCount, purpose: &str) -> Result<HostCluster> {
        let single = count.get() == 1;
        let from = if single { self.from } else { HostCluster::new(0) };
        let end = self.free.end(self.geometry);
        let found = self.free.first_run(
            (self.geometry, self.counts),
            (from, count),
            &mut self.tries,
            |run| run.end > end,
            |run| self.busy.end_of_overlap(run),
        )?;
        let at = found.ok_or_else(|| {
            let needed = self.geometry.bytes_of(count);
            Error::NoRoom { needed, purpose: purpose.to_owned() }
        })?;
        if single {
            self.from = at.next();
        }
        self.busy.add(at..at + count);
        self.taken.push((at, count));
        Ok(at)
    }
}

/// Finds places for a table and a block for every range that has a refcount other than 0, and for
/// `extra` clusters in one run. Free space inside the file comes first.
pub fn place(
    geometry: &Geometry,
    counts: &RefcountMap,
    avoid: Vec<Range<HostCluster>>,
    free: &Free,
    extra: ClusterCount,
) -> Result<Placement> {
    let mut busy = Busy::default();
    avoid.into_iter().for_each(|range| busy.add(range));
    let needed = counts.used_blocks(geometry);
    let entries_per_cluster = geometry.cluster_bytes() / TABLE_ENTRY_BYTES;
    let last = needed.last().map_or(0, |index| index.get());
    let mut table_clusters = ClusterCount::new(last / entries_per_cluster + 1);
    let limit = MAX_REFTABLE_BYTES.max(geometry.cluster_bytes());
    loop {
        if geometry.bytes_of(table_clusters) > limit {
            return Err(Error::NoRoom {
                needed: geometry.bytes_of(table_clusters),
                purpose: "a refcount table within QEMU's limit".into(),
            });
        }
        let (busy, from) = (busy.clone(), HostCluster::new(0));
        let room = FreeRoom { geometry, counts, busy, taken: Vec::new(), free, from, tries: 0 };
        let placement = try_place(room, &needed, table_clusters, extra)?;
        let last = placement.blocks.last().map_or(0, |(index, _)| index.get());
        let long_enough = last / entries_per_cluster + 1;
        if long_enough <= table_clusters.get() {
            return Ok(placement);
        }
        table_clusters = ClusterCount::new(long_enough);
    }
}

/// One attempt with a table of this length: blocks are placed until placing asks for no more.
fn try_place(
    mut room: FreeRoom,
    needed: &[ReftableIndex],
    table_clusters: ClusterCount,
    extra: ClusterCount,
) -> Result<Placement> {
    let geometry = room.geometry;
    let describing = |first: HostCluster, count: ClusterCount| {
        let (low, _) = geometry.refcount_place(first);
        let (high, _) = geometry.refcount_place(HostCluster::new((first + count).get() - 1));
        (low.get()..=high.get()).map(ReftableIndex::new)
    };
    let table = room.take(table_clusters, "the refcount table")?;
    let extra_at = if extra.get() > 0 { room.take(extra, "tables")? } else { HostCluster::new(0) };
    let mut waiting: BTreeSet<ReftableIndex> = needed.iter().copied().collect();
    for &(first, count) in &room.taken {
        waiting.extend(describing(first, count));
    }
    let mut blocks: BTreeMap<ReftableIndex, HostCluster> = BTreeMap::new();
    while let Some(index) = waiting.pop_first() {
        let one = ClusterCount::new(1);
        let cluster = room.take(one, "refcount blocks")?;
        blocks.insert(index, cluster);
        waiting.extend(describing(cluster, one).filter(|index| !blocks.contains_key(index)));
    }
    let blocks = blocks.into_iter().collect();
    Ok(Placement { table, table_clusters, blocks, extra: extra_at, taken: room.taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(9, 6, false, 0).unwrap() // 64 counts a block, 64 entries a table cluster
    }

    fn counts(runs: &[(u64, u64)]) -> RefcountMap {
        let map = RefcountMap::default();
        for &(first, count) in runs {
            map.add(HostCluster::new(first), ClusterCount::new(count), 1);
        }
        map
    }

    fn free(capacity: Capacity) -> Free<'static> {
        Free { capacity, file_bytes: 0, is_free: &|_| Ok(true) }
    }

    fn place_in(runs: &[(u64, u64)], capacity: Capacity) -> Result<Placement> {
        let none = ClusterCount::new(0);
        place(&geometry(), &counts(runs), Vec::new(), &free(capacity), none)
    }

    #[test]
    fn free_space_inside_the_file_comes_first() {
        let placement = place_in(&[(0, 10), (12, 40)], Capacity::Growable).unwrap();
        assert_eq!(placement.table, HostCluster::new(10));
        assert_eq!(placement.blocks, [(ReftableIndex::new(0), HostCluster::new(11))]);
    }

    #[test]
    fn every_block_that_placing_needs_is_placed_too() {
        // Cluster 0 to 63 full: table and blocks go after them, where they need blocks themselves.
        for full in [64, 64 * 63, 64 * 64 - 1, 64 * 64, 64 * 200] {
            let map = counts(&[(0, full)]);
            let placement = place_in(&[(0, full)], Capacity::Growable).unwrap();
            for &(first, count) in &placement.taken {
                assert!(map.is_unreferenced(first, count));
                map.add(first, count, 1);
            }
            let placed: Vec<_> = placement.blocks.iter().map(|b| b.0).collect();
            assert_eq!(placed, map.used_blocks(&geometry()), "{full} clusters");
            let last = placed.last().unwrap().get();
            assert!(last < placement.table_clusters.get() * 64);
            assert!(!map.has_shared());
        }
    }

    #[test]
    fn a_full_device_has_no_free_space() {
        let full = place_in(&[(0, 64)], Capacity::Fixed(64 * 512));
        assert!(matches!(full, Err(Error::NoRoom { .. })));
        let two_left = place_in(&[(0, 62)], Capacity::Fixed(64 * 512)).unwrap();
        assert_eq!(two_left.table, HostCluster::new(62));
    }

    #[test]
    fn what_is_to_be_avoided_is_avoided() {
        let avoid = vec![HostCluster::new(10)..HostCluster::new(20)];
        let none = ClusterCount::new(0);
        let placement =
            place(&geometry(), &counts(&[(0, 10)]), avoid, &free(Capacity::Growable), none)
                .unwrap();
        assert_eq!(placement.table, HostCluster::new(20));
    }
}
