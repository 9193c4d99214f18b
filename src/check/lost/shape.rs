//! Whether a cluster can be an L2 table: its entries are well formed, and what they point to is
//! counted or free as it would be for a table that lost its L1 entry. Some entries may be damaged:
//! a table can be lost and damaged.

use crate::check::survey::context::Context;
use crate::check::survey::extent::Extent;
use crate::check::survey::refcount_map::RefcountMap;
use crate::check::survey::stored::StoredCounts;
use crate::format::feature::incompatible;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index, L2Index};
use crate::sector::SECTOR_LEN;

/// What a cluster that is formed like an L2 table holds.
#[derive(Debug, Default)]
pub struct Shape {
    /// Entries that point to something.
    pub entries: u64,
    /// Entries that are not well formed, and clusters that the refcounts do not allow for.
    pub damaged: u64,
    /// Clusters past the end of the file that entries point to: these entries are damaged too.
    pub missing: Vec<(HostCluster, ClusterCount)>,
    /// Whether nothing that it points to is in the file: it is not reported as a table, but were
    /// the file longer, it would be one.
    pub is_hollow: bool,
    /// The first and the last of all.
    pub mapped: (L2Index, L2Index),
    /// Whether a sector is something else: at most one, as a lost write leaves it.
    lost_sector: bool,
    /// The clusters that they point to.
    pub clusters: Vec<(HostCluster, ClusterCount)>,
    /// Those that hold data that is not compressed, each time one is pointed to.
    plain: Vec<HostCluster>,
    /// How many of these have more than one entry here though no refcount allows for it.
    pub shared: u64,
    /// Whether an entry has COPIED, as offsets in a refcount table have not.
    pub copied: bool,
    /// The L1 index that offsets in an external data file give: each is the guest's own.
    pub index: Option<L1Index>,
}

/// The refcounts of what a lost table points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Every cluster has a refcount that this table explains, beside the references found.
    Unreferenced,
    /// Every cluster has a refcount: others were read out of the same table, at a wrong offset.
    Counted,
    /// There are no refcounts: nothing else refers to the clusters.
    Uncounted,
}

impl Shape {
    /// Whether the first bytes of a cluster can be those of a table.
    pub fn begins_like(ctx: &Context, bytes: &[u8]) -> bool {
        let mut shape = Self::default();
        shape.take_all(ctx, bytes).is_some()
    }

    /// Reads a cluster as an L2 table; `None` where none of its entries points to anything, or
    /// where over a third of those that do not point to free clusters or past the end of the file
    /// cannot be entries or contradict the refcounts. Where all point past the end it is hollow.
    pub fn of(
        ctx: &Context,
        counts: &StoredCounts,
        bytes: &[u8],
        evidence: Evidence,
    ) -> Option<Self> {
        let mut shape = Self::default();
        shape.take_all(ctx, bytes)?;
        let header = &ctx.area.header;
        let points =
            !shape.clusters.is_empty() || header.has_data_file() || ctx.area.backing_name.is_some();
        // Refcounts that are known, and not from the same table, deny such entries by themselves.
        if evidence != Evidence::Unreferenced {
            shape.shared = shape.count_shared(counts);
        }
        let (denied, free) = shape.leave_out_denied(ctx, counts, evidence);
        let missing: u64 = shape.missing.iter().map(|(_, count)| count.get()).sum();
        let free = free + missing;
        shape.damaged += denied;
        let valid = shape.entries.saturating_sub(denied + free);
        let is_table = valid > 0 && shape.damaged <= (valid / 2).max(1);
        shape.damaged += free + u64::from(shape.lost_sector) + shape.shared;
        shape.is_hollow = valid == 0 && shape.damaged == missing && missing > 0;
        (points && is_table || shape.is_hollow).then_some(shape)
    }

    /// How many clusters of data that is not compressed have more than one entry here, beside those
    /// that the refcounts allow for.
    fn count_shared(&self, counts: &StoredCounts) -> u64 {
        let own = RefcountMap::default();
        self.clusters.iter().for_each(|&(first, count)| own.add(first, count, 1));
        let allowed = |cluster| counts.evident(cluster).unwrap_or(0).max(1);
        self.plain.iter().filter(|&&cluster| own.get(cluster) > allowed(cluster)).count() as u64
    }

    /// Leaves out clusters for which the refcounts do not allow, and returns how many these are:
    /// those that somebody else has, and those that are free. What points to metadata is an L1 or
    /// refcount table of former times.
    fn leave_out_denied(
        &mut self,
        ctx: &Context,
        counts: &StoredCounts,
        evidence: Evidence,
    ) -> (u64, u64) {
        let (own, mut denied, mut free) = (RefcountMap::default(), 0, 0);
        let one = ClusterCount::new(1);
        // Refcounts that a program keeps for later are 0 in the file.
        let is_dirty = ctx.area.header.has_incompatible(incompatible::DIRTY);
        let late = |cluster| is_dirty && ctx.map.get(cluster) + own.get(cluster) == 0;
        // Of entries that point to one cluster, as many are right as its refcount allows for.
        let allowed = |cluster: HostCluster| {
            let stored = counts.evident(cluster);
            let explained = ctx.map.get(cluster) + own.get(cluster) + 1;
            match evidence {
                Evidence::Unreferenced => {
                    stored.unwrap_or(0) >= explained || stored == Some(0) && late(cluster)
                }
                Evidence::Counted => stored.unwrap_or(0) > 0,
                Evidence::Uncounted => {
                    stored.map_or(ctx.map.get(cluster) == 0, |stored| stored >= explained)
                }
            }
        };
        let is_free = |first, count| ctx.regions.touching(first..first + count).all(|r| r.told);
        let runs = std::mem::take(&mut self.clusters);
        for (first, count) in runs {
            let all_free = is_free(first, count);
            for cluster in (0..count.get()).map(|n| first + ClusterCount::new(n)) {
                if (all_free || is_free(cluster, one)) && allowed(cluster) {
                    own.add(cluster, one, 1);
                    self.point(cluster, one);
                } else if ctx.map.get(cluster) == 0 && counts.evident(cluster) == Some(0) {
                    free += 1;
                } else {
                    denied += 1;
                }
            }
        }
        (denied, free)
    }

    fn take_all(&mut self, ctx: &Context, bytes: &[u8]) -> Option<()> {
        let sectors = bytes.chunks(SECTOR_LEN);
        let starts = (0..).step_by(SECTOR_LEN / ctx.geometry.l2_entry_bytes());
        let is_sole = bytes.len() <= SECTOR_LEN;
        for (sector, first) in sectors.zip(starts) {
            let mut part = Self { index: self.index, ..Self::default() };
            part.take_sector(ctx, sector, first);
            if part.is_foreign() && !self.lost_sector && !is_sole {
                self.lost_sector = true;
                continue;
            }
            self.append(part);
            if self.is_foreign() {
                return None;
            }
        }
        Some(())
    }

    fn take_sector(&mut self, ctx: &Context, bytes: &[u8], first: u32) {
        for (index, entry) in (first..).zip(bytes.chunks_exact(ctx.geometry.l2_entry_bytes())) {
            let is_blank = entry.iter().all(|&byte| byte == 0);
            if !is_blank && self.take(ctx, L2Index::new(index), L2Entry::decode(entry)).is_none() {
                self.damaged += 1;
            }
        }
    }

    /// Whether too many entries are not well formed.
    const fn is_foreign(&self) -> bool {
        self.damaged > 1 + self.entries / 2
    }

    /// Adds the entries of the next sector.
    fn append(&mut self, part: Self) {
        if part.entries > 0 {
            let first = if self.entries == 0 { part.mapped.0 } else { self.mapped.0 };
            self.mapped = (first, part.mapped.1);
        }
        self.entries += part.entries;
        self.damaged += part.damaged;
        self.copied |= part.copied;
        self.index = part.index;
        part.clusters.into_iter().for_each(|(first, count)| self.point(first, count));
        self.plain.extend(part.plain);
        part.missing.into_iter().for_each(|(first, count)| join(&mut self.missing, first, count));
    }

    fn take(&mut self, ctx: &Context, index: L2Index, entry: L2Entry) -> Option<()> {
        let (geometry, data_file) = (&ctx.geometry, ctx.area.header.has_data_file());
        let valid = !entry.has_reserved_bits(geometry)
            && !entry.has_conflicting_subclusters()
            && !(entry.is_compressed() && (entry.copied() || data_file || entry.bitmap != 0));
        if !valid {
            return None;
        }
        let bytes = geometry.cluster_bytes();
        match entry.meaning(geometry, data_file) {
            Meaning::Unallocated if entry.allocated() != 0 => return None,
            // Over a backing file, what reads as zeroes is content.
            Meaning::Zero if entry.bits & !1 == 0 && ctx.area.backing_name.is_some() => {}
            Meaning::Unallocated | Meaning::Zero => {
                return (entry.bits & !1 == 0).then_some(());
            }
            Meaning::Data(at) | Meaning::ZeroAllocated(at) if data_file => {
                self.in_data_file(ctx, index, at)?;
            }
            Meaning::Data(at) | Meaning::ZeroAllocated(at) => {
                let cluster = geometry.cluster_exact(at)?;
                if Extent::of(geometry, ctx.file_bytes, at, bytes).is_beyond() {
                    join(&mut self.missing, cluster, ClusterCount::new(1));
                } else {
                    self.point(cluster, ClusterCount::new(1));
                    self.plain.push(cluster);
                    self.copied |= entry.copied();
                }
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
        join(&mut self.clusters, first, count);
    }

    /// In an external data file the offset is the guest's own: all entries must give the same L1
    /// index.
    fn in_data_file(&mut self, ctx: &Context, l2: L2Index, at: HostOffset) -> Option<()> {
        let geometry = &ctx.geometry;
        geometry.cluster_exact(at)?;
        let inside = geometry.guest_offset(L1Index::new(0), l2).get();
        let start = at.get().checked_sub(inside)?;
        if start % geometry.bytes_per_l2_table() != 0 {
            return None;
        }
        let index = L1Index::new(u32::try_from(start / geometry.bytes_per_l2_table()).ok()?);
        (*self.index.get_or_insert(index) == index).then_some(())
    }
}

/// Adds a run of clusters, to the last one where it continues that.
fn join(runs: &mut Vec<(HostCluster, ClusterCount)>, first: HostCluster, count: ClusterCount) {
    match runs.last_mut() {
        Some((run, length)) if *run + *length == first => *length += count,
        _ => runs.push((first, count)),
    }
}
