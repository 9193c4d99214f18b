//! Lengths of tables that are wrong: a table that is longer than what it is for needs, so that it
//! reaches into other structures, gets its right length, and so does one that is too short where
//! its clusters have the rest.

use std::collections::HashMap;

use crate::check::report::kind::bitmaps::BITMAP_ENTRY;
use crate::check::report::kind::tables::OVERLAP;
use crate::check::{Finding, Kind, Place, RegionKind, Source, Survey};
use crate::error::{Error, Result};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::HeaderField;
use crate::format::l1::MAX_L1_BYTES;
use crate::format::snapshot::SnapshotEntry;
use crate::format::{Geometry, HostOffset};
use crate::repair::plan::step::Step;
use crate::storage::ReadAt;
use crate::tables::BitmapDirectory;

/// Offset of the number of L1 entries in a snapshot table entry (specification, "Snapshots").
const SNAPSHOT_L1_ENTRIES: u64 = 8;
/// Offset of the number of table entries in a bitmap directory entry (specification, "Bitmaps
/// extension").
const BITMAP_TABLE_ENTRIES: u64 = 8;

/// Plans the right lengths.
pub fn plan(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    steps.extend(active(survey));
    steps.extend(snapshots(survey));
    steps.extend(bitmaps(source, survey)?);
    Ok(steps)
}

/// Whether a structure reaches into another one, or past the end of the file.
fn reaches_over(survey: &Survey, kind: RegionKind, place: Place) -> bool {
    let mut findings = survey.report.findings.iter();
    findings.any(|finding| match &finding.kind {
        Kind::Overlap { owner, other, .. } => *owner == kind || *other == Some(kind),
        Kind::BeyondEnd { .. } => finding.place == place,
        _ => false,
    })
}

/// The active L1 table with the entries that the disk needs.
fn active(survey: &Survey) -> Option<Step> {
    let (header, geometry) = (&survey.area.header, &survey.area.geometry);
    let needed = geometry.l1_entries_for(header.size).max(1);
    let kind = RegionKind::L1Table(Source::Active);
    let wrong = reaches_over(survey, kind, Place::L1Table(Source::Active));
    let fits = u64::from(header.l1_entries) > needed && is_in_file(survey, header.l1_table, needed);
    (wrong && fits).then(|| Step::field(HeaderField::L1Entries, needed))
}

fn is_in_file(survey: &Survey, table: HostOffset, entries: u64) -> bool {
    table.saturating_add(entries.saturating_mul(TABLE_ENTRY_BYTES)).get() <= survey.file_bytes
}

/// L1 entries that a snapshot needs, VM state included.
fn needed_by(geometry: &Geometry, entry: &SnapshotEntry, active_bytes: u64) -> u64 {
    let disk = entry.disk_bytes().unwrap_or(active_bytes);
    let disk =
        disk.div_ceil(geometry.bytes_per_l2_table()).saturating_mul(geometry.bytes_per_l2_table());
    geometry.l1_entries_for(disk.saturating_add(entry.vm_state_bytes())).max(1)
}

/// What was found of a snapshot.
#[derive(Default)]
struct Found<'a> {
    /// What is wrong with its entry in the snapshot table.
    wrong: Vec<&'a Finding>,
    /// Whether its L1 table reaches into another structure, or past the end of the file.
    over: bool,
}

/// What was found of each snapshot, by position.
fn found_by_snapshot(survey: &Survey) -> HashMap<u32, Found<'_>> {
    let mut all: HashMap<u32, Found> = HashMap::new();
    for finding in &survey.report.findings {
        if let Place::Snapshot(index) = finding.place {
            all.entry(index).or_default().wrong.push(finding);
        }
        let kinds = match (&finding.kind, finding.place) {
            (Kind::Overlap { owner, other, .. }, _) => [Some(*owner), *other],
            (Kind::BeyondEnd { .. }, Place::L1Table(table)) => {
                [Some(RegionKind::L1Table(table)), None]
            }
            _ => [None, None],
        };
        for kind in kinds.into_iter().flatten() {
            if let RegionKind::L1Table(Source::Snapshot(index)) = kind {
                all.entry(index).or_default().over = true;
            }
        }
    }
    all
}

/// The L1 tables of snapshots with the entries that their disks and VM state need.
fn snapshots(survey: &Survey) -> Vec<Step> {
    let geometry = &survey.area.geometry;
    let found = found_by_snapshot(survey);
    let mut steps = Vec::new();
    let mut at = survey.area.header.snapshot_table;
    for (index, entry) in (0u32..).zip(&survey.snapshots.entries) {
        let here = at;
        at = at.saturating_add(entry.header.entry_bytes().next_multiple_of(8));
        let Some(Found { wrong, over }) = found.get(&index) else { continue };
        let entries = u64::from(entry.header.l1_entries);
        let needed = needed_by(geometry, entry, survey.area.header.size);
        let too_large = wrong.iter().any(|f| matches!(f.kind, Kind::SnapshotL1TooLarge { .. }));
        let too_small = wrong.iter().any(|f| matches!(f.kind, Kind::SnapshotL1TooSmall { .. }));
        let bytes = |entries: u64| entries.saturating_mul(TABLE_ENTRY_BYTES);
        let clusters = |entries: u64| geometry.clusters_for(bytes(entries));
        let longer = entries > needed && (*over || too_large);
        let shorter = too_small && clusters(entries.max(1)) == clusters(needed);
        let valid = geometry.is_aligned(entry.header.l1_table)
            && entry.header.l1_table.get() > 0
            && bytes(needed) <= MAX_L1_BYTES
            && is_in_file(survey, entry.header.l1_table, needed);
        if valid && (longer || shorter) {
            let fixes =
                wrong.iter().map(|finding| finding.code()).chain(over.then_some(OVERLAP.code));
            let bytes = u32::try_from(needed).unwrap_or(u32::MAX).to_be_bytes().to_vec();
            let what = "the length of a snapshot's L1 table";
            let offset = here.saturating_add(SNAPSHOT_L1_ENTRIES);
            steps.push(Step::bytes(offset, bytes, what, fixes.collect()).lossy());
        }
    }
    steps
}

/// The tables of bitmaps with the entries that the disk needs.
fn bitmaps(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<Step>> {
    let geometry = &survey.area.geometry;
    let damaged = |f: &Finding| matches!(f.kind, Kind::BitmapEntry { .. });
    let Some(pointer) = survey.area.bitmaps() else { return Ok(Vec::new()) };
    if !survey.report.findings.iter().any(damaged) {
        return Ok(Vec::new());
    }
    let failed = |e| Error::io("read the bitmap directory", pointer.directory.get(), e);
    let directory = BitmapDirectory::load(source, &pointer).map_err(failed)?;
    let mut steps = Vec::new();
    let mut at = pointer.directory;
    for entry in &directory.entries {
        let here = at;
        at = at.saturating_add(entry.entry_bytes());
        let needed = entry.table_entries_for(geometry);
        let mut right = entry.clone();
        right.table_entries = u32::try_from(needed).unwrap_or(u32::MAX);
        let bytes = |entries: u32| u64::from(entries) * TABLE_ENTRY_BYTES;
        let clusters = |entries| geometry.clusters_for(bytes(entries));
        let same = clusters(entry.table_entries.max(1)) >= clusters(right.table_entries);
        if !entry.defects(geometry).is_empty() && right.defects(geometry).is_empty() && same {
            let offset = here.saturating_add(BITMAP_TABLE_ENTRIES);
            let what = "the length of a bitmap's table";
            let bytes = right.table_entries.to_be_bytes().to_vec();
            steps.push(Step::bytes(offset, bytes, what, vec![BITMAP_ENTRY.code]).lossy());
        }
    }
    Ok(steps)
}
