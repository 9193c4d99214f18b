//! What is known of clusters that nothing valid refers to: built from the first check of a repair and kept over all its
//! rounds, since repairing a structure removes the reason why a cluster was suspicious. Only this says what may be
//! released, and into which clusters something may be placed.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::former::FormerStructures;
use super::pointers;
use crate::check::orphan::Slot;
use crate::check::refcount_map::RefcountMap;
use crate::check::{Block, Finding, Hold, Kind, Place, Survey};
use crate::error::{Error, Result};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::storage::{Capacity, ReadAt, Storage};

/// Bytes that are read together to find out whether a cluster is empty.
const PIECE: usize = 64 << 10;

/// Bytes by which copies may make any file longer.
const SPARE_BYTES: u64 = 1 << 20;

/// What a repair knows of clusters that seem free.
#[derive(Debug)]
pub struct Quarantine {
    /// Whether leaked clusters, and refcounts that are too high, may be what a damaged pointer refers to.
    holds: bool,
    /// Whether the file cannot grow, or must not: pointers refer to what lies past its end.
    is_limited: bool,
    /// The length in bytes that copies may give the file.
    most_bytes: u64,
    /// Whether what may be lost was given up.
    given_up: bool,
    /// Whether a refcount of 0 can be believed.
    trusted: bool,
    /// Clusters with data that nothing references and of which no refcount says whether they are in use.
    uncounted: RefcountMap,
    /// Refcount blocks of which most is lost and which hold something: where other damage is too, that may be data.
    foreign: Vec<ReftableIndex>,
    /// Refcount structures to which nothing points.
    former: HashSet<HostCluster>,
    /// Whether a refcount block was found to which nothing points: then the refcount table points to something else in
    /// its place.
    misdirected: bool,
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
            holds: uncounted.last().is_some() || holds_for_good(survey),
            is_limited: is_limited(storage, survey),
            most_bytes: survey.file_bytes.saturating_mul(2).saturating_add(SPARE_BYTES),
            given_up: false,
            trusted,
            uncounted,
            foreign: foreign(storage, survey)?,
            misdirected: !former.is_empty(),
            former,
            vacated: RefcountMap::default(),
            crossed: HashSet::new(),
            condemned: BTreeMap::new(),
        })
    }

    /// Takes what a later check says: what is suspicious stays so.
    pub fn note(&mut self, survey: &Survey) {
        self.holds |= holds_for_good(survey);
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
        self.holds || survey.held && survey.report.tally.leaks > 0
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
        self.misdirected
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

    /// Whether copies may make the file so long: each cluster has one right owner, so that all others' copies are no more than
    /// the file had.
    pub const fn may_grow_to(&self, bytes: u64) -> bool {
        bytes <= self.most_bytes
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

/// Whether leaked clusters are held over all rounds: something is damaged that a repair can make disappear without knowing
/// what it referred to.
fn holds_for_good(survey: &Survey) -> bool {
    let settled = |finding: &Finding| match &finding.kind {
        // Refcounts that are too low are raised.
        Kind::Unaccounted { entries, more, .. } => {
            *more == 0 && !entries.iter().any(|place| matches!(place, Place::Clusters(..)))
        }
        _ => finding.is_settled_by_repair(),
    };
    let findings = &survey.report.findings;
    let hides = findings.iter().any(|f| f.may_hide_references() && !settled(f));
    survey.held && survey.report.tally.leaks > 0 && (hides || survey.report.unlisted > 0)
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

/// Whether a file cannot grow, or must not.
fn is_limited(storage: &dyn Storage, survey: &Survey) -> bool {
    let is_cut = |f: &Finding| matches!(f.kind, Kind::CutOff { .. });
    storage.capacity() != Capacity::Growable
        || survey.beyond.first().is_some()
        || survey.snapshots.problem.is_some()
        || survey.report.findings.iter().any(is_cut)
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
        let mut runs: Vec<Range<HostCluster>> = Vec::new();
        survey.map.for_each_run(range.clone(), |first, count, references| {
            if references == 0 {
                runs.push(first..first + count);
            }
        });
        for run in runs {
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
