//! Which structure owns which metadata cluster: overlaps are found with it, and a repair refuses to
//! write where something else is.

use std::ops::Range;

use crate::check::report::{RegionKind, Source};
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
    /// How many pointers refer to it: more than one where snapshots share an L2 table.
    pub pointers: u64,
    /// Whether the pointer is reported as wrong already.
    pub told: bool,
}

impl Region {
    /// The cluster after its last one.
    pub fn end(&self) -> HostCluster {
        self.first + self.count
    }
}

/// A region in 16 bytes: an image has one for each L2 table, refcount block and cluster of a
/// bitmap.
#[derive(Debug, Clone, Copy)]
struct Packed {
    /// The first cluster; from bit [`TAG_SHIFT`] on the kind, and [`TOLD`]. In a file no cluster
    /// has a larger number.
    first: u64,
    count: u32,
    /// Of an L2 table, how many pointers there are to it; of other kinds, which one it is: they
    /// have one pointer.
    detail: u32,
}

const TAG_SHIFT: u32 = 56;
const TOLD: u64 = 1 << 63;
const TAG_BITS: u64 = 0xF;
const L2_TABLE: u64 = 3;

impl Packed {
    fn new(region: &Region) -> Self {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let (tag, detail) = match region.kind {
            RegionKind::Header => (0, 0),
            RegionKind::L1Table(Source::Active) => (1, 0),
            RegionKind::L1Table(Source::Snapshot(index)) => (2, index),
            RegionKind::L2Table => (L2_TABLE, narrow(region.pointers)),
            RegionKind::SnapshotTable => (4, 0),
            RegionKind::Reftable => (5, 0),
            RegionKind::Refblock => (6, 0),
            RegionKind::CryptoHeader => (7, 0),
            RegionKind::BitmapDirectory => (8, 0),
            RegionKind::BitmapTable(index) => (9, index),
            RegionKind::BitmapData(index) => (10, index),
        };
        debug_assert!(region.first.get() >> TAG_SHIFT == 0, "a cluster of a file");
        let told = if region.told { TOLD } else { 0 };
        let first = region.first.get() | tag << TAG_SHIFT | told;
        Self { first, count: narrow(region.count.get()), detail }
    }

    fn first(self) -> HostCluster {
        HostCluster::new(self.first & ((1 << TAG_SHIFT) - 1))
    }

    const fn tag(self) -> u64 {
        self.first >> TAG_SHIFT & TAG_BITS
    }

    const fn told(self) -> bool {
        self.first & TOLD != 0
    }

    fn count(self) -> ClusterCount {
        ClusterCount::new(u64::from(self.count))
    }

    fn end(self) -> HostCluster {
        self.first() + self.count()
    }

    fn pointers(self) -> u64 {
        if self.tag() == L2_TABLE { u64::from(self.detail) } else { 1 }
    }

    fn region(self) -> Region {
        let kind = match self.tag() {
            0 => RegionKind::Header,
            1 => RegionKind::L1Table(Source::Active),
            2 => RegionKind::L1Table(Source::Snapshot(self.detail)),
            L2_TABLE => RegionKind::L2Table,
            4 => RegionKind::SnapshotTable,
            5 => RegionKind::Reftable,
            6 => RegionKind::Refblock,
            7 => RegionKind::CryptoHeader,
            8 => RegionKind::BitmapDirectory,
            9 => RegionKind::BitmapTable(self.detail),
            _ => RegionKind::BitmapData(self.detail),
        };
        let (first, count) = (self.first(), self.count());
        Region { first, count, kind, pointers: self.pointers(), told: self.told() }
    }
}

/// All metadata of an image.
#[derive(Debug, Default)]
pub struct RegionMap {
    regions: Vec<Packed>,
    longest: ClusterCount,
}

impl RegionMap {
    /// Adds a structure. Nothing may be asked before [`Self::finish`].
    pub fn add(&mut self, region: &Region) {
        if region.count.get() > 0 {
            self.regions.push(Packed::new(region));
        }
    }

    /// Makes space for so many more structures.
    pub fn reserve(&mut self, more: usize) {
        self.regions.reserve(more);
    }

    /// Sorts the structures and joins those that several pointers refer to.
    pub fn finish(&mut self) {
        let which = |r: &Packed| if r.tag() == L2_TABLE { 0 } else { r.detail };
        self.regions.sort_unstable_by_key(|r| (r.first(), r.count, r.tag(), which(r)));
        self.regions.dedup_by(|later, kept| {
            let is_table = later.tag() == L2_TABLE && kept.tag() == L2_TABLE;
            let same = is_table && (later.first(), later.count) == (kept.first(), kept.count);
            if same {
                kept.detail = kept.detail.saturating_add(later.detail);
            }
            same
        });
        self.longest = self.regions.iter().map(|r| r.count()).max().unwrap_or_default();
    }

    /// The structures by first cluster.
    pub fn iter(&self) -> impl Iterator<Item = Region> + '_ {
        self.regions.iter().map(|r| r.region())
    }

    /// How many pointers refer to the structure that begins at this cluster, without those that are
    /// reported as wrong; 0 where none does.
    pub fn pointers(&self, first: HostCluster) -> u64 {
        let from = self.regions.partition_point(|r| r.first() < first);
        let here = self.regions[from..].iter().take_while(|r| r.first() == first);
        here.filter(|r| !r.told()).map(|r| r.pointers()).sum()
    }

    /// How many L1 entries, without those that are reported as wrong, point to a table in this
    /// cluster.
    pub fn l2_pointers(&self, first: HostCluster) -> u64 {
        let from = self.regions.partition_point(|r| r.first() < first);
        let here = self.regions[from..].iter().take_while(|r| r.first() == first);
        here.filter(|r| !r.told() && r.tag() == L2_TABLE).map(|r| r.pointers()).sum()
    }

    /// How many pointers that are reported as wrong claim this cluster.
    pub fn wrong_claims(&self, cluster: HostCluster) -> u64 {
        let claims = self.touching(cluster..cluster.next());
        claims.filter(|r| r.told).map(|r| r.pointers).sum()
    }

    /// The structures that own a cluster of this range, the last one first.
    pub fn touching(&self, range: Range<HostCluster>) -> impl Iterator<Item = Region> + '_ {
        // Regions are in order of their first cluster; a long one may begin far before the range,
        // so those that can reach it are looked at, nearest first.
        let end = self.regions.partition_point(|r| r.first() < range.end);
        let near = self.regions[..end].iter().rev();
        let near = near.take_while(move |r| r.first() + self.longest >= range.start);
        near.filter(move |r| r.end() > range.start).map(|r| r.region())
    }

    /// A structure that owns a cluster of this range, other than the one at `not` in
    /// [`Self::iter`].
    pub fn overlapping(&self, range: Range<HostCluster>, not: usize) -> Option<Region> {
        let end = self.regions.partition_point(|r| r.first() < range.end);
        let near = self.regions[..end].iter().enumerate().rev();
        let mut near = near.take_while(|(_, r)| r.first() + self.longest >= range.start);
        let found = near.find(|(i, r)| *i != not && r.end() > range.start);
        found.map(|(_, r)| r.region())
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
        map.add(&region(5, 1, RegionKind::L2Table));
        map.add(&region(2, 3, RegionKind::Reftable));
        map.add(&region(5, 1, RegionKind::L2Table));
        map.finish();
        let all: Vec<_> = map.iter().map(|r| (r.first.get(), r.pointers)).collect();
        assert_eq!(all, [(2, 1), (5, 2)]);
    }

    #[test]
    fn an_overlap_with_a_region_that_begins_before_is_found() {
        let mut map = RegionMap::default();
        map.add(&region(2, 4, RegionKind::Reftable));
        map.add(&region(5, 1, RegionKind::L2Table));
        map.finish();
        let range = HostCluster::new(5)..HostCluster::new(6);
        assert_eq!(map.overlapping(range, 1).map(|r| r.kind), Some(RegionKind::Reftable));
        let range = HostCluster::new(6)..HostCluster::new(9);
        assert_eq!(map.overlapping(range, usize::MAX), None);
    }

    #[test]
    fn every_kind_comes_back_as_it_was_added() {
        let kinds = [
            RegionKind::Header,
            RegionKind::L1Table(Source::Active),
            RegionKind::L1Table(Source::Snapshot(0)),
            RegionKind::L1Table(Source::Snapshot(65_535)),
            RegionKind::L2Table,
            RegionKind::SnapshotTable,
            RegionKind::Reftable,
            RegionKind::Refblock,
            RegionKind::CryptoHeader,
            RegionKind::BitmapDirectory,
            RegionKind::BitmapTable(7),
            RegionKind::BitmapData(65_534),
        ];
        let mut map = RegionMap::default();
        let all = kinds.into_iter().zip(0u64..);
        let all: Vec<_> =
            all.map(|(kind, n)| Region { told: n % 2 == 1, ..region(n, 1, kind) }).collect();
        all.iter().rev().for_each(|region| map.add(region));
        map.finish();
        assert_eq!(map.iter().collect::<Vec<_>>(), all);
    }
}
