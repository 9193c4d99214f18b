//! Cross-links: a guest cluster that is at the same time metadata, or an L2 table at two guest
//! positions. Metadata keeps its place; everybody else gets a copy of the same bytes.
//!
//! Comes when all counts are right: what is taken is counted before it is pointed to, and what is
//! left behind becomes a leak that the next round releases.

use std::collections::{BTreeMap, HashSet};

use super::plan::{RepairPlan, Step};
use super::room;
use crate::check::{Finding, Kind, Place, RegionKind, Source, Survey, Visit, owners};
use crate::format::crypto::CryptMethod;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, L1Index};
use crate::storage::{Capacity, ReadAt};

/// Most copies that one round makes.
const MAX_COPIES: usize = 1024;

/// A pointer that is to lead to a copy.
struct Move {
    first: HostCluster,
    count: ClusterCount,
    /// Where the pointer lies.
    pointer: HostOffset,
    /// References that the copy gets.
    times: u64,
    kind: Pointer,
}

/// The pointer as it stands.
enum Pointer {
    L1 { active: bool },
    L2(L2Entry),
}

impl Move {
    /// The pointer that leads to the copy.
    fn redirected(&self, geometry: &Geometry, to: HostCluster) -> u64 {
        let start = geometry.offset_of(to);
        match self.kind {
            Pointer::L1 { active } => L1Entry::new(start, active).0,
            Pointer::L2(entry) if entry.is_compressed() => {
                let within = entry.compressed_extent(geometry).offset.get()
                    - geometry.offset_of(self.first).get();
                entry.moved(geometry, start.saturating_add(within)).bits
            }
            Pointer::L2(entry) => {
                let moved = entry.moved(geometry, start).bits;
                if self.times == 1 { moved | COPIED } else { moved & !COPIED }
            }
        }
    }
}

/// Plans the copies and the pointers that lead to them.
pub fn plan(plan: &mut RepairPlan, source: &dyn ReadAt, survey: &Survey, capacity: Capacity) {
    if !is_clear(survey) {
        return;
    }
    let mut moves = guest_clusters(source, survey);
    moves.extend(tables(survey));
    moves.truncate(MAX_COPIES);
    let (mut counts, mut copies, mut pointers) = (Vec::new(), Vec::new(), Vec::new());
    for step in moves {
        let run = room::covered_run(survey, &plan.target, capacity, step.count);
        let Some(to) = run else { break };
        plan.target_mut().add(to, step.count, step.times);
        counts.extend(room::raise(survey, to, step.count));
        let table = matches!(step.kind, Pointer::L1 { .. });
        for n in (0..step.count.get()).map(ClusterCount::new) {
            let at = |cluster: HostCluster| plan.geometry.offset_of(cluster + n);
            copies.push(Step::Copy { from: at(step.first), to: at(to), table });
        }
        let bytes = step.redirected(&plan.geometry, to).to_be_bytes().to_vec();
        let what = if table { "an L1 entry" } else { "an L2 entry" };
        pointers.push(Step::Write { offset: step.pointer, bytes, what });
    }
    counts.dedup();
    plan.stage("counts of copies", counts);
    plan.stage("copies for each owner", copies);
    plan.stage("pointers to the copies", pointers);
}

/// Whether everybody's role is clear: counts are right, and no pointer that is damaged otherwise
/// could have brought the cross-link about.
fn is_clear(survey: &Survey) -> bool {
    let report = &survey.report;
    let other =
        |f: &Finding| f.may_hide_references() && !matches!(f.kind, Kind::L2TableTwice { .. });
    let structure = survey.refcounts.is_broken() || survey.missing_blocks || survey.too_low;
    !structure && report.unlisted == 0 && !report.findings.iter().any(other)
}

/// Guest clusters that are metadata too.
fn guest_clusters(source: &dyn ReadAt, survey: &Survey) -> Vec<Move> {
    if survey.area.header.crypt_method == CryptMethod::Luks {
        return Vec::new(); // Its data can be read at its place only.
    }
    let geometry = &survey.area.geometry;
    let mut wanted = HashSet::new();
    for finding in &survey.report.findings {
        if let Some((first, count)) = metadata_under_data(finding) {
            wanted.extend((0..count.get().min(1 << 16)).map(|n| first + ClusterCount::new(n)));
        }
    }
    let owners = owners::find(source, survey, &wanted);
    let entry_bytes = geometry.l2_entry_bytes() as u64;
    let moves = owners.iter().map(|owner| Move {
        first: owner.first,
        count: owner.count,
        pointer: owner.table.saturating_add(u64::from(owner.index.get()) * entry_bytes),
        times: owner.times,
        kind: Pointer::L2(owner.entry),
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
                    first: survey.area.geometry.cluster_floor(table),
                    count: ClusterCount::new(1),
                    pointer,
                    times: 1,
                    kind: Pointer::L1 { active: visit.source == Source::Active },
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
