//! Cross-links: a guest cluster that is at the same time metadata or another guest position's, an L2
//! table at two guest positions, and what more refer to than can be counted. Metadata keeps its place,
//! and one owner of what is shared; everybody else gets a copy of the same bytes.
//!
//! Comes when all counts are right: what is taken is counted before it is pointed to, and what is
//! left behind becomes a leak that the next round releases.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::plan::{RepairPlan, Step};
use super::{RepairMode, orphans, pointers, room};
use crate::check::owners::{self, Owner};
use crate::check::{CheckReport, Finding, Kind, Place, Source, Survey, Visit};
use crate::format::crypto::CryptMethod;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, L1Index};
use crate::storage::{Capacity, ReadAt};

/// Most copies that one round makes.
const MAX_COPIES: usize = 1 << 14;
/// Most clusters of one finding that are looked at.
const MAX_RUN: u64 = 1 << 16;

/// Clusters that several guest positions share by mistake.
pub type Crossed = HashSet<HostCluster>;

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
pub fn plan(
    plan: &mut RepairPlan,
    source: &dyn ReadAt,
    survey: &Survey,
    crossed: &Crossed,
    capacity: Capacity,
) {
    if !is_clear(survey) {
        return;
    }
    let mut moves = guest_clusters(source, survey, crossed);
    moves.extend(tables(survey, plan.mode));
    moves.retain(|step| step.times <= survey.area.geometry.refcount_max());
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
    let other = |f: &Finding| {
        let crossed = matches!(f.kind, Kind::L2TableTwice { .. } | Kind::CompressedOverlap { .. });
        f.may_hide_references() && !crossed
    };
    let structure = survey.refcounts.is_broken() || survey.missing_blocks || survey.too_low;
    !structure && report.unlisted == 0 && !report.findings.iter().any(other)
}

/// Guest positions whose cluster is another's too, so that they need one of their own.
fn guest_clusters(source: &dyn ReadAt, survey: &Survey, crossed: &Crossed) -> Vec<Move> {
    if survey.area.header.crypt_method == CryptMethod::Luks {
        return Vec::new(); // Its data can be read at its place only.
    }
    let geometry = &survey.area.geometry;
    let (mut metadata, mut shared, mut extents) = (HashSet::new(), HashSet::new(), HashSet::new());
    for finding in &survey.report.findings {
        let Place::Clusters(first, count) = finding.place else { continue };
        let clusters = (0..count.get().min(MAX_RUN)).map(|n| first + ClusterCount::new(n));
        match finding.kind {
            Kind::Overlap { other: None, .. } => metadata.extend(clusters),
            Kind::SharedData => shared.extend(clusters.filter(|c| crossed.contains(c))),
            Kind::Overflow { .. } => shared.extend(clusters.filter(|&c| is_data(survey, c))),
            Kind::CompressedOverlap { offset, .. } => {
                extents.insert(offset);
                shared.extend(clusters);
            }
            _ => {}
        }
    }
    let wanted = metadata.union(&shared).copied().collect();
    let owners = owners::find(source, survey, &wanted);
    // One owner of shared data keeps it: compressed data, which others lie beside, before plain data.
    let extent = |owner: &Owner| owner.entry.compressed_extent(geometry).offset;
    let mut kept: HashSet<HostCluster> = HashSet::new();
    for owner in owners.iter().filter(|owner| owner.entry.is_compressed()) {
        kept.extend((0..owner.count.get()).map(|n| owner.first + ClusterCount::new(n)));
    }
    let moves = owners.iter().filter(|owner| {
        let under = |n| metadata.contains(&(owner.first + ClusterCount::new(n)));
        (0..owner.count.get()).any(under)
            || (owner.entry.is_compressed() && extents.contains(&extent(owner)))
            || (!owner.entry.is_compressed() && !kept.insert(owner.first))
    });
    let moved = |owner: &Owner| Move {
        first: owner.first,
        count: owner.count,
        pointer: pointers::l2_entry(survey, owner.table, owner.index),
        times: owner.times,
        kind: Pointer::L2(owner.entry),
    };
    moves.map(moved).collect()
}

/// Whether a check found cross-links. What seems leaked then may be what one of the pointers led to
/// before: its bytes are left in the file.
pub fn were_there(report: &CheckReport) -> bool {
    let crossed = |f: &Finding| {
        matches!(f.kind, Kind::SharedData | Kind::Overlap { .. } | Kind::L2TableTwice { .. })
    };
    report.findings.iter().any(crossed)
}

fn is_data(survey: &Survey, cluster: HostCluster) -> bool {
    survey.regions.touching(cluster..cluster.next()).next().is_none()
}

/// The clusters that a finding shows to be shared by mistake: their count or a COPIED flag says that
/// they were one guest position's alone.
pub fn crossed(survey: &Survey) -> Crossed {
    let findings = &survey.report.findings;
    let mut shared: BTreeSet<HostCluster> = BTreeSet::new();
    for finding in findings.iter().filter(|finding| finding.kind == Kind::SharedData) {
        if let Place::Clusters(first, count) = finding.place {
            shared.extend((0..count.get().min(MAX_RUN)).map(|n| first + ClusterCount::new(n)));
        }
    }
    let mut crossed = Crossed::new();
    for finding in findings.iter().filter(|_| !shared.is_empty()) {
        match (&finding.kind, finding.place) {
            (Kind::Count { stored, referenced }, Place::Clusters(first, count))
                if stored < referenced =>
            {
                crossed.extend(shared.range(first..first + count));
            }
            (Kind::DataCopied { entry, .. }, _) => {
                let at = L2Entry::standard(*entry).offset();
                crossed.extend(shared.get(&survey.area.geometry.cluster_floor(at)));
            }
            _ => {}
        }
    }
    crossed
}

/// L2 tables at more than one guest position, and those that more L1 entries lead to than can be
/// counted: the first keeps the table.
fn tables(survey: &Survey, mode: RepairMode) -> Vec<Move> {
    let geometry = &survey.area.geometry;
    let (mut twice, mut uncounted) = (HashSet::new(), HashSet::new());
    for finding in &survey.report.findings {
        match (&finding.kind, finding.place) {
            (Kind::L2TableTwice { table, .. }, _) => {
                twice.insert(*table);
            }
            (Kind::Overflow { .. }, Place::Clusters(first, count)) => {
                let clusters = (0..count.get().min(MAX_RUN)).map(ClusterCount::new);
                uncounted.extend(clusters.map(|n| geometry.offset_of(first + n)));
            }
            _ => {}
        }
    }
    let (contested, mut disputed) = (orphans::contested(survey, mode), HashSet::new());
    let mut places: BTreeMap<HostOffset, BTreeMap<L1Index, Vec<Visit>>> = BTreeMap::new();
    for visit in &survey.visits {
        let table = visit.entry.offset();
        if contested.contains(&(visit.source, visit.index)) {
            disputed.insert(table);
        }
        if geometry.is_aligned(table) && (twice.contains(&table) || uncounted.contains(&table)) {
            places.entry(table).or_default().entry(visit.index).or_default().push(visit);
        }
    }
    places.retain(|table, _| !disputed.contains(table));
    // The copy of one position serves one owner: snapshots that share it take a copy each.
    let others = places.into_iter().flat_map(|(table, places)| {
        let keeps_position = !uncounted.contains(&table);
        let first = places.values().next().map_or(0, Vec::len);
        places.into_values().flatten().skip(if keeps_position { first } else { 1 })
    });
    let moved = |visit: Visit| {
        let pointer = pointers::l1_entry(survey, visit.source, visit.index)?;
        let first = geometry.cluster_floor(visit.entry.offset());
        let kind = Pointer::L1 { active: visit.source == Source::Active };
        Some(Move { first, count: ClusterCount::new(1), pointer, times: 1, kind })
    };
    others.filter_map(moved).collect()
}
