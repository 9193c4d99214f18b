//! A snapshot table within the limits and complete, written aside, then switched to.

use std::collections::HashSet;

use crate::check::{Finding, Kind, Place, RegionKind, Source, Survey};
use crate::error::{Error, Result};
use crate::format::HostOffset;
use crate::format::header::{HeaderField, encode_field};
use crate::format::snapshot::{SnapshotEntry, encode_table};
use crate::repair::plan::room::Space;
use crate::repair::plan::step::{RepairPlan, StageKind, Step, codes};
use crate::repair::plan::{pointers, rebuild};
use crate::storage::ReadAt;
use crate::tables::{SnapshotTable, SnapshotTableProblem};

/// Plans a new table where an entry has too much extra data, or too little for version 3, or
/// another one's id; and where that was allowed, one without the snapshots that cannot be read.
pub fn plan(plan: &mut RepairPlan, space: &Space, lossy: bool) -> Result<()> {
    let survey = space.survey;
    let bad = |k: &Kind| {
        let extra = matches!(k, Kind::SnapshotExtraTooLarge(_) | Kind::SnapshotIncomplete);
        extra || matches!(k, Kind::SnapshotIdTwice(_))
    };
    let lost = if lossy { unreadable(survey) } else { HashSet::new() };
    let broken = survey.snapshots.problem.is_some()
        || survey.report.findings.iter().any(|f| matches!(f.kind, Kind::SnapshotTableBroken(_)));
    // What was overwritten, or is another structure, is not written again as if it were a table.
    let overwritten = survey.report.findings.iter().any(|f| f.kind == Kind::SnapshotBlank);
    let is_another = pointers::is_shared(survey, survey.area.header.snapshot_table);
    if (overwritten || is_another) && !lossy {
        return Ok(());
    }
    let incomplete = survey.report.findings.iter().any(|f| bad(&f.kind));
    if (broken && !lossy) || !(broken || incomplete || !lost.is_empty()) {
        return Ok(());
    }
    let entries = entries(&space.storage, survey, &lost)?;
    let fixes = codes(&survey.report, |f| bad(&f.kind) || is_about_snapshots(f));
    if entries.is_empty() {
        let switch = switch(0, HostOffset::new(0), fixes).lossy();
        plan.stage(StageKind::NoSnapshots, vec![switch]);
        return Ok(());
    }
    // Extra data over QEMU's limit is cut off.
    let cut = survey.report.findings.iter();
    let cut = lossy || cut.clone().any(|f| matches!(f.kind, Kind::SnapshotExtraTooLarge(_)));
    let risk = |step: Step| if cut { step.lossy() } else { step };
    let geometry = survey.area.geometry;
    let table = encode_table(&entries);
    let clusters = geometry.clusters_for(table.len() as u64);
    let run = space.covered_run(&plan.target, clusters)?;
    let new = match run.filter(|_| !survey.too_low) {
        Some(first) => {
            plan.target_mut().add(first, clusters, 1);
            let steps = space.raise(first, clusters, &fixes);
            plan.stage(StageKind::SnapshotCounts, steps);
            first
        }
        None => {
            let (storage, quarantine) = (space.storage, space.quarantine);
            rebuild::plan(plan, storage, survey, quarantine, space.capacity, clusters)?
        }
    };
    let at = geometry.offset_of(new);
    let mut padded = table;
    padded.resize(geometry.cluster_len() * usize::try_from(clusters.get()).unwrap_or(0), 0);
    let step = Step::bytes(at, padded, "the snapshot table", fixes.clone());
    plan.stage(StageKind::SnapshotTable, vec![risk(step)]);
    let step = switch(entries.len() as u64, at, fixes);
    plan.stage(StageKind::SnapshotSwitch, vec![risk(step)]);
    vacate(space);
    Ok(())
}

/// The clusters of the old table are free once nothing points to them, and were nobody else's.
fn vacate(space: &Space) {
    let regions = space.survey.regions.iter();
    for region in regions.filter(|region| region.kind == RegionKind::SnapshotTable) {
        space.survey.map.for_each_run(region.first..region.end(), |first, count, references| {
            if references == 1 {
                space.quarantine.vacate(first, count);
            }
        });
    }
}

/// The header's number of snapshots and the offset of their table, which are adjacent.
fn switch(count: u64, at: HostOffset, fixes: Vec<&'static str>) -> Step {
    let mut bytes = encode_field(HeaderField::SnapshotCount, count);
    bytes.extend(encode_field(HeaderField::SnapshotTableOffset, at.get()));
    let offset = HostOffset::new(HeaderField::SnapshotCount.place().0);
    Step::bytes(offset, bytes, "the snapshot table's offset in the header", fixes)
}

/// Whether something is wrong with snapshots as a whole, or with their table.
fn is_about_snapshots(finding: &Finding) -> bool {
    let of_snapshots = |kind: &RegionKind| {
        matches!(kind, RegionKind::SnapshotTable | RegionKind::L1Table(Source::Snapshot(_)))
    };
    let place = matches!(
        finding.place,
        Place::SnapshotTable | Place::Snapshot(_) | Place::L1Table(Source::Snapshot(_))
    );
    place
        || match &finding.kind {
            Kind::Overlap { owner, other, .. } => {
                of_snapshots(owner) || other.as_ref().is_some_and(of_snapshots)
            }
            Kind::SnapshotsWithDataFile(_) => true,
            _ => false,
        }
}

/// Snapshots whose L1 table is damaged as a whole, by position.
fn unreadable(survey: &Survey) -> HashSet<u32> {
    let mut lost = HashSet::new();
    for finding in &survey.report.findings {
        match (&finding.kind, finding.place) {
            (
                Kind::SnapshotL1Unaligned { .. }
                | Kind::SnapshotL1TooLarge { .. }
                | Kind::SnapshotL1TooSmall { .. },
                Place::Snapshot(index),
            )
            | (_, Place::L1Table(Source::Snapshot(index))) => {
                lost.insert(index);
            }
            (Kind::Overlap { owner, other, .. }, _) => {
                let all = 0..survey.area.header.snapshot_count;
                for kind in [Some(*owner), *other].into_iter().flatten() {
                    match kind {
                        RegionKind::L1Table(Source::Snapshot(index)) => {
                            lost.insert(index);
                        }
                        // A table that overlaps many structures is reported as often.
                        RegionKind::SnapshotTable if lost.len() < all.len() => {
                            lost.extend(all.clone());
                        }
                        _ => {}
                    }
                }
            }
            (Kind::SnapshotsWithDataFile(count), _) => lost.extend(0..*count),
            _ => {}
        }
    }
    lost
}

/// The entries as they will be: extra data within the limit, complete, each with an id of its own,
/// and without those that are lost.
fn entries(
    source: &dyn ReadAt,
    survey: &Survey,
    lost: &HashSet<u32>,
) -> Result<Vec<SnapshotEntry>> {
    let size = survey.area.header.size;
    let v3 = survey.area.header.version >= 3;
    let all = whole(source, survey)?;
    let number = |entry: &SnapshotEntry| entry.id_text().parse::<u64>().ok();
    let mut last_id = all.iter().filter_map(number).max().unwrap_or(0);
    let mut ids = HashSet::new();
    let kept = (0u32..).zip(&all).filter(|(index, _)| !lost.contains(index));
    let right = kept.map(|(_, entry)| {
        let mut entry = if v3 { entry.clone().completed(size) } else { entry.clone() };
        if !ids.insert(entry.id.clone()) {
            last_id = last_id.saturating_add(1);
            entry.id = last_id.to_string().into_bytes();
        }
        entry
    });
    Ok(right.collect())
}

/// The entries with all of their extra data, which the check does not load.
fn whole(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<SnapshotEntry>> {
    let at = survey.area.header.snapshot_table;
    let found = survey.snapshots.entries.len();
    let table = SnapshotTable::load(source, at, u32::try_from(found).unwrap_or(u32::MAX));
    match table.problem {
        Some(SnapshotTableProblem::Unreadable(_, e)) => {
            Err(Error::io("read the snapshot table", at.get(), e))
        }
        _ if table.entries.len() < found => {
            Err(Error::Refused("the snapshot table has changed since it was checked".into()))
        }
        _ => Ok(table.entries),
    }
}
