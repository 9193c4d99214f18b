//! L2 tables that no L1 entry leads to, with the evidence that makes them more than leaked clusters:
//! they are made like tables, and what they point to is counted once more than it is referenced.

use super::context::{Context, Extent};
use super::finding::Source;
use super::refcount_map::RefcountMap;
use super::stored::StoredCounts;
use crate::format::feature::autoclear;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index, L2Index};

/// An L1 entry, by its table.
pub type Slot = (Source, L1Index);

/// An L2 table that no L1 entry leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Where it lies.
    pub table: HostOffset,
    /// How many of its entries point to something.
    pub entries: u64,
    /// The first and the last of them.
    pub mapped: (L2Index, L2Index),
    /// Whether its cluster is counted once, so that the entry that leads to it has COPIED.
    pub alone: bool,
    /// The L1 entries that can own it, the first ones.
    pub slots: Vec<Slot>,
    /// How many more there are.
    pub more_slots: u64,
    /// How many other orphans can have one of these slots.
    pub rivals: u64,
    /// Whether a guest can read through one of the slots, though what it reads belongs elsewhere.
    pub readable: bool,
    /// Whether it and other orphans lead to a cluster more often than that is counted.
    pub contradicted: bool,
}

impl Orphan {
    /// The only L1 entry that can own it, where it can own nothing else and nothing speaks against it.
    pub fn owner(&self) -> Option<Slot> {
        let alone = self.more_slots == 0 && self.rivals == 0 && !self.contradicted;
        match self.slots[..] {
            [slot] if alone => Some(slot),
            _ => None,
        }
    }
}

/// What a cluster that is made like an L2 table holds.
#[derive(Debug, Default)]
pub struct Shape {
    /// Entries that point to something.
    pub entries: u64,
    /// The first and the last of them.
    pub mapped: (L2Index, L2Index),
    /// The clusters that they point to.
    pub clusters: Vec<(HostCluster, ClusterCount)>,
    /// Whether an entry has COPIED, as only the active disk's have for sure.
    pub copied: bool,
    /// Whether a data cluster with a count of 1 lacks COPIED, as only snapshots' do.
    pub only_snapshot: bool,
    /// The L1 index that the offsets in a raw data file tell.
    pub index: Option<L1Index>,
}

/// Which references to what a table points to make it likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Every cluster is counted once more than it is referenced.
    Unreferenced,
    /// Every cluster is counted: others were read out of the same table, at a wrong place.
    Counted,
}

impl Shape {
    /// Whether the first bytes of a cluster could be those of a table.
    pub fn begins_like(ctx: &Context, bytes: &[u8]) -> bool {
        let mut shape = Self::default();
        shape.take_all(ctx, bytes).is_some()
    }

    /// Reads a cluster as an L2 table; `None` where an entry could not be one, where none points to
    /// anything, or where the counts speak against it.
    pub fn of(
        ctx: &Context,
        counts: &StoredCounts,
        bytes: &[u8],
        evidence: Evidence,
    ) -> Option<Self> {
        let mut shape = Self::default();
        shape.take_all(ctx, bytes)?;
        if shape.entries == 0 || (!ctx.area.header.has_data_file() && shape.clusters.is_empty()) {
            return None;
        }
        shape.is_evident(ctx, counts, evidence).then_some(())?;
        shape.only_snapshot = shape.only_snapshot
            && !shape.copied
            && shape.clusters.iter().all(|&(first, _)| counts.stored(first) == Some(1));
        Some(shape)
    }

    /// Whether the counts speak for the table. What leads to metadata is an L1 or refcount table of
    /// former times.
    fn is_evident(&self, ctx: &Context, counts: &StoredCounts, evidence: Evidence) -> bool {
        let own = RefcountMap::default();
        self.clusters.iter().for_each(|&(first, count)| own.add(first, count, 1));
        let counted = |cluster: HostCluster| {
            let stored = counts.evident(cluster).unwrap_or(0);
            match evidence {
                Evidence::Unreferenced => stored == ctx.map.get(cluster) + own.get(cluster),
                Evidence::Counted => stored > 0,
            }
        };
        self.clusters.iter().all(|&(first, count)| {
            ctx.regions.touching(first..first + count).all(|region| region.told)
                && (0..count.get()).all(|n| counted(first + ClusterCount::new(n)))
        })
    }

    fn take_all(&mut self, ctx: &Context, bytes: &[u8]) -> Option<()> {
        for (index, entry) in (0u32..).zip(bytes.chunks_exact(ctx.geometry.l2_entry_bytes())) {
            if entry.iter().any(|&byte| byte != 0) {
                self.take(ctx, L2Index::new(index), L2Entry::decode(entry))?;
            }
        }
        Some(())
    }

    fn take(&mut self, ctx: &Context, index: L2Index, entry: L2Entry) -> Option<()> {
        let (geometry, data_file) = (&ctx.geometry, ctx.area.header.has_data_file());
        let sound = !entry.has_reserved_bits(geometry)
            && !entry.has_conflicting_subclusters()
            && !(entry.is_compressed() && (entry.copied() || data_file || entry.bitmap != 0));
        if !sound {
            return None;
        }
        let bytes = geometry.cluster_bytes();
        match entry.meaning(geometry, data_file) {
            Meaning::Unallocated if entry.allocated() != 0 => return None,
            Meaning::Unallocated | Meaning::Zero => {
                return (entry.bits & !1 == 0).then_some(());
            }
            Meaning::Data(at) | Meaning::ZeroAllocated(at) if data_file => {
                self.in_data_file(ctx, index, at)?;
            }
            Meaning::Data(at) | Meaning::ZeroAllocated(at) => {
                let cluster = geometry.cluster_exact(at)?;
                if Extent::of(geometry, ctx.file_bytes, at, bytes).is_beyond() {
                    return None;
                }
                self.point(cluster, ClusterCount::new(1));
                self.copied |= entry.copied();
                self.only_snapshot |= !entry.copied();
            }
            Meaning::Compressed(extent) => {
                let clusters = Extent::of(geometry, ctx.file_bytes, extent.offset, extent.bytes);
                if clusters.is_beyond() || extent.offset.get() < bytes {
                    return None;
                }
                self.point(clusters.first, clusters.count);
            }
        }
        if self.entries == 0 {
            self.mapped.0 = index;
        }
        self.mapped.1 = index;
        self.entries += 1;
        Some(())
    }

    fn point(&mut self, first: HostCluster, count: ClusterCount) {
        match self.clusters.last_mut() {
            Some((run, length)) if *run + *length == first => *length += count,
            _ => self.clusters.push((first, count)),
        }
    }

    /// In a raw data file the offset tells the guest's: all entries must tell the same L1 index.
    fn in_data_file(&mut self, ctx: &Context, l2: L2Index, at: HostOffset) -> Option<()> {
        let geometry = &ctx.geometry;
        geometry.cluster_exact(at)?;
        if ctx.area.header.autoclear & autoclear::DATA_FILE_RAW == 0 {
            return Some(());
        }
        let inside = geometry.guest_offset(L1Index::new(0), l2).get();
        let start = at.get().checked_sub(inside)?;
        if start % geometry.bytes_per_l2_table() != 0 {
            return None;
        }
        let index = L1Index::new(u32::try_from(start / geometry.bytes_per_l2_table()).ok()?);
        (self.index.replace(index).is_none_or(|before| before == index)).then_some(())
    }
}
