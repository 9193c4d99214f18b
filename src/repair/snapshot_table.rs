//! A snapshot table within the limits and complete, written aside, then switched to.

use super::plan::{CountChange, RepairPlan, Step, rebuild};
use crate::check::{Kind, Survey};
use crate::error::Result;
use crate::format::header::{HeaderField, encode_field};
use crate::format::snapshot::{SnapshotEntry, encode_table};
use crate::format::{ClusterCount, HostCluster, HostOffset};
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
    let new = match free_run(survey, clusters) {
        Some(first) => {
            plan.target.add(first, clusters, 1);
            let steps = count_steps(survey, first, clusters, CountChange::Raise);
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

/// A run of free clusters whose counts lie in blocks that exist. The old table's clusters become
/// leaks, which the next round releases.
fn free_run(survey: &Survey, clusters: ClusterCount) -> Option<HostCluster> {
    let geometry = &survey.area.geometry;
    if survey.refcounts.is_broken() || survey.missing_blocks || !survey.differing.is_empty() {
        return None;
    }
    let mut at = HostCluster::new(0);
    loop {
        at = survey.map.next_free(at);
        let end = at + clusters;
        let last = HostCluster::new(end.get() - 1);
        let covered =
            |cluster| survey.refcounts.block(geometry.refcount_place(cluster).0).is_some();
        if !covered(at) || !covered(last) {
            return None;
        }
        match survey.map.last_used_in(at..end) {
            None => return Some(at),
            Some(used) => at = used.next(),
        }
    }
}

fn count_steps(
    survey: &Survey,
    first: HostCluster,
    clusters: ClusterCount,
    change: CountChange,
) -> Vec<Step> {
    let geometry = &survey.area.geometry;
    let (low, _) = geometry.refcount_place(first);
    let (high, _) = geometry.refcount_place(HostCluster::new((first + clusters).get() - 1));
    let touched = survey.refcounts.blocks.iter().filter(|b| (low..=high).contains(&b.index));
    touched.map(|b| Step::Counts { index: b.index, block: b.offset, change }).collect()
}
