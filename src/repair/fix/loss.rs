//! With leave, what cannot be repaired is dropped: entries that point nowhere. The positions they
//! mapped read as zeroes, or as the backing file has them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::{bitmap_directory, cross_links, lengths, snapshot_table};
use crate::check::affected::references::{self, Owner};
use crate::check::report::kind::tables::{
    BEYOND_END, CUT_OFF, L1_RESERVED_BITS, L2_TABLE_TWICE, L2_TABLE_UNALIGNED, OVERLAP,
};
use crate::check::survey::extent::Extent;
use crate::check::{Finding, Kind, Place, RegionKind, Row, Source, Survey, Visit};
use crate::error::{Error, Result};
use crate::format::geometry::SUBCLUSTERS;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::{L2Entry, Meaning, SECTOR_BYTES, ZERO};
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index, L2Index};
use crate::repair::plan::pointers::{self, Tables};
use crate::repair::plan::quarantine::Condemned;
use crate::repair::plan::room::Space;
use crate::repair::plan::step::{Entries, RepairPlan, StageKind, Step};
use crate::storage::{ReadAt, Storage};

/// Plans it: comes when nothing else is left to repair. What explains other damage goes first, and
/// the next check looks again.
pub fn plan(plan: &mut RepairPlan, space: &Space) -> Result<()> {
    let (storage, survey) = (space.storage, space.survey);
    let tables = Tables::of(survey);
    plan.stage(StageKind::Lengths, lengths::plan(&storage, survey)?);
    if plan.stages.is_empty() {
        plan.stage(StageKind::CutOff, cut_off(survey));
    }
    if plan.stages.is_empty() {
        let mut dropped = mistaken(&storage, survey)?;
        dropped.extend(pointing_nowhere(survey, &tables));
        let before = space.quarantine.condemned().iter().filter(|(_, (table, _))| table.get() > 0);
        dropped.extend(before.map(|(slot, why)| (*slot, *why)));
        dropped.retain(|_, (table, _)| nowhere(survey, *table).is_none());
        plan.stage(StageKind::DroppedL1, l1_entries(survey, &tables, &dropped));
    }
    if plan.stages.is_empty() {
        plan.stage(StageKind::DroppedL2, l2_entries(storage, survey, &tables)?);
    }
    if plan.stages.is_empty() {
        bitmap_directory::plan(plan, space)?;
    }
    if plan.stages.is_empty() {
        snapshot_table::plan(plan, space, true)?;
    }
    Ok(())
}

/// The rest of a table where the file ends within it: as QEMU reads it, nothing. A bitmap goes as a
/// whole.
fn cut_off(survey: &Survey) -> Vec<Step> {
    let missing = survey.report.findings.iter().filter_map(|finding| match finding.kind {
        Kind::CutOff { bytes, .. } if !matches!(finding.place, Place::Bitmap(_)) => Some(bytes),
        _ => None,
    });
    let missing = missing.max().and_then(|bytes| usize::try_from(bytes).ok());
    let offset = HostOffset::new(survey.file_bytes);
    let write =
        |bytes| Step::bytes(offset, vec![0; bytes], "what was cut off", vec![CUT_OFF.code]).lossy();
    missing.map(write).into_iter().collect()
}

/// The L1 entries that point nowhere, and those to a table in which most is damaged.
fn pointing_nowhere(survey: &Survey, tables: &Tables) -> Condemned {
    let mut dropped = Condemned::new();
    for finding in &survey.report.findings {
        if let Some((source, index)) = finding.entry_to_nowhere() {
            let table = tables.get(source, index).unwrap_or_default();
            dropped.insert((source, index), (table, finding.row()));
        }
        // A table in which most is damaged, or that is somebody's data too, must not be written:
        // its entry goes.
        let Place::L2(source, l1, _) = finding.place else { continue };
        let table = tables.get(source, l1).filter(|_| finding.row().is_entry);
        if let Some(table) = table.filter(|&table| !pointers::is_l2_table(survey, table)) {
            dropped.insert((source, l1), (table, finding.row()));
        }
    }
    dropped
}

/// Why no L2 table can be at this offset: the row of the finding about an L1 entry that points
/// there.
fn nowhere(survey: &Survey, table: HostOffset) -> Option<&'static Row> {
    let geometry = &survey.area.geometry;
    if Extent::of(geometry, survey.file_bytes, table, geometry.cluster_bytes()).is_beyond() {
        return Some(&BEYOND_END);
    }
    (!geometry.is_aligned(table)).then_some(&L2_TABLE_UNALIGNED)
}

/// Where an L1 entry is that may be dropped: in a snapshot's table nothing else may be there.
fn writable_entry(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    match source {
        Source::Active => pointers::disputed_l1_entry(survey, source, index),
        Source::Snapshot(_) => pointers::l1_entry(survey, source, index),
    }
}

/// The L1 entries that point to what is another structure for sure.
pub fn mistaken(source: &dyn ReadAt, survey: &Survey) -> Result<Condemned> {
    let mut over: HashSet<HostOffset> = HashSet::new();
    let mut looked_at = HashSet::new();
    for finding in &survey.report.findings {
        let (Kind::Overlap { .. }, Place::Clusters(first, count)) = (&finding.kind, finding.place)
        else {
            continue;
        };
        // Each of the structures there has its finding.
        if looked_at.insert(finding.place) {
            over.extend(mistaken_tables(source, survey, first..first + count)?);
        }
    }
    let visits = survey.visits.iter().filter(|visit| over.contains(&visit.entry.offset()));
    let entry = |visit: Visit| ((visit.source, visit.index), (visit.entry.offset(), &OVERLAP));
    Ok(visits.map(entry).collect())
}

/// What L1 entries take for L2 tables in these clusters, though it is another structure.
fn mistaken_tables(
    source: &dyn ReadAt,
    survey: &Survey,
    clusters: Range<HostCluster>,
) -> Result<Vec<HostOffset>> {
    let here: Vec<_> = survey.regions.touching(clusters).filter(|r| !r.told).collect();
    let is_table = |kind: RegionKind| kind == RegionKind::L2Table;
    // What may be wrong itself, where the L2 table can be one.
    let doubtful = |kind: RegionKind| {
        matches!(
            kind,
            RegionKind::L1Table(Source::Snapshot(_))
                | RegionKind::BitmapDirectory
                | RegionKind::BitmapTable(_)
                | RegionKind::BitmapData(_)
        )
    };
    let others = || here.iter().filter(|region| !is_table(region.kind));
    if others().next().is_none() {
        return Ok(Vec::new());
    }
    let mut mistaken = Vec::new();
    for table in here.iter().filter(|region| is_table(region.kind)) {
        let offset = survey.area.geometry.offset_of(table.first);
        if !others().all(|region| doubtful(region.kind)) || !can_be_l2(source, survey, offset)? {
            mistaken.push(offset);
        }
    }
    Ok(mistaken)
}

/// Whether a table maps data that no other structure is in.
fn can_be_l2(source: &dyn ReadAt, survey: &Survey, table: HostOffset) -> Result<bool> {
    let geometry = &survey.area.geometry;
    if survey.garbage.contains(&table) || !geometry.is_aligned(table) {
        return Ok(false);
    }
    let mut bytes = vec![0; geometry.cluster_len()];
    let failed = |e| Error::io("read an L2 table", table.get(), e);
    source.read_padded_at(table.get(), &mut bytes).map_err(failed)?;
    let entries = bytes.chunks_exact(geometry.l2_entry_bytes()).map(L2Entry::decode);
    let data: Vec<HostCluster> = entries
        .filter_map(|entry| match entry.meaning(geometry, false) {
            Meaning::Data(at) | Meaning::ZeroAllocated(at) => geometry.cluster_exact(at),
            Meaning::Compressed(extent) => Some(geometry.cluster_floor(extent.offset)),
            Meaning::Unallocated | Meaning::Zero => None,
        })
        .collect();
    let is_data = |&at: &HostCluster| survey.regions.touching(at..at.next()).next().is_none();
    Ok(!data.is_empty() && data.iter().all(is_data))
}

/// What is left of the entries that are dropped: of one through which a table can be read, all but
/// its reserved bits. Those that point where no table can be are dropped whether or not their
/// findings are kept.
fn l1_entries(survey: &Survey, tables: &Tables, dropped: &Condemned) -> Vec<Step> {
    let what = ["an L1 entry that points nowhere", "L1 entries that point nowhere"];
    let mut entries = Entries::new(what);
    for (&(source, index), &(table, row)) in dropped {
        let Some(at) = writable_entry(survey, source, index) else { continue };
        // Another one by now.
        if tables.get(source, index).unwrap_or_default() != table {
            continue;
        }
        let readable = row == &L1_RESERVED_BITS && pointers::is_l2_table(survey, table);
        let left = if readable { L1Entry::new(table, false).0 } else { 0 };
        entries.push(at, left, row.code);
    }
    for Visit { source, index, entry } in &survey.visits {
        let Some(row) = nowhere(survey, entry.offset()) else { continue };
        if let Some(at) = writable_entry(survey, source, index) {
            entries.push(at, 0, row.code);
        }
    }
    entries.into_lossy_steps()
}

/// The entries with something wrong, each with all that is wrong with it.
fn l2_entries(storage: &dyn Storage, survey: &Survey, tables: &Tables) -> Result<Vec<Step>> {
    let mut found: HashMap<HostOffset, (L1Index, L2Index, Vec<&Finding>)> = HashMap::new();
    for finding in survey.report.findings.iter().filter(|f| f.row().is_entry) {
        let Place::L2(source, l1, l2) = finding.place else { continue };
        let Some(table) = tables.get(source, l1) else { continue };
        if pointers::is_l2_table(survey, table) {
            let at = pointers::l2_entry(survey, table, l2);
            found.entry(at).or_insert_with(|| (l1, l2, Vec::new())).2.push(finding);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_unstable_by_key(|(at, _)| *at);
    let mut steps = Vec::new();
    for (at, (l1, l2, wrong)) in found {
        let entry = pointers::read_l2_entry(&storage, survey, at)?;
        let kinds: Vec<&Kind> = wrong.iter().map(|finding| &finding.kind).collect();
        let fixes = wrong.iter().map(|finding| finding.code()).collect();
        let left = what_is_left(survey, entry, (l1, l2), &kinds);
        let bytes = left.encode(&survey.area.geometry);
        steps.push(Step::bytes(at, bytes, "what is left of an L2 entry", fixes).lossy());
    }
    Ok(steps)
}

/// Entries that need a copy of their cluster where none can be made, as there is no free space, too
/// many are needed or the data is encrypted: those of clusters that are metadata, and all but the
/// first of L2 tables at several positions and of clusters with more references than can be
/// counted.
pub fn without_copies(source: &dyn ReadAt, survey: &Survey) -> Vec<Step> {
    let what = ["an L1 entry of a shared L2 table", "L1 entries of a shared L2 table"];
    let mut entries = Entries::new(what);
    for Visit { source, index, .. } in cross_links::other_entries(survey) {
        if let Some(at) = writable_entry(survey, source, index) {
            entries.push(at, 0, L2_TABLE_TWICE.code);
        }
    }
    let mut steps = entries.into_lossy_steps();
    steps.extend(data_without_copies(source, survey));
    steps
}

/// The L2 entries among them.
fn data_without_copies(source: &dyn ReadAt, survey: &Survey) -> Vec<Step> {
    let (mut metadata, mut uncounted) = (HashSet::new(), HashSet::new());
    for finding in &survey.report.findings {
        let Place::Clusters(first, count) = finding.place else { continue };
        let clusters = (0..count.get().min(1 << 16)).map(|n| first + ClusterCount::new(n));
        match finding.kind {
            Kind::Overlap { other: None, .. } => metadata.extend(clusters),
            Kind::Overflow { .. } => uncounted.extend(clusters),
            _ => {}
        }
    }
    let owners = references::find(source, survey, &metadata.union(&uncounted).copied().collect());
    let mut kept: HashSet<HostCluster> = HashSet::new();
    let bytes = nothing(survey).encode(&survey.area.geometry);
    let drop = |owner: &Owner| {
        let mut clusters = (0..owner.count.get()).map(|n| owner.first + ClusterCount::new(n));
        let goes = clusters
            .any(|at| metadata.contains(&at) || uncounted.contains(&at) && !kept.insert(at));
        let writable = pointers::is_l2_table_under_data(survey, owner.table);
        let offset = pointers::l2_entry(survey, owner.table, owner.index);
        let what = "an L2 entry of a cluster that cannot be copied";
        (goes && writable)
            .then(|| Step::bytes(offset, bytes.clone(), what, vec![OVERLAP.code]).lossy())
    };
    owners.iter().filter_map(drop).collect()
}

/// The entry with as much of its mapping as makes sense: what can be read through it stays.
fn what_is_left(
    survey: &Survey,
    entry: L2Entry,
    (l1, l2): (L1Index, L2Index),
    kinds: &[&Kind],
) -> L2Entry {
    let geometry = &survey.area.geometry;
    let readable = kinds.iter().all(|kind| {
        matches!(
            kind,
            Kind::L2Reserved(_)
                | Kind::L2ZeroReserved(_)
                | Kind::L2ZeroInVersion2(_)
                | Kind::CompressedCopied { .. }
                | Kind::CompressedWithBitmap(_)
        )
    });
    match kinds {
        // What is allocated is there: it reads as data.
        [Kind::SubclusterConflict(_)] => {
            L2Entry { bitmap: entry.bitmap & !(entry.allocated() << 32), ..entry }
        }
        [Kind::SubclustersWithoutCluster] => {
            L2Entry { bitmap: entry.bitmap & !L2Entry::ALLOCATED_SUBCLUSTERS, ..entry }
        }
        [Kind::DataFileOffset(_)] => {
            entry.moved(geometry, HostOffset::new(geometry.guest_offset(l1, l2).get()))
        }
        _ if readable && entry.is_compressed() => L2Entry { bits: entry.bits & !COPIED, bitmap: 0 },
        _ if readable => {
            let has_zero_flag = !geometry.extended_l2() && survey.area.header.version >= 3;
            let zero = if has_zero_flag { 0 } else { ZERO };
            L2Entry { bits: entry.bits & !(L2Entry::RESERVED | zero), ..entry }
        }
        [Kind::BeyondEnd { .. }] if entry.is_compressed() => shortened(survey, entry),
        // Subclusters that are not allocated have not lost anything.
        _ if geometry.extended_l2() && !entry.is_compressed() && reads_as_zeroes(survey) => {
            L2Entry { bits: 0, bitmap: (entry.zero() | entry.allocated()) << SUBCLUSTERS }
        }
        _ => nothing(survey),
    }
}

/// A compressed entry whose extent ends with the file: its data may end before.
fn shortened(survey: &Survey, entry: L2Entry) -> L2Entry {
    let geometry = &survey.area.geometry;
    let extent = entry.compressed_extent(geometry);
    let end = survey.file_bytes.next_multiple_of(SECTOR_BYTES);
    if extent.offset.get() >= survey.file_bytes {
        return nothing(survey);
    }
    let start = extent.offset.get() / SECTOR_BYTES * SECTOR_BYTES;
    let additional = ((end - start) / SECTOR_BYTES).saturating_sub(1);
    entry.with_sectors(geometry, additional)
}

/// An entry without a cluster. Over a backing file it reads as zeroes where the format allows that:
/// what the backing file has there is older than what was lost.
fn nothing(survey: &Survey) -> L2Entry {
    match reads_as_zeroes(survey) {
        true => L2Entry::all_zero(&survey.area.geometry),
        false => L2Entry::standard(0),
    }
}

fn reads_as_zeroes(survey: &Survey) -> bool {
    survey.area.header.version >= 3 && survey.area.backing_name.is_some()
}
