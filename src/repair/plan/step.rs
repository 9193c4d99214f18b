//! A plan: stages of steps, each with what it writes, what it risks and which findings it repairs.

use std::sync::Arc;

use super::purpose::Risk;
use crate::check::report::kind::header::HEADER_FIELD;
use crate::check::survey::refcount_map::RefcountMap;
use crate::check::{CheckReport, Finding, Kind, Severity, Survey};
use crate::format::header::{HeaderField, encode_field};
use crate::format::{Geometry, HostOffset, ReftableIndex};
use crate::repair::RepairMode;

/// Bytes of table entries that one step writes, at most.
const MAX_JOINED: usize = 64 << 10;

/// Which refcounts of a block are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountChange {
    /// Those that are too low.
    Raise,
    /// Those that are too high.
    Lower,
    /// Both.
    Exact,
}

/// What a step writes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// These bytes at this offset.
    Bytes {
        /// Where.
        offset: HostOffset,
        /// What.
        bytes: Vec<u8>,
        /// What it is, as a phrase.
        what: &'static str,
    },
    /// Wrong refcounts in an existing refcount block.
    Counts {
        /// Which block.
        index: ReftableIndex,
        /// Its host offset.
        block: HostOffset,
        /// Which of its refcounts.
        change: CountChange,
    },
    /// A new refcount block, whole.
    NewBlock {
        /// Which block.
        index: ReftableIndex,
        /// Its host offset.
        block: HostOffset,
    },
    /// A copy of a cluster; in an L2 table's copy no COPIED flag is set.
    Copy {
        /// The offset of the original.
        from: HostOffset,
        /// The offset of the copy.
        to: HostOffset,
        /// Whether it is an L2 table.
        table: bool,
    },
    /// Wrong COPIED flags in an L2 table: those that are set, or those that are clear.
    Copied {
        /// The table's host offset.
        table: HostOffset,
        /// What the flags become.
        set: bool,
    },
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is written.
    pub write: Write,
    /// Whether something is lost by it.
    pub risk: Risk,
    /// The codes of the findings that it repairs.
    pub fixes: Vec<&'static str>,
}

impl Step {
    /// A step that is safe and repairs findings of these codes.
    pub const fn new(write: Write, fixes: Vec<&'static str>) -> Self {
        Self { write, risk: Risk::Safe, fixes }
    }

    /// Bytes that repair findings of these codes.
    pub const fn bytes(
        offset: HostOffset,
        bytes: Vec<u8>,
        what: &'static str,
        fixes: Vec<&'static str>,
    ) -> Self {
        Self::new(Write::Bytes { offset, bytes, what }, fixes)
    }

    /// A step that sets one header field.
    pub fn field(field: HeaderField, value: u64) -> Self {
        let offset = HostOffset::new(field.place().0);
        Self::bytes(offset, encode_field(field, value), "a header field", vec![HEADER_FIELD.code])
    }

    /// The same step, by which something is lost.
    #[must_use]
    pub fn lossy(self) -> Self {
        Self { risk: Risk::Lossy, ..self }
    }
}

/// Steps that write table entries of 8 bytes: entries that are side by side are one step, since
/// there can be millions.
#[derive(Debug)]
pub struct Entries {
    /// The name of one entry, and of several.
    what: [&'static str; 2],
    steps: Vec<Step>,
}

impl Entries {
    /// None yet.
    pub const fn new(what: [&'static str; 2]) -> Self {
        Self { what, steps: Vec::new() }
    }

    /// Adds an entry with the code of what it repairs.
    pub fn push(&mut self, at: HostOffset, value: u64, code: &'static str) {
        let value = value.to_be_bytes();
        match self.steps.last_mut() {
            Some(Step { write: Write::Bytes { offset, bytes, what }, fixes, .. })
                if offset.saturating_add(bytes.len() as u64) == at && bytes.len() < MAX_JOINED =>
            {
                bytes.extend(value);
                *what = self.what[1];
                if !fixes.contains(&code) {
                    fixes.push(code);
                }
            }
            _ => self.steps.push(Step::bytes(at, value.to_vec(), self.what[0], vec![code])),
        }
    }

    /// The steps.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// The steps, by which something is lost.
    pub fn into_lossy_steps(self) -> Vec<Step> {
        self.steps.into_iter().map(Step::lossy).collect()
    }
}

/// What a stage is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StageKind {
    /// Header fields whose right value is known.
    HeaderFields,
    /// Snapshots over QEMU's limits.
    Limits,
    /// L1 entries that point to a lost L2 table again.
    Reattached,
    /// Entries with one right value.
    Entries,
    /// COPIED flags that must not be set.
    ClearedFlags,
    /// Refcounts in existing blocks.
    Counts,
    /// New refcount blocks.
    Structures,
    /// A new refcount table.
    StructuresTable,
    /// The header's pointer to the new refcount table.
    StructuresSwitch,
    /// COPIED flags that are missing.
    SetFlags,
    /// Refcounts of the copies.
    CopyCounts,
    /// Copies of clusters that more than one position uses.
    Copies,
    /// Pointers to the copies.
    CopyPointers,
    /// Refcounts of a new snapshot table.
    SnapshotCounts,
    /// A new snapshot table.
    SnapshotTable,
    /// The header's pointer to the new snapshot table.
    SnapshotSwitch,
    /// All snapshots, dropped.
    NoSnapshots,
    /// Lengths of tables that are wrong.
    Lengths,
    /// Zeroes for what was cut off.
    CutOff,
    /// L1 entries that point nowhere, dropped.
    DroppedL1,
    /// L2 entries that point nowhere, dropped.
    DroppedL2,
    /// Refcounts of a new bitmap directory.
    BitmapCounts,
    /// A new bitmap directory.
    BitmapDirectory,
    /// The header's pointer to the new bitmap directory.
    BitmapSwitch,
    /// All bitmaps, dropped.
    NoBitmaps,
    /// A header in place of one that cannot be read or does not fit.
    Header,
    /// The corrupt bit, set while a repair is under way.
    Mark,
    /// Feature bits and released clusters, after the last check.
    AfterVerdict,
}

impl StageKind {
    /// The stage in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::HeaderFields => "header fields",
            Self::Limits => "what is over the limits",
            Self::Reattached => "lost L2 tables back in their entries",
            Self::Entries => "entries with one right value",
            Self::ClearedFlags => "COPIED flags that must not be set",
            Self::Counts => "refcounts",
            Self::Structures => "new refcount blocks",
            Self::StructuresTable => "the new refcount table",
            Self::StructuresSwitch => "the switch to the new refcount structures",
            Self::SetFlags => "COPIED flags that are missing",
            Self::CopyCounts => "refcounts of copies",
            Self::Copies => "copies for each position",
            Self::CopyPointers => "pointers to the copies",
            Self::SnapshotCounts => "refcounts of the new snapshot table",
            Self::SnapshotTable => "the new snapshot table",
            Self::SnapshotSwitch => "the switch to the new snapshot table",
            Self::NoSnapshots => "all snapshots, dropped",
            Self::Lengths => "lengths of tables",
            Self::CutOff => "zeroes for what was cut off",
            Self::DroppedL1 => "L1 entries that point nowhere, dropped",
            Self::DroppedL2 => "L2 entries that point nowhere, dropped",
            Self::BitmapCounts => "refcounts of the new bitmap directory",
            Self::BitmapDirectory => "the new bitmap directory",
            Self::BitmapSwitch => "the switch to the new bitmap directory",
            Self::NoBitmaps => "all bitmaps, dropped",
            Self::Header => "another header",
            Self::Mark => "the sign that a repair is under way",
            Self::AfterVerdict => "what follows the verdict",
        }
    }
}

/// Steps that may reach the disk in any order; all are on it before the next stage begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What the stage is for.
    pub kind: StageKind,
    /// What it writes.
    pub steps: Vec<Step>,
}

/// A repair that can be printed and carried out.
#[derive(Debug)]
pub struct RepairPlan {
    /// The stages in order; none where there is nothing to do.
    pub stages: Vec<Stage>,
    /// Whether the refcount structures are rebuilt.
    pub rebuilds: bool,
    /// The refcounts that blocks get.
    pub target: Arc<RefcountMap>,
    /// The image's sizes.
    pub geometry: Geometry,
    /// Whether data is in an external data file.
    pub data_file: bool,
    /// What may be repaired.
    pub mode: RepairMode,
    /// The length of the file in bytes: refcounts of clusters past its end are kept.
    pub file_bytes: u64,
    /// Whether refcounts that are too high stay.
    pub(crate) held: bool,
    /// Whether COPIED flags are repaired.
    pub(crate) flags: bool,
    /// Whether something was given up before.
    pub(crate) given_up: bool,
    /// The least risk of each step: what follows a loss completes it.
    pub(crate) risk: Risk,
}

impl RepairPlan {
    /// What its stages are for.
    pub fn kinds(&self) -> Vec<StageKind> {
        self.stages.iter().map(|stage| stage.kind).collect()
    }

    /// Nothing to do yet.
    pub(crate) fn new(
        survey: &Survey,
        mode: RepairMode,
        target: Arc<RefcountMap>,
        (given_up, risk): (bool, Risk),
    ) -> Self {
        Self {
            stages: Vec::new(),
            rebuilds: false,
            target,
            geometry: survey.area.geometry,
            data_file: survey.area.header.has_data_file(),
            mode,
            file_bytes: survey.file_bytes,
            held: survey.held,
            flags: mode.is_all() || only_leaks_and_flags(&survey.report),
            given_up,
            risk,
        }
    }

    /// The refcounts that blocks get, to be changed: a copy of those that the check counted.
    pub(crate) fn target_mut(&mut self) -> &RefcountMap {
        Arc::make_mut(&mut self.target)
    }

    /// Adds a stage unless it is empty.
    pub(crate) fn stage(&mut self, kind: StageKind, steps: Vec<Step>) {
        if !steps.is_empty() {
            let steps = steps.into_iter().map(|step| self.with_risk(step)).collect();
            self.stages.push(Stage { kind, steps });
        }
    }

    /// Puts a step before all others, unless there are none.
    pub(crate) fn precede(&mut self, step: Step) {
        let step = self.with_risk(step);
        if let Some(stage) = self.stages.first_mut() {
            stage.steps.insert(0, step);
        }
    }

    fn with_risk(&self, step: Step) -> Step {
        Step { risk: step.risk.max(self.risk), ..step }
    }
}

/// The codes of a report's findings that satisfy the condition, each once.
pub fn codes(report: &CheckReport, is: impl Fn(&Finding) -> bool) -> Vec<&'static str> {
    let mut found = Vec::new();
    for finding in report.findings.iter().filter(|finding| is(finding)) {
        if !found.contains(&finding.code()) {
            found.push(finding.code());
        }
    }
    found
}

/// Whether nothing but leaks and COPIED flags is wrong.
fn only_leaks_and_flags(report: &CheckReport) -> bool {
    let mut errors = report.findings.iter().filter(|f| f.severity() == Severity::Corruption);
    report.tally.check_errors == 0 && report.unlisted == 0 && errors.all(is_flag)
}

/// Whether a COPIED flag is wrong.
const fn is_flag(finding: &Finding) -> bool {
    matches!(finding.kind, Kind::DataCopied { .. } | Kind::L2TableCopied { .. })
}
