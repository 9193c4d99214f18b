//! What is known of clusters that nothing valid refers to: built from the first check of a repair and kept over all its
//! rounds, since repairing a structure removes the reason why a cluster was suspicious. Only this says what may be
//! released, and into which clusters something may be placed.

use std::collections::{BTreeMap, HashSet};

use super::former::FormerStructures;
use super::pointers;
use crate::check::orphan::Slot;
use crate::check::refcount_map::RefcountMap;
use crate::check::{Block, Finding, Hold, Kind, Survey};
use crate::error::{Error, Result};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::storage::{Capacity, ReadAt, Storage};

/// Bytes that are read together to find out whether a cluster is empty.
const PIECE: usize = 64 << 10;

/// Bytes that copies may take in any file.
const SPARE_BYTES: u64 = 1 << 20;

/// What a repair knows of clusters that seem free.
#[derive(Debug)]
pub struct Quarantine {
    /// Whether leaked clusters, and refcounts that are too high, may be what a damaged pointer refers to.
    holds: bool,
    /// Whether the file cannot grow, or must not: pointers refer to what lies past its end.
    is_limited: bool,
    /// The bytes that copies may take.
    most_copied: u64,
    /// Whether what may be lost was given up.
    given_up: bool,
    /// Whether a refcount of 0 can be believed.
    trusted: bool,
    /// Clusters with data that nothing references and of which no refcount says whether they are in use.
    uncounted: RefcountMap,
    /// Refcount blocks of which most is lost and which hold something: where other damage is too, that may be data.
    foreign: Vec<ReftableIndex>,
    /// Refcount structures to which nothing points: where there are some, the refcount table points to something else in
    /// their place.
    former: HashSet<HostCluster>,
    /// Clusters that the repair itself emptied: nothing is lost with them.
    vacated: RefcountMap,
    /// Clusters that several guest positions share by mistake.
    crossed: HashSet<HostCluster>,
    /// L1 entries that pointed to another structure, with the offset of what they took for an L2 table.
    condemned: BTreeMap<Slot, (HostOffset, &'static str)>,
}

impl Quarantine {
    /// What the first check of a repair says.
    pub fn of(storage: &dyn Storage, survey: &Survey) -> Result<Self> {
        let (uncounted, former) = uncounted(storage, survey)?;
        let trusted = survey.uncounted.is_empty() && !survey.too_low;
        Ok(Self {
            holds: uncounted.last().is_some() || holds(survey),
            is_limited: growth(survey, storage.capacity()) != Capacity::Growable,
            most_copied: survey.file_bytes.saturating_add(SPARE_BYTES),
            given_up: false,
            trusted,
            uncounted,
            foreign: foreign(storage, survey)?,
            former,
            vacated: RefcountMap::default(),
            crossed: HashSet::new(),
            condemned: BTreeMap::new(),
        })
    }

    /// Takes what a later check says: what is suspicious stays so.
    pub fn note(&mut self, survey: &Survey) {
        self.holds |= holds(survey);
        self.trusted &= survey.uncounted.is_empty();
    }

    /// Gives up what may be lost: leaked clusters are waste from now on.
    pub fn give_up(&mut self) {
        (self.holds, self.given_up) = (false, true);
        self.uncounted = RefcountMap::default();
    }

    /// Whether what may be lost was given up.
    pub const fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Whether leaked clusters stay as they are, by what this check says.
    pub const fn holds(&self, survey: &Survey) -> bool {
        self.holds || holds(survey)
    }

    /// How the next check is to judge refcounts that are too high.
    pub const fn hold(&self) -> Hold {
        match (self.given_up, self.holds) {
            (true, _) => Hold::Never,
            (false, true) => Hold::Always,
            (false, false) => Hold::ByEvidence,
        }
    }

    /// Clusters with data of which no refcount says whether they are in use: each is counted once.
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

    /// Whether the refcount table points to something else in place of this block, of which most is lost.
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

    /// Remembers that the repair emptied these clusters itself.
    pub fn vacate(&self, first: HostCluster, count: ClusterCount) {
        self.vacated.add(first, count, 1);
    }

    /// Whether the repair emptied this cluster itself.
    pub fn is_vacated(&self, cluster: HostCluster) -> bool {
        self.vacated.get(cluster) > 0
    }

    /// Whether copies may take so many bytes: each cluster has one right owner, so that all others' copies are no more than
    /// the file had.
    pub const fn may_copy(&self, bytes: u64) -> bool {
        bytes <= self.most_copied
    }

    /// Remembers that guest positions share these clusters by mistake.
    pub fn cross(&mut self, clusters: impl IntoIterator<Item = HostCluster>) {
        self.crossed.extend(clusters);
    }

    /// Remembers L1 entries that point to what is not an L2 table: moving the other structure away would hide it.
    pub fn condemn(&mut self, entries: BTreeMap<Slot, (HostOffset, &'static str)>) {
        self.condemned = entries;
    }

    /// The L1 entries that pointed to what is not an L2 table.
    pub const fn condemned(&self) -> &BTreeMap<Slot, (HostOffset, &'static str)> {
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

    /// Whether something may be placed into a cluster that nothing references and nothing holds: it is empty or past
    /// the end of the file; where a file cannot grow, also one whose refcount says that it is free.
    pub fn is_free(
        &self,
        storage: &dyn Storage,
        survey: &Survey,
        cluster: HostCluster,
    ) -> Result<bool> {
        let at = survey.area.geometry.offset_of(cluster);
        if at.get() >= survey.file_bytes {
            return Ok(true);
        }
        let fixed = matches!(storage.capacity(), Capacity::Fixed(_));
        if fixed && (self.trusted || self.given_up) {
            return Ok(true);
        }
        // What a repair that was interrupted wrote is among them.
        if self.is_limited && self.former.contains(&cluster) {
            return Ok(true);
        }
        is_empty(&storage, at, survey.area.geometry.cluster_bytes())
    }
}

/// Whether a check found leaked clusters, and something that one of them may be lost with.
const fn holds(survey: &Survey) -> bool {
    survey.held && survey.report.tally.leaks > 0
}

/// The blocks of which most is lost and which are not empty, where something else is damaged.
fn foreign(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<ReftableIndex>> {
    let mut foreign = Vec::new();
    for &index in survey.lost_blocks.iter().filter(|_| survey.held) {
        if let Some(block) = survey.refcounts.block(index) {
            if !is_empty(source, block.offset, survey.area.geometry.cluster_bytes())? {
                foreign.push(index);
            }
        }
    }
    Ok(foreign)
}

/// How far the file may grow: were it longer, what is missing past its end would read as zeroes, and nothing would
/// show the loss.
pub fn growth(survey: &Survey, capacity: Capacity) -> Capacity {
    let geometry = &survey.area.geometry;
    let bytes = geometry.cluster_bytes();
    let whole = survey.file_bytes / bytes * bytes;
    let is_cut = |f: &Finding| matches!(f.kind, Kind::CutOff { .. });
    // Of a snapshot table that cannot be read nothing but its beginning is known.
    let unread = survey.snapshots.problem.is_some();
    let snapshots = unread.then(|| geometry.cluster_floor(survey.area.header.snapshot_table));
    match survey.beyond.first().into_iter().chain(snapshots).min() {
        _ if capacity != Capacity::Growable => capacity,
        _ if survey.report.findings.iter().any(is_cut) => Capacity::Fixed(whole),
        Some(missing) => {
            // With less than a cluster missing, no pointer is reported to point past the end.
            let most = geometry.offset_of(missing).get().saturating_sub(bytes);
            Capacity::Fixed(most.max(whole))
        }
        None => capacity,
    }
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
        if piece.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Clusters with data that nothing references, where no refcount can be believed; and the refcount
/// structures among them to which nothing points.
fn uncounted(source: &dyn Storage, survey: &Survey) -> Result<(RefcountMap, HashSet<HostCluster>)> {
    let geometry = &survey.area.geometry;
    let mut unused = HashSet::new();
    let found = RefcountMap::default();
    let former = FormerStructures::of(survey);
    for range in &survey.uncounted {
        for run in survey.map.unreferenced(range.clone()) {
            let mut at = run.start;
            while at < run.end {
                let offset = geometry.offset_of(at);
                let failed = |e| Error::io("look for data", offset.get(), e);
                let Some(data) = source.next_data(offset.get()).map_err(failed)? else { break };
                at = at.max(geometry.cluster_floor(HostOffset::new(data.start)));
                if at >= run.end {
                    break;
                }
                let offset = geometry.offset_of(at);
                if !is_empty(&source, offset, geometry.cluster_bytes())? {
                    if former.contains(source, offset)? {
                        unused.insert(at);
                    } else {
                        found.add(at, ClusterCount::new(1), 1);
                    }
                }
                at = at.next();
            }
        }
    }
    Ok((found, unused))
}
