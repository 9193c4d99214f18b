//! What a step is for, in words and in the codes of findings.

use super::journal::{Purpose, Risk};
use super::plan::{CountChange, RepairPlan, Stage, Step};
use crate::check::{Finding, Kind, Place, Source, Survey};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::L1Entry;
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};

/// Findings that the same stages mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Limits,
    Zeroes,
    Counts,
    Flags,
    Structures,
    CrossLinks,
    Snapshots,
    Other,
}

impl Group {
    fn of_stage(stage: &Stage) -> Self {
        match stage.what {
            "what is beyond the limits" => Self::Limits,
            "zero clusters out of place" => Self::Zeroes,
            "counts" => Self::Counts,
            "COPIED flags that must not be set" | "COPIED flags that are missing" => Self::Flags,
            "new refcount structures" | "the switch" => Self::Structures,
            "counts of copies" | "copies for each owner" | "pointers to the copies" => {
                Self::CrossLinks
            }
            "counts of the new snapshot table" | "the new snapshot table" | "the switch to it" => {
                Self::Snapshots
            }
            _ => Self::Other,
        }
    }

    const fn of_kind(kind: &Kind) -> Self {
        match kind {
            Kind::TooManySnapshots(_) | Kind::SnapshotTableTooBig { .. } => Self::Limits,
            Kind::PreallocatedUnaligned(_) => Self::Zeroes,
            Kind::Count { .. } => Self::Counts,
            Kind::DataCopied { .. } | Kind::L2TableCopied { .. } => Self::Flags,
            Kind::ReftableReserved
            | Kind::RefblockUnaligned
            | Kind::RefblockOutside
            | Kind::RefblockShared { .. } => Self::Structures,
            Kind::Overlap { .. }
            | Kind::L2TableTwice { .. }
            | Kind::SharedData
            | Kind::CompressedOverlap { .. }
            | Kind::Overflow { .. } => Self::CrossLinks,
            Kind::SnapshotExtraTooLarge(_) | Kind::SnapshotIncomplete => Self::Snapshots,
            _ => Self::Other,
        }
    }
}

/// What a step of a plan is for.
pub fn purpose(plan: &RepairPlan, survey: &Survey, stage: &Stage, step: &Step) -> Purpose {
    let group = Group::of_stage(stage);
    let mended = survey.report.findings.iter().filter(|finding| {
        relates(plan, survey, group, step, finding) && !plan.mended(finding).is_empty()
    });
    let (mut mends, mut risk) = (Vec::new(), Risk::Safe);
    for finding in mended {
        risk = risk.max(risk_of(&finding.kind));
        if !mends.contains(&finding.code()) {
            mends.push(finding.code());
        }
    }
    Purpose { what: what(plan, step), mends, risk }
}

/// Mending these drops something: snapshots beyond the limit, extra data beyond it.
const fn risk_of(kind: &Kind) -> Risk {
    match kind {
        Kind::TooManySnapshots(_)
        | Kind::SnapshotTableTooBig { .. }
        | Kind::SnapshotExtraTooLarge(_) => Risk::Lossy,
        _ => Risk::Safe,
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
        Step::Copy { from, table: true, .. } => format!("a copy of the L2 table at {from}"),
        Step::Copy { from, table: false, .. } => format!("a copy of the cluster at {from}"),
        Step::Copied { set: true, .. } => "COPIED flags that are missing in an L2 table".into(),
        Step::Copied { set: false, .. } => "COPIED flags that are wrong in an L2 table".into(),
    }
}

/// The clusters whose counts a block has.
fn described(plan: &RepairPlan, index: ReftableIndex) -> (HostCluster, ClusterCount) {
    let count = ClusterCount::new(plan.geometry.refblock_entries());
    (plan.geometry.first_cluster_of_block(index), count)
}

/// Whether a finding is about what a step writes.
fn relates(
    plan: &RepairPlan,
    survey: &Survey,
    group: Group,
    step: &Step,
    finding: &Finding,
) -> bool {
    let kind = Group::of_kind(&finding.kind);
    let is_counted_in = |index: ReftableIndex| {
        let (first, count) = described(plan, index);
        let Place::Clusters(at, length) = finding.place else { return false };
        at < first + count && first < at + length
    };
    match (group, step) {
        (Group::Counts, Step::Counts { index, change, .. }) => {
            kind == group && is_counted_in(*index) && goes_with(*change, &finding.kind)
        }
        (Group::Structures, Step::NewBlock { index, .. }) => {
            kind == group || (kind == Group::Counts && is_counted_in(*index))
        }
        (Group::Structures, _) => kind == group || kind == Group::Counts,
        (Group::Flags, Step::Copied { table, set }) => has_flag(survey, finding, *table, *set),
        (Group::Flags, Step::Write { offset, .. }) => has_l1_flag(survey, finding, *offset),
        // The bits of features that nobody here knows: a writer's duty, no finding.
        (_, Step::Write { what: "unknown autoclear bits in the header", .. }) => false,
        _ => kind == group,
    }
}

fn goes_with(change: CountChange, kind: &Kind) -> bool {
    let Kind::Count { stored, referenced } = kind else { return false };
    match change {
        CountChange::Raise => stored < referenced,
        CountChange::Lower => stored > referenced,
        CountChange::Exact => true,
    }
}

/// Whether a finding is about a flag in an active L2 table that becomes `set`.
fn has_flag(survey: &Survey, finding: &Finding, table: HostOffset, set: bool) -> bool {
    let (Kind::DataCopied { entry, .. }, Place::L2(Source::Active, l1, _)) =
        (&finding.kind, finding.place)
    else {
        return false;
    };
    let leads_there = |visit: &crate::check::Visit| {
        visit.source == Source::Active && visit.index == l1 && visit.entry.offset() == table
    };
    L2Entry::standard(*entry).copied() != set && survey.visits.iter().any(leads_there)
}

/// Whether a finding is about the flag of the active L1 entry that lies there.
fn has_l1_flag(survey: &Survey, finding: &Finding, offset: HostOffset) -> bool {
    let (Kind::L2TableCopied { entry, .. }, Place::L1(Source::Active, index)) =
        (&finding.kind, finding.place)
    else {
        return false;
    };
    let place = u64::from(index.get()) * TABLE_ENTRY_BYTES;
    survey.area.header.l1_table.saturating_add(place) == offset
        && survey.wrong_l1_flags.contains(&(index, L1Entry(*entry).0))
}
