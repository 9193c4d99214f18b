//! Cross-links: a guest cluster that is at the same time metadata or another guest position's, an
//! L2 table at two guest positions, and what more refer to than can be counted. Metadata keeps its
//! cluster, and one position keeps what is shared; every other gets a copy of the same bytes.
//!
//! Only where nothing is leaked: what is leaked may be what one of the pointers referred to before,
//! and a copy would remove the sign of it. Comes when all refcounts are right: what is taken is
//! counted before it is pointed to, and what is left becomes a leak that the next round releases.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::check::affected::references::{self, Owner};
use crate::check::{CheckReport, Finding, Kind, Place, Source, Survey, Visit};
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, L1Index};
use crate::repair::plan::quarantine::Quarantine;
use crate::repair::plan::room::Space;
use crate::repair::plan::step::{RepairPlan, StageKind, Step, Write, codes};
use crate::repair::plan::{pointers, rebuild};
use crate::storage::ReadAt;

/// Most copies that one round makes.
const MAX_COPIES: usize = 1 << 14;
/// Most clusters of one finding that are looked at.
const MAX_RUN: u64 = 1 << 16;

/// A pointer that is to refer to a copy.
struct Move {
    first: HostCluster,
    count: ClusterCount,
    /// Where the pointer is.
    pointer: HostOffset,
    /// References that the copy gets.
    times: u64,
    kind: Pointer,
}

/// The pointer as it is.
enum Pointer {
    L1 { active: bool },
    L2(L2Entry),
}

impl Move {
    /// The pointer to the copy.
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

/// Plans the copies and the pointers to them.
pub fn plan(plan: &mut RepairPlan, space: &Space) -> Result<()> {
    let survey = space.survey;
    if (space.quarantine.holds(survey) && has_lost(survey)) || !is_counted(survey) {
        return Ok(());
    }
    if !space.quarantine.is_given_up() && !is_clear(survey) {
        return Ok(());
    }
    let fixes = codes(&survey.report, |finding| is_cross_link(&finding.kind));
    let shared_tables = SharedTables::of(survey);
    let clusters = |count| plan.geometry.bytes_of(ClusterCount::new(count));
    if !space.quarantine.may_copy(survey, clusters(shared_tables.fewest_copies(survey))) {
        return Ok(()); // What refers to clusters so often is not a table.
    }
    let mut moves = guest_clusters(&space.storage, survey, space.quarantine);
    moves.extend(shared_tables.moves(survey));
    moves.retain(|step| step.times <= survey.area.geometry.refcount_max());
    if !space.quarantine.may_copy(survey, clusters(moves.iter().map(|step| step.count.get()).sum()))
    {
        return Ok(());
    }
    moves.truncate(MAX_COPIES);
    let (mut counts, mut copies, mut pointers) = (Vec::new(), Vec::new(), Vec::new());
    let mut reserved = reserve(plan, space, &moves)?;
    for step in moves {
        let to = match &mut reserved {
            Some(next) => {
                let to = *next;
                *next = to + step.count;
                plan.target_mut().add(to, step.count, step.times - 1);
                to
            }
            None => {
                let Some(to) = space.covered_run(&plan.target, step.count)? else { break };
                plan.target_mut().add(to, step.count, step.times);
                counts.extend(space.raise(to, step.count, &fixes));
                to
            }
        };
        // It has one reference less, and nothing is lost with that.
        space.quarantine.vacate(step.first, step.count);
        let table = matches!(step.kind, Pointer::L1 { .. });
        for n in (0..step.count.get()).map(ClusterCount::new) {
            let at = |cluster: HostCluster| plan.geometry.offset_of(cluster + n);
            let write = Write::Copy { from: at(step.first), to: at(to), table };
            copies.push(Step::new(write, fixes.clone()));
        }
        let bytes = step.redirected(&plan.geometry, to).to_be_bytes().to_vec();
        let what = if table { "an L1 entry" } else { "an L2 entry" };
        pointers.push(Step::bytes(step.pointer, bytes, what, fixes.clone()));
    }
    counts.dedup();
    // What is copied may be the block with the refcount of the copy.
    plan.stage(StageKind::Copies, copies);
    plan.stage(StageKind::CopyCounts, counts);
    plan.stage(StageKind::CopyPointers, pointers);
    Ok(())
}

/// Whether a cluster is counted to which nothing refers at all.
fn has_lost(survey: &Survey) -> bool {
    let lost = |f: &Finding| matches!(f.kind, Kind::Count { stored, referenced: 0 } if stored > 0);
    survey.report.unlisted > 0 || survey.report.findings.iter().any(lost)
}

/// Clusters for all copies where no refcount block describes free ones: new blocks do. Each is
/// counted once.
fn reserve(plan: &mut RepairPlan, space: &Space, moves: &[Move]) -> Result<Option<HostCluster>> {
    let Some(first) = moves.first() else { return Ok(None) };
    if space.covered_run(&plan.target, first.count)?.is_some() {
        return Ok(None);
    }
    let before = Arc::clone(&plan.target);
    let clusters = ClusterCount::new(moves.iter().map(|step| step.count.get()).sum());
    let (storage, survey, quarantine) = (space.storage, space.survey, space.quarantine);
    match rebuild::plan(plan, storage, survey, quarantine, space.capacity, clusters) {
        Err(Error::NoRoom { .. }) => {
            plan.target = before;
            Ok(None)
        }
        first => first.map(Some),
    }
}

const fn is_cross_link(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::L2TableTwice { .. }
            | Kind::CompressedOverlap { .. }
            | Kind::SharedData
            | Kind::Overflow { .. }
            | Kind::Overlap { other: None, .. }
    )
}

/// Whether no pointer that is damaged otherwise could have brought the cross-link about.
fn is_clear(survey: &Survey) -> bool {
    let report = &survey.report;
    let other = |f: &Finding| f.may_hide_references() && !is_cross_link(&f.kind);
    report.unlisted == 0 && !report.findings.iter().any(other)
}

/// Whether no refcount is too low, but in blocks that are not written as long as somebody else's
/// pointer reads them.
fn is_counted(survey: &Survey) -> bool {
    if survey.refcounts.is_broken() || survey.missing_blocks {
        return false;
    }
    let geometry = &survey.area.geometry;
    let is_shared = |cluster| {
        let block = survey.refcounts.block(geometry.refcount_place(cluster).0);
        block.is_some_and(|block| block.sound && pointers::is_shared(survey, block.offset))
    };
    let low = survey.report.findings.iter().filter_map(|f| match (&f.kind, f.place) {
        (Kind::Count { stored, referenced }, Place::Clusters(first, count)) => {
            (stored < referenced).then_some((first, HostCluster::new((first + count).get() - 1)))
        }
        _ => None,
    });
    let mut low = low.flat_map(|(first, last)| [first, last]);
    !survey.too_low || low.all(is_shared)
}

/// Guest positions whose cluster is another's too, so that they need one of their own.
fn guest_clusters(source: &dyn ReadAt, survey: &Survey, quarantine: &Quarantine) -> Vec<Move> {
    if survey.area.header.crypt_method == CryptMethod::Luks {
        return Vec::new(); // Its data can be decrypted at its offset only.
    }
    let geometry = &survey.area.geometry;
    let (mut metadata, mut shared, mut extents) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut uncounted: HashSet<HostCluster> = HashSet::new();
    for finding in &survey.report.findings {
        let Place::Clusters(first, count) = finding.place else { continue };
        let clusters = (0..count.get().min(MAX_RUN)).map(|n| first + ClusterCount::new(n));
        match finding.kind {
            Kind::Overlap { other: None, .. } => metadata.extend(clusters),
            Kind::SharedData => shared.extend(clusters.filter(|&c| quarantine.is_crossed(c))),
            Kind::Overflow { .. } => uncounted.extend(clusters.filter(|&c| is_data(survey, c))),
            Kind::CompressedOverlap { offset, .. } => {
                extents.insert(offset);
                shared.extend(clusters);
            }
            _ => {}
        }
    }
    shared.extend(uncounted.iter().copied());
    let wanted = metadata.union(&shared).copied().collect();
    let owners = references::find(source, survey, &wanted);
    // One position keeps shared data: compressed data, which others are beside, before plain data.
    let extent = |owner: &Owner| owner.entry.compressed_extent(geometry).offset;
    let mut kept: HashSet<HostCluster> = HashSet::new();
    for owner in owners.iter().filter(|owner| owner.entry.is_compressed()) {
        kept.extend((0..owner.count.get()).map(|n| owner.first + ClusterCount::new(n)));
    }
    let mut first: HashSet<HostCluster> = HashSet::new();
    let moves = owners.iter().filter(|owner| {
        let clusters = || (0..owner.count.get()).map(|n| owner.first + ClusterCount::new(n));
        // Of what is more often referred to than can be counted, the first one keeps it.
        let over = owner.entry.is_compressed()
            && clusters()
                .filter(|cluster| uncounted.contains(cluster))
                .any(|cluster| !first.insert(cluster));
        clusters().any(|cluster| metadata.contains(&cluster))
            || over
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
    let writable = |owner: &&Owner| pointers::is_l2_table_under_data(survey, owner.table);
    moves.filter(writable).map(moved).collect()
}

/// Whether a check found cross-links. What is released then may be what one of the pointers
/// referred to before: its bytes are left in the file.
pub fn were_there(report: &CheckReport) -> bool {
    report.findings.iter().any(|finding| is_cross_link(&finding.kind))
}

fn is_data(survey: &Survey, cluster: HostCluster) -> bool {
    survey.regions.touching(cluster..cluster.next()).next().is_none()
}

/// The clusters that guest positions share by mistake. Their refcount is that of one position
/// alone; or COPIED flags or refcounts that are wrong or lost show that tables are not where they
/// were; or an L2 table at two positions points to them.
pub fn crossed(source: &dyn ReadAt, survey: &Survey) -> Result<HashSet<HostCluster>> {
    let findings = &survey.report.findings;
    let mut shared: BTreeSet<HostCluster> = BTreeSet::new();
    for finding in findings.iter().filter(|finding| finding.kind == Kind::SharedData) {
        if let Place::Clusters(first, count) = finding.place {
            shared.extend((0..count.get().min(MAX_RUN)).map(|n| first + ClusterCount::new(n)));
        }
    }
    // Without refcounts nothing shows that it is intended, and a table in another's place has flags
    // that are not its own.
    let has_wrong_flags = findings.iter().any(|f| matches!(f.kind, Kind::DataCopied { .. }));
    let all_are = has_wrong_flags || !survey.uncounted.is_empty();
    let mut crossed: HashSet<HostCluster> =
        if all_are { shared.iter().copied().collect() } else { HashSet::new() };
    for finding in findings {
        match (&finding.kind, finding.place) {
            (Kind::Count { stored, referenced }, Place::Clusters(first, count))
                if stored < referenced =>
            {
                crossed.extend(shared.range(first..first + count));
            }
            (Kind::L2TableTwice { table, .. }, _) => {
                crossed.extend(data_of(source, survey, *table)?);
            }
            _ => {}
        }
    }
    Ok(crossed)
}

/// The data clusters that a table points to.
pub fn data_of(
    source: &dyn ReadAt,
    survey: &Survey,
    table: HostOffset,
) -> Result<Vec<HostCluster>> {
    let geometry = &survey.area.geometry;
    if !geometry.is_aligned(table) || survey.area.header.has_data_file() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; geometry.cluster_len()];
    let failed = |e| Error::io("read an L2 table", table.get(), e);
    source.read_padded_at(table.get(), &mut bytes).map_err(failed)?;
    let entries = bytes.chunks_exact(geometry.l2_entry_bytes());
    let data = entries.filter_map(|entry| L2Entry::decode(entry).host_cluster(geometry));
    Ok(data.collect())
}

/// The L1 entries of L2 tables that need copies, without those of the first position of each.
pub fn other_entries(survey: &Survey) -> impl Iterator<Item = Visit> {
    let shared = SharedTables::of(survey);
    let mut kept: HashMap<HostOffset, L1Index> = HashMap::new();
    let visits = survey.visits.iter().filter(move |visit| shared.has(survey, *visit));
    visits.filter(move |visit| {
        *kept.entry(visit.entry.offset()).or_insert(visit.index) != visit.index
    })
}

/// L2 tables that need copies.
struct SharedTables {
    /// At more than one guest position.
    twice: HashSet<HostOffset>,
    /// More L1 entries point to them than can be counted.
    uncounted: HashSet<HostOffset>,
}

impl SharedTables {
    fn of(survey: &Survey) -> Self {
        let (mut twice, mut uncounted) = (HashSet::new(), HashSet::new());
        for finding in &survey.report.findings {
            match (&finding.kind, finding.place) {
                (Kind::L2TableTwice { table, .. }, _) => {
                    twice.insert(*table);
                }
                (Kind::Overflow { .. }, Place::Clusters(first, count)) => {
                    let clusters = (0..count.get().min(MAX_RUN)).map(ClusterCount::new);
                    uncounted.extend(clusters.map(|n| survey.area.geometry.offset_of(first + n)));
                }
                _ => {}
            }
        }
        Self { twice, uncounted }
    }

    /// Whether an L1 entry points to one of them.
    fn has(&self, survey: &Survey, visit: Visit) -> bool {
        let table = visit.entry.offset();
        survey.area.geometry.is_aligned(table)
            && (self.twice.contains(&table) || self.uncounted.contains(&table))
    }

    /// The L1 entries that point to them.
    fn visits<'a>(&self, survey: &'a Survey) -> impl Iterator<Item = Visit> + use<'a, '_> {
        survey.visits.iter().filter(|visit| self.has(survey, *visit))
    }

    /// How many copies are needed at least: snapshots may share one.
    fn fewest_copies(&self, survey: &Survey) -> u64 {
        let active = self.visits(survey).filter(|visit| visit.source == Source::Active).count();
        active.saturating_sub(self.twice.len() + self.uncounted.len()) as u64
    }

    /// The first position keeps the table.
    fn moves(&self, survey: &Survey) -> Vec<Move> {
        let mut places: BTreeMap<HostOffset, BTreeMap<L1Index, Vec<Visit>>> = BTreeMap::new();
        for visit in self.visits(survey) {
            let table = visit.entry.offset();
            places.entry(table).or_default().entry(visit.index).or_default().push(visit);
        }
        // The copy of one position serves one disk: snapshots that share it take a copy each.
        let others = places.into_iter().flat_map(|(table, places)| {
            let keeps_position = !self.uncounted.contains(&table);
            let first = places.values().next().map_or(0, Vec::len);
            places.into_values().flatten().skip(if keeps_position { first } else { 1 })
        });
        let moved = |visit: Visit| {
            let pointer = pointers::l1_entry(survey, visit.source, visit.index)?;
            let first = survey.area.geometry.cluster_floor(visit.entry.offset());
            let kind = Pointer::L1 { active: visit.source == Source::Active };
            Some(Move { first, count: ClusterCount::new(1), pointer, times: 1, kind })
        };
        others.filter_map(moved).collect()
    }
}
