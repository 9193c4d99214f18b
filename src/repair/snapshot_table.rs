//! A snapshot table within the limits and complete, written aside, then switched to.

use std::collections::HashSet;

use super::plan::{RepairPlan, Step, rebuild};
use super::{RepairMode, room};
use crate::check::{Kind, Place, RegionKind, Source, Survey};
use crate::error::{Error, Result};
use crate::format::HostOffset;
use crate::format::header::{HeaderField, encode_field};
use crate::format::snapshot::{SnapshotEntry, encode_table};
use crate::storage::{Capacity, ReadAt};
use crate::tables::{SnapshotTable, SnapshotTableProblem};

/// Plans a new table where an entry has too much extra data, or too little for version 3, or another
/// one's id; and where that was allowed, one without the snapshots that cannot be read.
pub fn plan(
    plan: &mut RepairPlan,
    source: &dyn ReadAt,
    survey: &Survey,
    capacity: Capacity,
    mode: RepairMode,
) -> Result<()> {
    let lossy = mode == RepairMode::Lossy;
    let bad = |k: &Kind| {
        let extra = matches!(k, Kind::SnapshotExtraTooLarge(_) | Kind::SnapshotIncomplete);
        extra || matches!(k, Kind::SnapshotIdTwice(_))
    };
    let lost = if lossy { unreadable(survey) } else { HashSet::new() };
    let broken = survey.snapshots.problem.is_some()
        || survey.report.findings.iter().any(|f| matches!(f.kind, Kind::SnapshotTableBroken(_)));
    let incomplete = survey.report.findings.iter().any(|f| bad(&f.kind));
    if (broken && !lossy) || !(broken || incomplete || !lost.is_empty()) {
        return Ok(());
    }
    let entries = entries(source, survey, &lost)?;
    if entries.is_empty() {
        plan.stage("all snapshots, dropped", vec![switch(0, HostOffset::new(0))]);
        return Ok(());
    }
    let geometry = survey.area.geometry;
    let table = encode_table(&entries);
    let clusters = geometry.clusters_for(table.len() as u64);
    let run = room::covered_run(survey, &plan.target, capacity, clusters);
    let new = match run.filter(|_| !survey.too_low) {
        Some(first) => {
            plan.target_mut().add(first, clusters, 1);
            let steps = room::raise(survey, first, clusters);
            plan.stage("counts of the new snapshot table", steps);
            first
        }
        None => rebuild(plan, survey, capacity, clusters)?,
    };
    let at = geometry.offset_of(new);
    let mut padded = table;
    padded.resize(geometry.cluster_len() * usize::try_from(clusters.get()).unwrap_or(0), 0);
    plan.stage(
        "the new snapshot table",
        vec![Step::Write { offset: at, bytes: padded, what: "the snapshot table" }],
    );
    plan.stage("the switch to it", vec![switch(entries.len() as u64, at)]);
    Ok(())
}

/// The header's count of snapshots and the place of their table, which lie side by side.
fn switch(count: u64, at: HostOffset) -> Step {
    let mut bytes = encode_field(HeaderField::SnapshotCount, count);
    bytes.extend(encode_field(HeaderField::SnapshotTableOffset, at.get()));
    let offset = HostOffset::new(HeaderField::SnapshotCount.place().0);
    Step::Write { offset, bytes, what: "the snapshot table's place in the header" }
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
                        RegionKind::SnapshotTable => lost.extend(all.clone()),
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

/// The entries as they will be: extra data within the limit, complete, each with an id of its own, and
/// without those that are lost.
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
    let mended = kept.map(|(_, entry)| {
        let mut entry = if v3 { entry.clone().completed(size) } else { entry.clone() };
        if !ids.insert(entry.id.clone()) {
            last_id = last_id.saturating_add(1);
            entry.id = last_id.to_string().into_bytes();
        }
        entry
    });
    Ok(mended.collect())
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
