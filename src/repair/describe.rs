//! What a step is for, in words and in the codes of findings.

use std::collections::HashMap;
use std::ops::Range;

use super::RepairMode;
use super::journal::{Purpose, Risk};
use super::plan::{BACK_IN_PLACE, CountChange, RepairPlan, Stage, Step};
use super::pointers::{self, Tables};
use crate::check::{Finding, Kind, Place, Source, Survey};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index, ReftableIndex};

/// Findings that the same stages mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Header,
    Limits,
    Zeroes,
    Counts,
    Flags,
    Structures,
    CrossLinks,
    Snapshots,
    Bitmaps,
    Orphans,
    /// What is wrong with the entry that is written.
    Entry,
}

impl Group {
    fn of_step(stage: &Stage, step: &Step) -> Self {
        match stage.what {
            "header fields" => Self::Header,
            "what is beyond the limits" => Self::Limits,
            "zero clusters out of place" => Self::Zeroes,
            "counts" => Self::Counts,
            "COPIED flags that must not be set" | "COPIED flags that are missing" => Self::Flags,
            "new refcount structures" | "the switch" => Self::Structures,
            "counts of copies" | "copies for each owner" | "pointers to the copies" => {
                Self::CrossLinks
            }
            BACK_IN_PLACE => Self::Orphans,
            what if what.contains("snapshot") => Self::Snapshots,
            what if what.contains("bitmap") => Self::Bitmaps,
            _ => match step {
                Step::Write { what, .. } if what.contains("snapshot") => Self::Snapshots,
                Step::Write { what, .. } if what.contains("bitmap") => Self::Bitmaps,
                _ => Self::Entry,
            },
        }
    }

    fn of_finding(finding: &Finding) -> Self {
        match (&finding.kind, finding.place) {
            (Kind::HeaderField(_), _)
            | (Kind::BeyondEnd { .. }, Place::Reftable | Place::CryptoHeader) => Self::Header,
            (Kind::TooManySnapshots(_) | Kind::SnapshotTableTooBig { .. }, _) => Self::Limits,
            (Kind::PreallocatedUnaligned(_), _) => Self::Zeroes,
            (Kind::Count { .. }, _) => Self::Counts,
            (Kind::DataCopied { .. } | Kind::L2TableCopied { .. }, _) => Self::Flags,
            (
                Kind::ReftableReserved
                | Kind::RefblockUnaligned
                | Kind::RefblockOutside
                | Kind::RefblockShared { .. },
                _,
            ) => Self::Structures,
            (
                Kind::Overlap { .. }
                | Kind::L2TableTwice { .. }
                | Kind::SharedData
                | Kind::CompressedOverlap { .. }
                | Kind::Overflow { .. },
                _,
            ) => Self::CrossLinks,
            (Kind::OrphanTable(_), _) => Self::Orphans,
            (_, Place::Snapshot(_) | Place::SnapshotTable | Place::L1Table(_)) => Self::Snapshots,
            (_, Place::Bitmap(_) | Place::BitmapDirectory) => Self::Bitmaps,
            _ => Self::Entry,
        }
    }
}

/// Codes of findings, each once, and whether mending them loses something.
#[derive(Debug, Clone, Default)]
struct Codes {
    codes: Vec<&'static str>,
    lossy: bool,
}

impl Codes {
    fn add(&mut self, finding: &Finding) {
        if !self.codes.contains(&finding.code()) {
            self.codes.push(finding.code());
        }
        self.lossy |= is_lossy(&finding.kind);
    }
}

/// Mending these drops something: snapshots or data of theirs beyond QEMU's limits.
const fn is_lossy(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::TooManySnapshots(_)
            | Kind::SnapshotTableTooBig { .. }
            | Kind::SnapshotExtraTooLarge(_)
    )
}

/// The findings of a round by what mends them.
#[derive(Debug, Default)]
pub struct Index {
    groups: HashMap<Group, Codes>,
    /// Wrong counts: their clusters, whether they are too low, and their code.
    counts: Vec<(Range<HostCluster>, bool, &'static str)>,
    /// Active L2 tables with flags that are set, or clear, and should not be; and their code.
    flags: HashMap<(HostOffset, bool), &'static str>,
    /// What is wrong with the L1 or L2 entry that lies there.
    entries: HashMap<HostOffset, Codes>,
}

impl Index {
    /// The findings of a check.
    pub fn of(plan: &RepairPlan, survey: &Survey) -> Self {
        let mut index = Self::default();
        let tables = Tables::of(survey);
        let lossy = plan.mode() == RepairMode::Lossy;
        for finding in &survey.report.findings {
            let group = Group::of_finding(finding);
            if let Some(offset) = entry_of(survey, &tables, finding.place) {
                index.entries.entry(offset).or_default().add(finding);
            }
            if plan.mended(finding).is_empty() && !lossy && group != Group::Orphans {
                continue;
            }
            index.groups.entry(group).or_default().add(finding);
            match (&finding.kind, finding.place) {
                (Kind::Count { stored, referenced }, Place::Clusters(first, count)) => {
                    let range = first..first + count;
                    index.counts.push((range, stored < referenced, finding.code()));
                }
                (Kind::DataCopied { entry, .. }, Place::L2(Source::Active, l1, _)) => {
                    if let Some(table) = tables.get(Source::Active, l1) {
                        let set = L2Entry::standard(*entry).copied();
                        index.flags.insert((table, set), finding.code());
                    }
                }
                _ => {}
            }
        }
        index
    }

    /// Codes of wrong counts of these clusters that the change makes right.
    fn counts_in(&self, clusters: &Range<HostCluster>, change: CountChange) -> Vec<&'static str> {
        let mut codes = Vec::new();
        for (range, low, code) in &self.counts {
            let inside = range.start < clusters.end && clusters.start < range.end;
            let wanted = match change {
                CountChange::Raise => *low,
                CountChange::Lower => !low,
                CountChange::Exact => true,
            };
            if inside && wanted && !codes.contains(code) {
                codes.push(code);
            }
        }
        codes
    }

    fn group(&self, group: Group) -> Vec<&'static str> {
        self.groups.get(&group).map(|codes| codes.codes.clone()).unwrap_or_default()
    }
}

/// Where the L1 or L2 entry lies that a finding is about.
fn entry_of(survey: &Survey, tables: &Tables, place: Place) -> Option<HostOffset> {
    match place {
        Place::L1(source, index) => l1_entry(survey, source, index),
        Place::L2(source, l1, l2) => Some(pointers::l2_entry(survey, tables.get(source, l1)?, l2)),
        _ => None,
    }
}

fn l1_entry(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    let table = match source {
        Source::Active => survey.area.header.l1_table,
        Source::Snapshot(at) => survey.snapshots.entries.get(at as usize)?.header.l1_table,
    };
    Some(table.saturating_add(u64::from(index.get()) * TABLE_ENTRY_BYTES))
}

/// What a step of a plan is for.
pub fn purpose(plan: &RepairPlan, index: &Index, stage: &Stage, step: &Step) -> Purpose {
    let group = Group::of_step(stage, step);
    let mends = mends(plan, index, group, step);
    let drops = stage.what.ends_with("dropped")
        || index.groups.get(&group).is_some_and(|codes| codes.lossy)
        || (plan.mode() == RepairMode::Lossy && matches!(group, Group::Snapshots | Group::Bitmaps));
    let risk = if drops && !is_housekeeping(step) { Risk::Lossy } else { Risk::Safe };
    Purpose { what: what(plan, step), mends, risk }
}

/// The bits of features that nobody here knows: clearing them is a writer's duty and mends nothing.
fn is_housekeeping(step: &Step) -> bool {
    matches!(step, Step::Write { what: "unknown autoclear bits in the header", .. })
}

fn mends(plan: &RepairPlan, index: &Index, group: Group, step: &Step) -> Vec<&'static str> {
    let clusters = |block: &ReftableIndex| {
        let (first, count) = described(plan, *block);
        first..first + count
    };
    match (group, step) {
        _ if is_housekeeping(step) => Vec::new(),
        (Group::Counts, Step::Counts { index: block, change, .. }) => {
            index.counts_in(&clusters(block), *change)
        }
        (Group::Structures, _) => {
            let mut codes = index.group(group);
            codes.extend(match step {
                Step::NewBlock { index: block, .. } => {
                    index.counts_in(&clusters(block), CountChange::Exact)
                }
                _ => index.group(Group::Counts),
            });
            codes
        }
        (Group::Flags, Step::Copied { table, set }) => {
            match index.flags.get(&(*table, !set)) {
                // Of a flood of findings only some are kept.
                None => index.group(group),
                Some(code) => vec![*code],
            }
        }
        (Group::Flags | Group::Zeroes | Group::Entry, Step::Write { offset, .. }) => {
            match index.entries.get(offset) {
                Some(codes) => codes.codes.clone(),
                // A table over other metadata is dropped by the entry that leads to it.
                None if group == Group::Entry => index.group(Group::CrossLinks),
                None => index.group(group),
            }
        }
        _ => match index.group(group) {
            // What lies over other metadata is dropped as a whole.
            none if none.is_empty() => index.group(Group::CrossLinks),
            codes => codes,
        },
    }
}

fn what(plan: &RepairPlan, step: &Step) -> String {
    let described = |index: &ReftableIndex| {
        let (first, count) = described(plan, *index);
        format!("of clusters {} - {}", first.get(), (first + count).get() - 1)
    };
    match step {
        Step::Write { what, .. } => (*what).to_owned(),
        Step::Counts { index, change, .. } => {
            let change = match change {
                CountChange::Raise => "too low",
                CountChange::Lower => "too high",
                CountChange::Exact => "wrong",
            };
            format!("counts that are {change} in the refcount block {}", described(index))
        }
        Step::NewBlock { index, .. } => format!("a new refcount block {}", described(index)),
        Step::Copy { from, table: true, .. } => {
            format!("a copy of the L2 table at {:#x}", from.get())
        }
        Step::Copy { from, table: false, .. } => {
            format!("a copy of the cluster at {:#x}", from.get())
        }
        Step::Copied { set: true, .. } => "COPIED flags that are missing in an L2 table".into(),
        Step::Copied { set: false, .. } => "COPIED flags that are wrong in an L2 table".into(),
    }
}

/// The clusters whose counts a block has.
fn described(plan: &RepairPlan, index: ReftableIndex) -> (HostCluster, ClusterCount) {
    let count = ClusterCount::new(plan.geometry.refblock_entries());
    (plan.geometry.first_cluster_of_block(index), count)
}
