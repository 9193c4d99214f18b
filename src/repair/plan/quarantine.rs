//! What is known of clusters that nothing valid refers to: built from the first check of a repair
//! and kept over all its rounds, since repairing a structure removes the reason why a cluster was
//! suspicious. Only this decides what may be released, and into which clusters something may be
//! placed.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::former::{Former, FormerStructures};
use super::pointers;
use super::purpose::Risk;
use super::step::StageKind;
use crate::check::lost::reftable::Reftable;
use crate::check::report::Slot;
use crate::check::survey::data;
use crate::check::survey::refcount_map::RefcountMap;
use crate::check::{Block, Hold, Kind, Place, RegionKind, Row, Survey};
use crate::error::{Error, Result};
use crate::format::feature::incompatible;
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::storage::{Capacity, ReadAt, Storage, is_zero};

/// Bytes that are read together to find out whether a cluster is empty.
const PIECE: usize = 64 << 10;
/// Clusters that are looked at for what an interrupted repair wrote, at most.
const MAX_LEFT_BEHIND: usize = 1024;

/// Bytes that copies may take in any file.
const SPARE_BYTES: u64 = 1 << 20;

/// L1 entries that point to what is not an L2 table, with what they point to and the kind of the
/// finding.
pub type Condemned = BTreeMap<Slot, (HostOffset, &'static Row)>;

/// The evidence about clusters that seem free.
#[derive(Debug)]
pub struct Quarantine {
    /// Whether leaked clusters, and refcounts that are too high, may be what a damaged pointer
    /// refers to.
    holds: bool,
    /// Whether the file cannot grow, or must not: pointers refer to what is past its end.
    is_limited: bool,
    /// The bytes that copies may take, known once there are some to make.
    most_copied: OnceCell<u64>,
    /// Whether what may be lost was given up.
    given_up: bool,
    /// What a write risks: once something was given up, each one completes the loss.
    risk: Risk,
    /// Whether a refcount of 0 can be relied on.
    trusted: bool,
    /// Clusters with data that nothing references and of which no refcount shows whether they are
    /// in use.
    uncounted: RefcountMap,
    /// Refcount blocks of which most is lost and which hold something: where other damage is too,
    /// that may be data.
    foreign: Vec<ReftableIndex>,
    /// Refcount structures to which nothing points: where there are some, the refcount table points
    /// to something else in their place.
    former: HashSet<HostCluster>,
    /// Where space is short: clusters that nothing references, with what a repair writes that was
    /// interrupted before the header referred to it.
    left_behind: HashSet<HostCluster>,
    /// Clusters of the refcount table which another one, to which nothing points, counts as
    /// something else.
    counted_elsewhere: HashSet<HostCluster>,
    /// Whether the refcount table points to no block though other damage is there: the table may be
    /// something else.
    foreign_table: bool,
    /// Clusters with something in them, treated as refcount blocks of what is not in the file: they
    /// may not be blocks.
    strays: Vec<HostCluster>,
    /// Clusters with more references than their refcounts: once raised, their refcounts prove
    /// nothing.
    too_low: RefcountMap,
    /// Whether the repair wrote refcounts: they prove no lost table any more.
    has_written_counts: bool,
    /// Clusters that the repair itself emptied: nothing is lost with them.
    vacated: RefcountMap,
    /// Clusters that several guest positions share by mistake.
    crossed: HashSet<HostCluster>,
    /// L1 entries that pointed to another structure, with the offset of what they took for an L2
    /// table.
    condemned: Condemned,
}

impl Quarantine {
    /// Evidence from the first check of a repair.
    pub fn of(storage: &dyn Storage, survey: &Survey) -> Result<Self> {
        let structures = FormerStructures::of(survey);
        let Uncounted { clusters: uncounted, former, tables } =
            uncounted(storage, survey, &structures)?;
        let is_limited = pointers::growth(survey, storage.capacity()) != Capacity::Growable;
        let left_behind =
            if is_limited { left_behind(storage, survey, &structures)? } else { HashSet::new() };
        let counted_elsewhere = counted_elsewhere(storage, survey, &tables)?;
        let strays = strays(storage, survey)?;
        let seen =
            uncounted.last().is_some() || !counted_elsewhere.is_empty() || !strays.is_empty();
        let too_low = RefcountMap::default();
        note_too_low(&too_low, survey);
        // A refcount table with blocks for what is not in the file may be something else.
        let suspect = survey.held || !strays.is_empty();
        let trusted = survey.uncounted.is_empty() && !survey.too_low;
        Ok(Self {
            holds: seen || holds(survey),
            is_limited,
            most_copied: OnceCell::new(),
            given_up: false,
            risk: Risk::Safe,
            trusted,
            uncounted,
            foreign: if suspect { foreign(storage, survey)? } else { Vec::new() },
            former,
            left_behind,
            counted_elsewhere,
            foreign_table: survey.held && !survey.refcounts.blocks.iter().any(|block| block.sound),
            strays,
            too_low,
            has_written_counts: false,
            vacated: RefcountMap::default(),
            crossed: HashSet::new(),
            condemned: Condemned::new(),
        })
    }

    /// Adds what a round wrote and the evidence of the check after it: what is suspicious stays so.
    pub fn note(&mut self, survey: &Survey, written: &[StageKind]) {
        self.has_written_counts |= written.iter().any(|kind| {
            matches!(kind, StageKind::Counts | StageKind::Structures | StageKind::StructuresSwitch)
        });
        self.holds |= holds(survey);
        self.trusted &= survey.uncounted.is_empty();
        note_too_low(&self.too_low, survey);
    }

    /// Whether refcounts can prove where a lost table belongs.
    pub const fn proves_tables(&self) -> bool {
        !self.has_written_counts
    }

    /// Gives up what may be lost: leaked clusters are waste from now on.
    pub fn give_up(&mut self) {
        (self.holds, self.given_up, self.risk) = (false, true, Risk::Lossy);
        self.uncounted = RefcountMap::default();
    }

    /// Adds the risk of what was written before.
    pub fn note_risk(&mut self, risk: Risk) {
        self.risk = self.risk.max(risk);
    }

    /// What a write risks.
    pub const fn risk(&self) -> Risk {
        self.risk
    }

    /// Whether what may be lost was given up.
    pub const fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Whether leaked clusters stay as they are, by this check.
    pub const fn holds(&self, survey: &Survey) -> bool {
        self.holds || holds(survey)
    }

    /// How the next check treats refcounts that are too high.
    pub const fn hold(&self) -> Hold {
        match (self.given_up, self.holds) {
            (true, _) => Hold::Never,
            (false, true) => Hold::Always,
            (false, false) => Hold::ByEvidence,
        }
    }

    /// Whether every refcount could be relied on before the repair changed any.
    pub const fn trusts_counts(&self) -> bool {
        self.trusted
    }

    /// Clusters with data of which no refcount shows whether they are in use: each is counted once.
    pub const fn uncounted(&self) -> &RefcountMap {
        &self.uncounted
    }

    /// Whether the refcount structures have to be rebuilt: refcounts cannot be patched in place.
    pub fn rebuilds(&self, survey: &Survey) -> bool {
        let is_shared = |block: &Block| block.sound && pointers::is_shared(survey, block.offset);
        survey.refcounts.is_broken()
            || survey.missing_blocks
            || self.given_up && survey.refcounts.blocks.iter().any(is_shared)
            || survey.lost_blocks.iter().any(|&index| self.is_misplaced(survey, index))
    }

    /// Whether the refcount table points to something else in place of this block, of which most is
    /// lost.
    fn is_misplaced(&self, survey: &Survey, index: ReftableIndex) -> bool {
        let block = survey.refcounts.block(index);
        !self.former.is_empty()
            || self.foreign.contains(&index)
            || block.is_some_and(|block| pointers::is_shared(survey, block.offset))
    }

    /// The clusters to which the refcount table points in place of blocks that are elsewhere.
    pub fn mistaken_blocks(&self, survey: &Survey) -> Vec<HostCluster> {
        let lost = survey.lost_blocks.iter().filter(|&&index| self.is_misplaced(survey, index));
        let blocks = lost.filter_map(|&index| survey.refcounts.block(index).filter(|b| b.sound));
        blocks.filter_map(|block| survey.area.geometry.cluster_exact(block.offset)).collect()
    }

    /// Whether this cluster of the refcount table may be something else: another table, to which
    /// nothing points, counts it, or the one in use points to no block.
    pub fn may_be_no_reftable(&self, cluster: HostCluster) -> bool {
        self.foreign_table || self.counted_elsewhere.contains(&cluster)
    }

    /// The clusters that are treated as refcount blocks of what is not in the file, and hold
    /// something.
    pub fn strays(&self) -> &[HostCluster] {
        &self.strays
    }

    /// Whether the repair raised this cluster's refcount: it proves no reference any more.
    pub fn is_raised(&self, cluster: HostCluster) -> bool {
        self.too_low.get(cluster) > 0
    }

    /// Remembers that the repair emptied these clusters itself.
    pub fn vacate(&self, first: HostCluster, count: ClusterCount) {
        self.vacated.add(first, count, 1);
    }

    /// Whether the repair emptied this cluster itself.
    pub fn is_vacated(&self, cluster: HostCluster) -> bool {
        self.vacated.get(cluster) > 0
    }

    /// Whether copies may take so many bytes. Each cluster has one right referrer, so that copies
    /// are made for less than half of the positions, or what refers to the clusters is not a table.
    pub fn may_copy(&self, survey: &Survey, bytes: u64) -> bool {
        let most = || bytes_in_use(survey).saturating_add(SPARE_BYTES);
        bytes <= *self.most_copied.get_or_init(most)
    }

    /// Remembers that guest positions share these clusters by mistake.
    pub fn cross(&mut self, clusters: impl IntoIterator<Item = HostCluster>) {
        self.crossed.extend(clusters);
    }

    /// Remembers L1 entries that point to what is not an L2 table: moving the other structure away
    /// would hide it.
    pub fn condemn(&mut self, entries: Condemned) {
        self.condemned = entries;
    }

    /// The L1 entries that pointed to what is not an L2 table.
    pub const fn condemned(&self) -> &Condemned {
        &self.condemned
    }

    /// The clusters that guest positions share by mistake.
    pub const fn crossed(&self) -> &HashSet<HostCluster> {
        &self.crossed
    }

    /// Whether guest positions share this cluster by mistake.
    pub fn is_crossed(&self, cluster: HostCluster) -> bool {
        self.crossed.contains(&cluster)
    }

    /// The refcount structures without a pointer whose space is taken where there is no other.
    pub fn reusable(&self) -> impl Iterator<Item = HostCluster> + '_ {
        self.former.union(&self.left_behind).copied().filter(|_| self.is_limited)
    }

    /// Whether something may be placed into a cluster that nothing references and nothing holds: it
    /// is empty, or past the end of the file where no lost table points to; where a file cannot
    /// grow, also one whose refcount is 0.
    pub fn is_free(
        &self,
        storage: &dyn Storage,
        survey: &Survey,
        cluster: HostCluster,
    ) -> Result<bool> {
        let at = survey.area.geometry.offset_of(cluster);
        if at.get() >= survey.file_bytes {
            return Ok(survey.claims_beyond.get(cluster) == 0);
        }
        let fixed = matches!(storage.capacity(), Capacity::Fixed(_));
        if fixed && (self.trusted || self.given_up) {
            return Ok(true);
        }
        // What a repair that was interrupted wrote is among them.
        let is_structure = self.former.contains(&cluster) || self.left_behind.contains(&cluster);
        if self.is_limited && is_structure {
            return Ok(true);
        }
        is_empty(&storage, at, survey.area.geometry.cluster_bytes())
    }
}

/// Whether a check found leaked clusters, and something that one of them may be lost with.
const fn holds(survey: &Survey) -> bool {
    survey.held && survey.report.tally.leaks > 0
}

/// The blocks of which most is lost and which are not empty.
fn foreign(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<ReftableIndex>> {
    let mut foreign = Vec::new();
    for &index in &survey.lost_blocks {
        if let Some(block) = survey.refcounts.block(index) {
            if !is_empty(source, block.offset, survey.area.geometry.cluster_bytes())? {
                foreign.push(index);
            }
        }
    }
    Ok(foreign)
}

/// The bytes of clusters that something refers to, without refcount structures, which a repair
/// moves.
fn bytes_in_use(survey: &Survey) -> u64 {
    let of_counts = [RegionKind::Reftable, RegionKind::Refblock];
    let structures = survey.regions.iter().filter(|region| of_counts.contains(&region.kind));
    let structures: u64 = structures.map(|region| region.count.get()).sum();
    let geometry = &survey.area.geometry;
    let clusters = survey.map.in_use().get().saturating_sub(structures);
    geometry.bytes_of(ClusterCount::new(clusters))
}

/// The refcount blocks of what is not in the file that hold something.
fn strays(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<HostCluster>> {
    let geometry = &survey.area.geometry;
    let end = geometry.clusters_for(survey.file_bytes).get();
    let outside = |block: &&Block| geometry.first_cluster_of_block(block.index).get() >= end;
    let mut strays = Vec::new();
    for block in survey.refcounts.blocks.iter().filter(|block| block.sound).filter(outside) {
        if let Some(cluster) = geometry.cluster_exact(block.offset) {
            if !is_empty(source, block.offset, geometry.cluster_bytes())? {
                strays.push(cluster);
            }
        }
    }
    Ok(strays)
}

/// Whether a cluster reads as zeroes.
pub fn is_empty(source: &dyn ReadAt, at: HostOffset, bytes: u64) -> Result<bool> {
    if source.is_hole(at.get(), bytes) {
        return Ok(true);
    }
    let mut piece = vec![0; PIECE.min(usize::try_from(bytes).unwrap_or(PIECE))];
    for from in (0..bytes).step_by(piece.len()) {
        let at = at.saturating_add(from).get();
        let failed = |e| Error::io("look for free space", at, e);
        source.read_padded_at(at, &mut piece).map_err(failed)?;
        if !is_zero(&piece) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Remembers the clusters with more references than their refcounts.
fn note_too_low(too_low: &RefcountMap, survey: &Survey) {
    for finding in &survey.report.findings {
        if let (Kind::Count { stored, referenced }, Place::Clusters(first, count)) =
            (&finding.kind, finding.place)
        {
            if stored < referenced {
                too_low.add(first, count, 1);
            }
        }
    }
}

/// What is found where no refcount can be relied on.
#[derive(Default)]
struct Uncounted {
    /// Clusters with data that nothing references.
    clusters: RefcountMap,
    /// Refcount structures among them to which nothing points.
    former: HashSet<HostCluster>,
    /// The refcount tables among these.
    tables: Vec<Reftable>,
}

/// Looks for them. With the dirty bit a cluster that was lost need not have been counted yet.
fn uncounted(
    source: &dyn Storage,
    survey: &Survey,
    former: &FormerStructures,
) -> Result<Uncounted> {
    let geometry = &survey.area.geometry;
    let mut found = Uncounted::default();
    let is_dirty = survey.area.header.has_incompatible(incompatible::DIRTY);
    let end = HostCluster::new(geometry.clusters_for(survey.file_bytes).get());
    let all = [HostCluster::new(0)..end];
    let all_in_doubt = is_dirty && survey.report.hides_references;
    for range in if all_in_doubt { &all } else { survey.uncounted.as_slice() } {
        for at in unreferenced(source, survey, range.clone()) {
            let at = at?;
            let offset = geometry.offset_of(at);
            if is_empty(&source, offset, geometry.cluster_bytes())? {
                continue;
            }
            match former.kind(source, offset)? {
                None => found.clusters.add(at, ClusterCount::new(1), 1),
                Some(kind) => {
                    found.former.insert(at);
                    if let Former::Table(table) = kind {
                        found.tables.push(table);
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Clusters that nothing references with a refcount structure in them, among a bounded number.
fn left_behind(
    source: &dyn Storage,
    survey: &Survey,
    former: &FormerStructures,
) -> Result<HashSet<HostCluster>> {
    let geometry = &survey.area.geometry;
    let end = HostCluster::new(geometry.clusters_for(survey.file_bytes).get());
    let mut found = HashSet::new();
    for at in unreferenced(source, survey, HostCluster::new(0)..end).take(MAX_LEFT_BEHIND) {
        let at = at?;
        let Some(kind) = former.kind(source, geometry.offset_of(at))? else { continue };
        found.insert(at);
        if let Former::Table(table) = kind {
            // Of a small image a block has too few refcounts to be recognised by itself.
            let failed = |e| Error::io("read a refcount table", table.offset.get(), e);
            let blocks = table.blocks(source).map_err(failed)?.into_iter();
            found.extend(blocks.filter(|&block| survey.map.get(block) == 0));
        }
    }
    Ok(found)
}

/// The clusters of a range that nothing references and that are not holes.
fn unreferenced<'a>(
    source: &'a dyn Storage,
    survey: &'a Survey,
    range: Range<HostCluster>,
) -> impl Iterator<Item = Result<HostCluster>> + 'a {
    let runs = data::unreferenced(source, &survey.area.geometry, &survey.map, range);
    runs.flat_map(|run| {
        let failed = |(at, e): (HostOffset, _)| Error::io("look for data", at.get(), e);
        let (clusters, error) = match run {
            Ok(run) => (run.start.get()..run.end.get(), None),
            Err(error) => (0..0, Some(Err(failed(error)))),
        };
        clusters.map(|number| Ok(HostCluster::new(number))).chain(error)
    })
}

/// The clusters of the refcount table in use that one of these tables counts.
fn counted_elsewhere(
    source: &dyn ReadAt,
    survey: &Survey,
    tables: &[Reftable],
) -> Result<HashSet<HostCluster>> {
    let mut found = HashSet::new();
    let in_use = survey.regions.iter().filter(|region| region.kind == RegionKind::Reftable);
    for region in in_use.filter(|_| !tables.is_empty()) {
        let clusters = (0..region.count.get()).map(|n| region.first + ClusterCount::new(n));
        for cluster in clusters {
            let offset = survey.area.geometry.offset_of(cluster);
            let failed = |e| Error::io("read a refcount", offset.get(), e);
            for table in tables {
                if table.count(source, cluster).map_err(failed)? > 0 {
                    found.insert(cluster);
                }
            }
        }
    }
    Ok(found)
}
