//! Cross-links: a guest cluster that is at the same time metadata, or an L2 table at two guest
//! positions. Metadata keeps its place; everybody else gets a copy of the same bytes.
//!
//! Comes when all counts are right: what is taken is counted before it is pointed to, and what is
//! left behind becomes a leak that the next round releases.

use std::collections::{BTreeMap, HashSet};

use super::plan::{RepairPlan, Step};
use super::room;
use crate::check::{Finding, Kind, Place, RegionKind, Source, Survey, Visit, owners};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{COPIED, L1Entry, OFFSET_MASK};
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index};
use crate::storage::{Capacity, ReadAt};

/// Most copies that one round makes.
const MAX_COPIES: usize = 1024;

/// A pointer that is to lead to a copy.
struct Move {
    from: HostOffset,
    pointer: HostOffset,
    /// The pointer's bits with the new place put in.
    bits: u64,
    /// References that the copy gets.
    times: u64,
    what: &'static str,
    table: bool,
}

/// Plans the copies and the pointers that lead to them.
pub fn plan(plan: &mut RepairPlan, source: &dyn ReadAt, survey: &Survey, capacity: Capacity) {
    if survey.refcounts.is_broken() || survey.missing_blocks || survey.too_low {
        return;
    }
    let mut moves = guest_clusters(source, survey);
    moves.extend(tables(survey));
    moves.truncate(MAX_COPIES);
    let one = ClusterCount::new(1);
    let (mut counts, mut copies, mut pointers) = (Vec::new(), Vec::new(), Vec::new());
    for step in moves {
        let Some(place) = room::covered_run(survey, &plan.target, capacity, one) else { break };
        plan.target_mut().add(place, one, step.times);
        counts.extend(room::raise(survey, place, one));
        let to = plan.geometry.offset_of(place);
        copies.push(Step::Copy { from: step.from, to, table: step.table });
        let bytes = (step.bits | to.get()).to_be_bytes().to_vec();
        pointers.push(Step::Write { offset: step.pointer, bytes, what: step.what });
    }
    counts.dedup();
    plan.stage("counts of copies", counts);
    plan.stage("copies for each owner", copies);
    plan.stage("pointers to the copies", pointers);
}

/// Guest clusters that are metadata too.
fn guest_clusters(source: &dyn ReadAt, survey: &Survey) -> Vec<Move> {
    let geometry = &survey.area.geometry;
    let mut wanted = HashSet::new();
    for finding in &survey.report.findings {
        if let Some((first, count)) = metadata_under_data(finding) {
            wanted.extend((0..count.get().min(1 << 16)).map(|n| first + ClusterCount::new(n)));
        }
    }
    let owners = owners::find(source, survey, &wanted);
    let moves = owners.iter().map(|owner| {
        let alone = owner.times == 1;
        let bits = owner.entry.bits & !(OFFSET_MASK | COPIED);
        Move {
            from: geometry.offset_of(owner.cluster),
            pointer: owner
                .table
                .saturating_add(u64::from(owner.index.get()) * geometry.l2_entry_bytes() as u64),
            bits: if alone { bits | COPIED } else { bits },
            times: owner.times,
            what: "an L2 entry",
            table: false,
        }
    });
    moves.collect()
}

/// The clusters of a finding that says that metadata is guest data too.
fn metadata_under_data(finding: &Finding) -> Option<(HostCluster, ClusterCount)> {
    match (&finding.kind, finding.place) {
        (Kind::Overlap { other: None, .. }, Place::Clusters(first, count)) => Some((first, count)),
        _ => None,
    }
}

/// L2 tables at more than one guest position: the first keeps the table.
fn tables(survey: &Survey) -> Vec<Move> {
    let mut moves = Vec::new();
    for finding in &survey.report.findings {
        let Kind::L2TableTwice { table, .. } = finding.kind else { continue };
        if !survey.area.geometry.is_aligned(table) || has_overflow(survey) {
            continue;
        }
        let mut places: BTreeMap<L1Index, Vec<Visit>> = BTreeMap::new();
        for visit in survey.visits.iter().filter(|v| v.entry.offset() == table) {
            places.entry(visit.index).or_default().push(*visit);
        }
        // The copy of one position serves one owner: snapshots that share it take a copy each.
        for visit in places.into_values().skip(1).flatten() {
            if let Some(pointer) = l1_entry(survey, &visit) {
                moves.push(Move {
                    from: table,
                    pointer,
                    bits: L1Entry::new(HostOffset::new(0), visit.source == Source::Active).0,
                    times: 1,
                    what: "an L1 entry",
                    table: true,
                });
            }
        }
    }
    moves
}

/// A table's copy shares all its clusters: their counts must have room for that.
fn has_overflow(survey: &Survey) -> bool {
    survey.report.findings.iter().any(|f| matches!(f.kind, Kind::Overflow { .. }))
}

/// Where an L1 entry lies, unless something else lies there too.
fn l1_entry(survey: &Survey, visit: &Visit) -> Option<HostOffset> {
    let table = match visit.source {
        Source::Active => survey.area.header.l1_table,
        Source::Snapshot(index) => survey.snapshots.entries.get(index as usize)?.header.l1_table,
    };
    let offset = table.saturating_add(u64::from(visit.index.get()) * TABLE_ENTRY_BYTES);
    let cluster = survey.area.geometry.cluster_floor(offset);
    let kind = RegionKind::L1Table(visit.source);
    let owned =
        survey.regions.iter().any(|r| r.kind == kind && (r.first..r.end()).contains(&cluster));
    (owned && survey.map.get(cluster) == 1).then_some(offset)
}
