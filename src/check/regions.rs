//! Which structure owns which metadata cluster: overlaps are found with it, and a repair refuses to
//! write where something lives.

use std::ops::Range;

use super::finding::RegionKind;
use crate::format::{ClusterCount, HostCluster};

/// A run of clusters that a metadata structure owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its first cluster.
    pub first: HostCluster,
    /// How many clusters, the last one perhaps in part.
    pub count: ClusterCount,
    /// What it is.
    pub kind: RegionKind,
    /// How many pointers lead to it: more than one where snapshots share an L2 table.
    pub pointers: u64,
    /// Whether the pointer is told to be wrong already.
    pub told: bool,
}

impl Region {
    /// The cluster behind its last one.
    pub fn end(&self) -> HostCluster {
        self.first + self.count
    }
}

/// All metadata of an image.
#[derive(Debug, Default)]
pub struct RegionMap {
    regions: Vec<Region>,
    longest: ClusterCount,
}

impl RegionMap {
    /// Adds a structure. Nothing may be asked before [`Self::finish`].
    pub fn add(&mut self, region: Region) {
        if region.count.get() > 0 {
            self.regions.push(region);
        }
    }

    /// Brings the structures into order and joins those that several pointers lead to.
    pub fn finish(&mut self) {
        self.regions.sort_unstable_by_key(|r| (r.first, r.count, r.kind));
        self.regions.dedup_by(|later, kept| {
            let same = later.kind == kept.kind
                && (later.first, later.count) == (kept.first, kept.count)
                && kept.kind == RegionKind::L2Table;
            if same {
                kept.pointers += later.pointers;
            }
            same
        });
        self.longest = self.regions.iter().map(|r| r.count).max().unwrap_or_default();
    }

    /// The structures by first cluster.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }

    /// How many pointers lead to the structure that begins at this cluster, without those that are
    /// told to be wrong; 0 where none does.
    pub fn pointers(&self, first: HostCluster) -> u64 {
        let from = self.regions.partition_point(|r| r.first < first);
        let here = self.regions[from..].iter().take_while(|r| r.first == first);
        here.filter(|r| !r.told).map(|r| r.pointers).sum()
    }

    /// How many pointers that are told to be wrong claim this cluster.
    pub fn wrong_claims(&self, cluster: HostCluster) -> u64 {
        let behind = self.regions.partition_point(|r| r.first <= cluster);
        let near = self.regions[..behind].iter().rev();
        let near = near.take_while(|r| r.first + self.longest > cluster);
        near.filter(|r| r.told && r.end() > cluster).map(|r| r.pointers).sum()
    }

    /// The structures that own a cluster of this range, the last one first.
    pub fn touching(&self, range: Range<HostCluster>) -> impl Iterator<Item = &Region> {
        let end = self.regions.partition_point(|r| r.first < range.end);
        let near = self.regions[..end].iter().rev();
        let near = near.take_while(move |r| r.first + self.longest >= range.start);
        near.filter(move |r| r.end() > range.start)
    }

    /// A structure that owns a cluster of this range, other than the one at `not` in [`Self::iter`].
    pub fn overlapping(&self, range: Range<HostCluster>, not: usize) -> Option<&Region> {
        // Regions are in order of their first cluster; a long one may begin far before the range,
        // so those that can reach it are looked at, nearest first.
        let end = self.regions.partition_point(|r| r.first < range.end);
        self.regions[..end]
            .iter()
            .enumerate()
            .rev()
            .take_while(|(_, r)| r.first + self.longest >= range.start)
            .find(|(i, r)| *i != not && r.end() > range.start)
            .map(|(_, r)| r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(first: u64, count: u64, kind: RegionKind) -> Region {
        Region {
            first: HostCluster::new(first),
            count: ClusterCount::new(count),
            kind,
            pointers: 1,
            told: false,
        }
    }

    #[test]
    fn a_table_with_several_pointers_is_one_region() {
        let mut map = RegionMap::default();
        map.add(region(5, 1, RegionKind::L2Table));
        map.add(region(2, 3, RegionKind::Reftable));
        map.add(region(5, 1, RegionKind::L2Table));
        map.finish();
        let all: Vec<_> = map.iter().map(|r| (r.first.get(), r.pointers)).collect();
        assert_eq!(all, [(2, 1), (5, 2)]);
    }

    #[test]
    fn an_overlap_with_a_region_that_begins_before_is_found() {
        let mut map = RegionMap::default();
        map.add(region(2, 4, RegionKind::Reftable));
        map.add(region(5, 1, RegionKind::L2Table));
        map.finish();
        let range = HostCluster::new(5)..HostCluster::new(6);
        assert_eq!(map.overlapping(range, 1).map(|r| r.kind), Some(RegionKind::Reftable));
        let range = HostCluster::new(6)..HostCluster::new(9);
        assert_eq!(map.overlapping(range, usize::MAX), None);
    }
}
