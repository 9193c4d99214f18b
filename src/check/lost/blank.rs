//! Blank metadata beside leaked clusters that hold data: the entries that pointed to the data may
//! have been lost.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::check::passes::compare::Compared;
use crate::check::passes::snapshots;
use crate::check::report::{Finding, Kind, Place, RegionKind, Source};
use crate::check::survey::context::{Context, MAX_LOOKED_AT};
use crate::check::survey::mapping::{Mapping, Table};
use crate::check::survey::stored::StoredCounts;
use crate::check::survey::visits::Visit;
use crate::format::HostCluster;
use crate::format::l2::{L2Entry, SECTOR_BYTES};
use crate::format::snapshot::SnapshotEntry;
use crate::storage::{RangeSet, is_zero};
use crate::tables::SnapshotTable;

/// L2 tables whose sectors are looked at, at most.
const MAX_TABLES: usize = 1 << 14;

/// Reports blank tables where leaked clusters hold data.
pub fn run(
    ctx: &Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    compared: &Compared,
    found: &mut Vec<Finding>,
) {
    uncounted_snapshots(ctx, counts, found);
    let leaked = leaked(ctx, compared);
    let clusters = with_data(ctx, &leaked);
    if clusters == 0 {
        return;
    }
    let blank = |what, place| Finding::new(Kind::BlankTable { what, clusters }, place);
    for table in mapping.tables.iter().filter(|table| table.blank) {
        if let Some(visit) = visit_in_disk(ctx, mapping, table) {
            found.push(blank("L2 table", Place::L1(visit.source, visit.index)));
        }
    }
    for source in blank_l1_tables(ctx, mapping) {
        found.push(blank("L1 table", Place::L1Table(source)));
    }
    if has_unsized_l1_table(ctx, &leaked) {
        found.push(blank("size of the L1 table", Place::L1Table(Source::Active)));
    }
    for index in blank_bitmaps(ctx) {
        found.push(blank("bitmap table", Place::Bitmap(index)));
    }
    if let Some(visit) = blank_sector(ctx, mapping, &leaked) {
        found.push(blank("part of the L2 table", Place::L1(visit.source, visit.index)));
    }
}

/// The clusters that nothing references, and that are counted or of which no refcount is left.
fn leaked(ctx: &Context, compared: &Compared) -> RangeSet {
    let mut ranges = compared.uncounted.clone();
    for finding in ctx.found.findings() {
        if let (Kind::Count { referenced: 0, .. }, Place::Clusters(first, count)) =
            (&finding.kind, finding.place)
        {
            ranges.push(first..first + count);
        }
    }
    let mut found = RangeSet::default();
    for run in ranges.into_iter().flat_map(|range| ctx.map.unreferenced(range)) {
        found.insert(run.start.get()..run.end.get());
    }
    found
}

/// How many of these clusters hold data, of a bounded number.
fn with_data(ctx: &Context, leaked: &RangeSet) -> u64 {
    let runs = leaked.iter().map(|run| HostCluster::new(run.start)..HostCluster::new(run.end));
    let clusters = runs.flat_map(|run| ctx.data_clusters(run)).take(MAX_LOOKED_AT);
    clusters.filter(|&cluster| ctx.has_data(cluster)).count() as u64
}

/// L1 entries that a disk needs, without those of VM state.
pub fn needed(ctx: &Context, source: Source) -> u64 {
    let size = ctx.geometry.virtual_size();
    let size = match source {
        Source::Active => size,
        Source::Snapshot(index) => {
            let entry = ctx.snapshots.entries.get(index as usize);
            entry.and_then(SnapshotEntry::disk_bytes).unwrap_or(size)
        }
    };
    ctx.geometry.l1_entries_for(size)
}

/// An L1 entry within a disk that points to a table. QEMU blanks the active disk's tables of VM
/// state once a snapshot has them.
fn visit_in_disk(ctx: &Context, mapping: &Mapping, table: &Table) -> Option<Visit> {
    let has_state = ctx.snapshots.entries.iter().any(|entry| entry.vm_state_bytes() > 0);
    let mut visits = mapping.visits_of(table).map(|(_, visit)| visit);
    visits.find(|visit| {
        let inside = u64::from(visit.index.get()) < needed(ctx, visit.source);
        inside || visit.source != Source::Active || !has_state
    })
}

/// The disks of which no L1 entry points to a table.
fn blank_l1_tables(ctx: &Context, mapping: &Mapping) -> Vec<Source> {
    let snapshots = snapshots::l1_tables(ctx).into_iter();
    let snapshots = snapshots.map(|(index, _, entries)| (Source::Snapshot(index), entries));
    let active = (Source::Active, u64::from(ctx.area.header.l1_entries));
    let with_tables: BTreeSet<Source> = mapping.visits.iter().map(|v| v.source).collect();
    let all = std::iter::once(active).chain(snapshots);
    let blank = all.filter(|&(source, entries)| {
        entries > 0 && needed(ctx, source) > 0 && !with_tables.contains(&source)
    });
    blank.map(|(source, _)| source).collect()
}

/// Whether the header has a pointer to an L1 table, but no entries of it, and the table is there.
fn has_unsized_l1_table(ctx: &Context, leaked: &RangeSet) -> bool {
    let at = ctx.area.header.l1_table;
    let cluster = ctx.geometry.cluster_exact(at).filter(|_| ctx.area.header.l1_entries == 0);
    cluster.is_some_and(|cluster| {
        leaked.covers(&(cluster.get()..cluster.get() + 1)) && ctx.has_data(cluster)
    })
}

/// Bitmaps whose tables point to no data.
fn blank_bitmaps(ctx: &Context) -> BTreeSet<u32> {
    let mut blank = BTreeSet::new();
    for region in ctx.regions.iter() {
        if let RegionKind::BitmapTable(index) = region.kind {
            blank.insert(index);
        }
    }
    for region in ctx.regions.iter() {
        if let RegionKind::BitmapData(index) = region.kind {
            blank.remove(&index);
        }
    }
    blank
}

/// Entries of an L2 table in a sector.
const fn per_sector(ctx: &Context) -> u64 {
    SECTOR_BYTES / ctx.geometry.l2_entry_bytes() as u64
}

/// A table with a sector that is blank where the leaked clusters fill the gap: a lost write of a
/// sector does this.
fn blank_sector(ctx: &Context, mapping: &Mapping, leaked: &RangeSet) -> Option<Visit> {
    if leaked.total() < per_sector(ctx) || ctx.area.header.has_data_file() {
        return None;
    }
    let mut bytes = vec![0; ctx.geometry.cluster_len()];
    for table in mapping.usable_tables(&ctx.geometry).take(MAX_TABLES) {
        if ctx.source.peek_at(table.offset.get(), &mut bytes).is_ok()
            && has_blank_sector(ctx, &bytes, leaked)
        {
            return visit_in_disk(ctx, mapping, table);
        }
    }
    None
}

fn has_blank_sector(ctx: &Context, table: &[u8], leaked: &RangeSet) -> bool {
    let sectors: Vec<&[u8]> = table.chunks_exact(512).collect();
    let is_blank = |n: usize| sectors.get(n).is_some_and(|s| is_zero(s));
    let width = ctx.geometry.l2_entry_bytes();
    let host = |entry: &[u8]| L2Entry::decode(entry).host_cluster(&ctx.geometry);
    let count = per_sector(ctx);
    let all_leaked = |first: u64| leaked.covers(&(first..first + count));
    // As many clusters as a sector has entries.
    let whole = leaked.total() % count == 0;
    let written = |mut range: Range<usize>| range.any(|n| !is_blank(n));
    let blank: Vec<usize> = (0..sectors.len()).filter(|&n| is_blank(n)).collect();
    blank.into_iter().any(|n| {
        let before = n.checked_sub(1).and_then(|n| host(&sectors[n][512 - width..]));
        let after = sectors.get(n + 1).and_then(|sector| host(&sector[..width]));
        let follows = before.is_some_and(|before| all_leaked(before.next().get()));
        let precedes =
            after.is_some_and(|after| after.get().checked_sub(count).is_some_and(all_leaked));
        let fills = match (before, after) {
            (Some(_), Some(_)) => follows && precedes,
            (Some(_), None) => follows && !written(n + 1..sectors.len()),
            (None, Some(_)) => precedes && !written(0..n),
            (None, None) => false,
        };
        fills || (whole && written(0..n) && written(n + 1..sectors.len()))
    })
}

/// An entry of the snapshot table after the last one that the header counts.
fn uncounted_snapshots(ctx: &Context, counts: &StoredCounts, found: &mut Vec<Finding>) {
    let (table, count) = (ctx.area.header.snapshot_table, ctx.area.header.snapshot_count);
    let Some(cluster) = ctx.geometry.cluster_exact(table).filter(|at| at.get() > 0) else { return };
    if table.get() >= ctx.file_bytes || ctx.snapshots.problem.is_some() {
        return;
    }
    let is_leaked =
        |at: HostCluster| counts.stored(at).is_some_and(|stored| stored > ctx.map.get(at));
    if count == 0 && counts.stored(cluster) == Some(0) {
        return; // The table of no snapshots is nowhere.
    }
    let more = SnapshotTable::load_known(ctx.source, table, count + 1);
    let Some(entry) = more.entries.get(count as usize) else { return };
    let l1 = entry.header.l1_table;
    let plausible =
        snapshots::is_text(&entry.id) && entry.header.l1_entries > 0 && l1.get() < ctx.file_bytes;
    let l1 = ctx.geometry.cluster_exact(l1).filter(|at| at.get() > 0 && plausible);
    if l1.is_some_and(is_leaked) {
        found.push(Finding::new(Kind::SnapshotsUncounted(count), Place::SnapshotTable));
    }
}
