//! A snapshot table within the limits and complete, written aside, then switched to.

use super::plan::{RepairPlan, Step, rebuild};
use super::room;
use crate::check::{Kind, Survey};
use crate::error::Result;
use crate::format::HostOffset;
use crate::format::header::{HeaderField, encode_field};
use crate::format::snapshot::{SnapshotEntry, encode_table};
use crate::storage::Capacity;

/// Plans a new table where an entry has too much extra data, or too little for version 3.
pub fn plan(plan: &mut RepairPlan, survey: &Survey, capacity: Capacity) -> Result<()> {
    let bad = |k: &Kind| matches!(k, Kind::SnapshotExtraTooLarge(_) | Kind::SnapshotIncomplete);
    if !survey.report.findings.iter().any(|f| bad(&f.kind)) || survey.snapshots.problem.is_some() {
        return Ok(());
    }
    let geometry = survey.area.geometry;
    let table = encode_table(&entries(survey));
    let clusters = geometry.clusters_for(table.len() as u64);
    let run = room::covered_run(survey, &plan.target, capacity, clusters);
    let new = match run.filter(|_| survey.differing.is_empty()) {
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
    let count = survey.snapshots.entries.len() as u64;
    let mut pointer = encode_field(HeaderField::SnapshotCount, count);
    pointer.extend(encode_field(HeaderField::SnapshotTableOffset, at.get()));
    let offset = HostOffset::new(HeaderField::SnapshotCount.place().0);
    let what = "the snapshot table's place in the header";
    plan.stage("the switch to it", vec![Step::Write { offset, bytes: pointer, what }]);
    Ok(())
}

/// The entries as they will be: extra data within the limit, and complete.
fn entries(survey: &Survey) -> Vec<SnapshotEntry> {
    let size = survey.area.header.size;
    let v3 = survey.area.header.version >= 3;
    let entries = survey.snapshots.entries.iter().cloned();
    entries.map(|entry| if v3 { entry.completed(size) } else { entry }).collect()
}
