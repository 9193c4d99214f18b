//! What a repair will write, in order. Writes nothing; reads beside what the check left only L2
//! tables that hold cross-links.

use std::sync::Arc;

use super::cross_links::{self, Crossed};
use super::mended::Disputed;
use super::placement::{self, Placement};
use super::pointers::{self, Tables};
use super::snapshot_table;
use super::{RepairMode, only_leaks_and_flags};
use super::{apply, entries, header_fields, loss, orphans};
use crate::check::refcount_map::RefcountMap;
use crate::check::{Block, Finding, Kind, Place, RegionKind, Survey};
use crate::error::{Error, Result};
use crate::format::encode_entries;
use crate::format::feature::autoclear;
use crate::format::header::{HeaderField, encode_field};
use crate::format::l1::L1Entry;
use crate::format::l2::ZERO;
use crate::format::snapshot::MAX_SNAPSHOTS;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, L2Index, ReftableIndex};
use crate::storage::{Capacity, Storage};

/// The stage that restores lost L1 entries.
pub(super) const BACK_IN_PLACE: &str = "L2 tables back in their places";

/// Which counts of a block are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountChange {
    /// Those that are too low.
    Raise,
    /// Those that are too high.
    Lower,
    /// Both.
    Exact,
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These bytes at this place.
    Write {
        /// Where.
        offset: HostOffset,
        /// What.
        bytes: Vec<u8>,
        /// What it is, as a phrase.
        what: &'static str,
    },
    /// Wrong counts in a refcount block that exists.
    Counts {
        /// Which block.
        index: ReftableIndex,
        /// Where it lies.
        block: HostOffset,
        /// Which of its counts.
        change: CountChange,
    },
    /// A new refcount block, whole.
    NewBlock {
        /// Which block.
        index: ReftableIndex,
        /// Where it goes.
        block: HostOffset,
    },
    /// A copy of a cluster; in an L2 table's copy no COPIED flag is set.
    Copy {
        /// Where the bytes lie.
        from: HostOffset,
        /// Where the copy goes.
        to: HostOffset,
        /// Whether it is an L2 table.
        table: bool,
    },
    /// Wrong COPIED flags in an L2 table: those that are set, or those that are clear.
    Copied {
        /// Where the table lies.
        table: HostOffset,
        /// What the flags become.
        set: bool,
    },
}

/// Steps that may reach the disk in any order; all are on it before the next stage begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What the stage is for.
    pub what: &'static str,
    /// What it writes.
    pub steps: Vec<Step>,
}

/// A repair that can be printed and carried out.
#[derive(Debug)]
pub struct RepairPlan {
    /// The stages in order; none where there is nothing to do.
    pub stages: Vec<Stage>,
    /// Whether the refcount structures are built anew.
    pub rebuilds: bool,
    /// The counts that blocks get.
    pub target: Arc<RefcountMap>,
    /// The image's sizes.
    pub geometry: Geometry,
    /// The cluster after the file's last one, before the repair. Refcounts from there on stay as they
    /// are where nothing is referenced: they are the only sign of what a file has lost that was cut off.
    pub file_end: HostCluster,
    /// Whether data lies in an external data file.
    pub data_file: bool,
    /// What may be mended.
    pub mode: RepairMode,
    /// Whether counts that are too high stay.
    pub(super) held: bool,
    /// Whether COPIED flags are mended.
    pub(super) flags: bool,
    /// What of it may not be written.
    pub(super) disputed: Disputed,
}

impl RepairPlan {
    /// What may be mended.
    pub const fn mode(&self) -> RepairMode {
        self.mode
    }
}

/// What a round aims at.
#[derive(Debug)]
pub struct Aim<'a> {
    /// What may be mended.
    pub mode: RepairMode,
    /// The counts that blocks get.
    pub target: Arc<RefcountMap>,
    /// Clusters that were found shared by mistake, in whatever round.
    pub crossed: &'a Crossed,
}

/// Plans one round. What changes references comes first and alone: the next round's check counts
/// anew.
pub fn plan(storage: &dyn Storage, survey: &Survey, aim: Aim) -> Result<RepairPlan> {
    let capacity = growth(survey, storage.capacity());
    let mut plan = RepairPlan::new(survey, &aim);
    // With something unread, what seems free may be in use, and what seems a refcount block data.
    if survey.report.tally.check_errors > 0 {
        return Ok(plan);
    }
    match stages(&mut plan, storage, survey, aim.crossed, capacity) {
        Err(Error::NoRoom { needed, purpose }) if capacity != storage.capacity() => {
            plan = RepairPlan::new(survey, &aim);
            if aim.mode == RepairMode::Lossy {
                loss::plan(&mut plan, storage, survey)?;
            }
            if plan.stages.is_empty() {
                return Err(Error::Refused(format!(
                    "no room for {needed} bytes of {purpose}: the file cannot grow over what pointers lead to \
                     past its end; --allow-data-loss gives that up"
                )));
            }
        }
        planned => planned?,
    }
    if !plan.stages.is_empty() {
        let unknown = unknown_autoclear(survey);
        plan.stages[0].steps.splice(0..0, unknown);
    }
    Ok(plan)
}

/// How far the file may grow: were it longer, what is missing past its end would read as zeroes, and nothing would
/// tell of the loss.
fn growth(survey: &Survey, capacity: Capacity) -> Capacity {
    match survey.beyond.first() {
        Some(missing) if capacity == Capacity::Growable => {
            // With less than a cluster missing, no pointer is told to lead past the end.
            let bytes = survey.area.geometry.cluster_bytes();
            let most = survey.area.geometry.offset_of(missing).get().saturating_sub(bytes);
            Capacity::Fixed(most.max(survey.file_bytes / bytes * bytes))
        }
        _ => capacity,
    }
}

fn stages(
    plan: &mut RepairPlan,
    storage: &dyn Storage,
    survey: &Survey,
    crossed: &Crossed,
    capacity: Capacity,
) -> Result<()> {
    let (mode, all) = (plan.mode, plan.mode.is_all());
    if all {
        plan.stage("header fields", header_fields::plan(&storage, survey, mode)?);
    }
    if plan.stages.is_empty() && all {
        plan.stage("what is beyond the limits", excess_snapshots(survey));
    }
    if plan.stages.is_empty() && all {
        plan.stage(BACK_IN_PLACE, orphans::attach(survey, mode));
        plan.stage("entries with one right answer", entries::plan(storage, survey)?);
    }
    if plan.stages.is_empty() {
        if all {
            plan.stage("zero clusters out of place", misplaced_zeroes(survey));
        }
        counts_and_flags(plan, storage, survey, capacity)?;
    }
    if plan.stages.is_empty() && all {
        cross_links::plan(plan, &storage, survey, crossed, capacity);
    }
    if plan.stages.is_empty() && all {
        snapshot_table::plan(plan, &storage, survey, capacity, RepairMode::All)?;
    }
    if plan.stages.is_empty() && mode == RepairMode::Lossy {
        loss::plan(plan, storage, survey)?;
    }
    Ok(())
}

impl RepairPlan {
    /// Nothing to do as yet.
    fn new(survey: &Survey, aim: &Aim) -> Self {
        Self {
            stages: Vec::new(),
            rebuilds: false,
            target: Arc::clone(&aim.target),
            geometry: survey.area.geometry,
            file_end: HostCluster::new(survey.area.geometry.clusters_for(survey.file_bytes).get()),
            data_file: survey.area.header.has_data_file(),
            mode: aim.mode,
            held: survey.report.hides_references,
            flags: aim.mode.is_all() || only_leaks_and_flags(&survey.report),
            disputed: Disputed::of(survey),
        }
    }

    /// The counts that blocks get, to be changed: a copy of those that the check counted.
    pub(super) fn target_mut(&mut self) -> &RefcountMap {
        Arc::make_mut(&mut self.target)
    }

    /// Adds a stage unless it is empty.
    pub(super) fn stage(&mut self, what: &'static str, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.stages.push(Stage { what, steps });
        }
    }
}

fn counts_and_flags(
    plan: &mut RepairPlan,
    storage: &dyn Storage,
    survey: &Survey,
    capacity: Capacity,
) -> Result<()> {
    let all = plan.mode.is_all();
    if plan.flags {
        plan.stage("COPIED flags that must not be set", copied_flags(plan, survey, false));
    }
    if all && (survey.refcounts.is_broken() || survey.missing_blocks) {
        rebuild(plan, survey, capacity, ClusterCount::new(0))?;
    } else {
        plan.stage("counts", counts(plan, storage, survey)?);
    }
    if plan.flags {
        plan.stage("COPIED flags that are missing", copied_flags(plan, survey, true));
    }
    Ok(())
}

/// Counts of blocks that exist, patched in place.
fn counts(plan: &RepairPlan, storage: &dyn Storage, survey: &Survey) -> Result<Vec<Step>> {
    let change = match (plan.mode, plan.held) {
        (RepairMode::Leaks, true) => return Ok(Vec::new()),
        (RepairMode::Leaks, false) => CountChange::Lower,
        (RepairMode::All | RepairMode::Lossy, true) => CountChange::Raise,
        (RepairMode::All | RepairMode::Lossy, false) => CountChange::Exact,
    };
    if change == CountChange::Raise && !survey.too_low {
        return Ok(Vec::new());
    }
    let sound = survey.differing.iter().filter_map(|&index| survey.refcounts.block(index));
    let sound = sound.filter(|block| block.sound && pointers::is_undisputed(survey, block.offset));
    // Blocks can differ from the references for good: where counts are kept, or can't be that large.
    let stays = |f: &Finding| matches!(f.kind, Kind::Overflow { .. } | Kind::CountedBeyondEnd);
    let kept = plan.held
        || !Arc::ptr_eq(&plan.target, &survey.map)
        || survey.report.findings.iter().any(stays);
    let mut steps = Vec::new();
    for Block { index, offset, .. } in sound {
        if !kept || apply::changes_counts(storage, plan, index, offset, change)? {
            steps.push(Step::Counts { index, block: offset, change });
        }
    }
    Ok(steps)
}

/// New blocks and a new table beside the old ones, then one write that switches to them. The new
/// counts do not know the old structures: they are free once nothing points to them. `extra`
/// clusters are kept free of both, and counted.
pub(super) fn rebuild(
    plan: &mut RepairPlan,
    survey: &Survey,
    capacity: Capacity,
    extra: ClusterCount,
) -> Result<HostCluster> {
    let geometry = &survey.area.geometry;
    let old: Vec<_> = survey
        .regions
        .iter()
        .filter(|r| matches!(r.kind, RegionKind::Reftable | RegionKind::Refblock))
        .collect();
    for region in &old {
        plan.target_mut().take(region.first, region.count, region.pointers);
    }
    let avoid = old.iter().map(|r| r.first..r.end()).collect();
    let placement = placement::place(geometry, &plan.target, avoid, capacity, extra)?;
    for &(first, count) in &placement.taken {
        plan.target_mut().add(first, count, 1);
    }
    let at = |cluster| geometry.offset_of(cluster);
    let new_block = |&(index, cluster)| Step::NewBlock { index, block: at(cluster) };
    let mut steps: Vec<Step> = placement.blocks.iter().map(new_block).collect();
    let table = encode_entries(&table_entries(geometry, &placement));
    let table_at = at(placement.table);
    steps.push(Step::Write { offset: table_at, bytes: table, what: "the new refcount table" });
    plan.stage("new refcount structures", steps);
    let mut pointer = encode_field(HeaderField::ReftableOffset, table_at.get());
    let clusters = placement.table_clusters.get();
    pointer.extend(encode_field(HeaderField::ReftableClusters, clusters));
    let offset = HostOffset::new(HeaderField::ReftableOffset.place().0);
    let what = "the refcount table's place and length in the header";
    plan.stage("the switch", vec![Step::Write { offset, bytes: pointer, what }]);
    plan.rebuilds = true;
    Ok(placement.extra)
}

fn table_entries(geometry: &Geometry, placement: &Placement) -> Vec<u64> {
    let entries = geometry.bytes_of(placement.table_clusters) / 8;
    let mut table = vec![0; usize::try_from(entries).unwrap_or(0)];
    for &(index, cluster) in &placement.blocks {
        if let Some(entry) = usize::try_from(index.get()).ok().and_then(|i| table.get_mut(i)) {
            *entry = geometry.offset_of(cluster).get();
        }
    }
    table
}

/// COPIED flags in the active L1 table and in its L2 tables that are to be set, or cleared.
fn copied_flags(plan: &RepairPlan, survey: &Survey, set: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let l1_table = survey.area.header.l1_table;
    for (index, bits) in survey.wrong_l1_flags() {
        let entry = L1Entry(bits);
        if entry.copied() == set || plan.disputed.l1_table {
            continue;
        }
        let offset = l1_table.saturating_add(u64::from(index.get()) * 8);
        let bytes = entry.with_copied(set).0.to_be_bytes().to_vec();
        steps.push(Step::Write { offset, bytes, what: "an L1 entry" });
    }
    for &table in &survey.wrong_l2_flags {
        if pointers::is_undisputed(survey, table) {
            steps.push(Step::Copied { table, set });
        }
    }
    steps
}

/// The header's count of snapshots, cut to what QEMU opens.
fn excess_snapshots(survey: &Survey) -> Vec<Step> {
    let mut count = survey.area.header.snapshot_count.min(MAX_SNAPSHOTS);
    let excess = |f: &&Finding| {
        matches!(f.kind, Kind::TooManySnapshots(_) | Kind::SnapshotTableTooBig { .. })
    };
    let mut found = survey.report.findings.iter().filter(excess).peekable();
    if found.peek().is_none() {
        return Vec::new();
    }
    for finding in found {
        if let Kind::SnapshotTableTooBig { overhanging } = finding.kind {
            count -= overhanging;
        }
    }
    let offset = HostOffset::new(HeaderField::SnapshotCount.place().0);
    let bytes = encode_field(HeaderField::SnapshotCount, u64::from(count));
    vec![Step::Write { offset, bytes, what: "the count of snapshots in the header" }]
}

/// Preallocated zero clusters in the middle of a cluster: zero without a cluster says the same.
fn misplaced_zeroes(survey: &Survey) -> Vec<Step> {
    let mut steps = Vec::new();
    let tables = Tables::of(survey);
    for finding in &survey.report.findings {
        let (Kind::PreallocatedUnaligned(_), Place::L2(source, l1, l2)) =
            (&finding.kind, finding.place)
        else {
            continue;
        };
        if let Some(table) = tables.get(source, l1) {
            if pointers::is_undisputed(survey, table) {
                steps.push(zero_entry(survey, table, l2));
            }
        }
    }
    steps.dedup();
    steps
}

fn zero_entry(survey: &Survey, table: HostOffset, l2: L2Index) -> Step {
    let offset = pointers::l2_entry(survey, table, l2);
    // With subclusters the bitmap, which is left as it is, says which of them are zero; others may lie in a backing file.
    let bits = if survey.area.geometry.extended_l2() { 0 } else { ZERO };
    let bytes = bits.to_be_bytes().to_vec();
    Step::Write { offset, bytes, what: "an L2 entry without a cluster" }
}

/// A writer that does not know an autoclear feature clears its bit.
fn unknown_autoclear(survey: &Survey) -> Option<Step> {
    let bits = survey.area.header.autoclear;
    let known = bits & autoclear::KNOWN;
    (bits != known).then(|| Step::Write {
        offset: HostOffset::new(HeaderField::Autoclear.place().0),
        bytes: encode_field(HeaderField::Autoclear, known),
        what: "unknown autoclear bits in the header",
    })
}
