//! Mending what a check found: a plan first, then its stages, each on stable storage before the
//! next one relies on it, then a fresh check as the verdict.

mod apply;
mod begin;
mod bitmap_directory;
mod compression;
mod cross_links;
mod describe;
mod dry_run;
mod end;
mod entries;
mod extensions;
mod header_fields;
mod held;
mod journal;
mod loss;
mod mark;
mod mended;
mod orphans;
mod placement;
mod plan;
mod pointers;
mod room;
mod search;
mod snapshot_table;

pub use cross_links::Crossed;
pub use dry_run::{Action, DryRun, PlannedStage, PlannedStep, PlannedWrite, dry_run};
pub use journal::{Journal, Purpose, Risk, Round};
pub use placement::Placement;
pub use plan::{Aim, CountChange, RepairPlan, Stage, Step, plan};
pub use search::{Hints, RebuiltHeader};

use end::Left;

use crate::check::{self, Affected, Assume, CheckOptions, CheckReport, Finding, Kind, Severity};
use crate::error::Result;
use crate::progress::Progress;
use crate::storage::Storage;

/// What may be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairMode {
    /// Only counts that are too high.
    Leaks,
    /// Everything that can be mended without losing data.
    All,
    /// That, and what cannot be mended is dropped: mappings that lead nowhere, snapshots and bitmaps
    /// that cannot be read.
    Lossy,
}

impl RepairMode {
    /// The counts by which COPIED flags are judged: those that the repair leaves behind.
    const fn assume(self) -> Assume {
        match self {
            Self::Leaks => Assume::LeaksMended,
            Self::All | Self::Lossy => Assume::AllMended,
        }
    }

    /// Whether more than leaks may be mended.
    const fn is_all(self) -> bool {
        matches!(self, Self::All | Self::Lossy)
    }
}

/// How many findings were mended, by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fixed {
    /// Leaked clusters.
    pub leaks: u64,
    /// Errors.
    pub corruptions: u64,
}

/// What a repair did.
#[derive(Debug)]
pub struct RepairOutcome {
    /// The header that was written in place of a damaged one, before anything else.
    pub rebuilt_header: Option<RebuiltHeader>,
    /// What was found before the first write, or through the header that was written first.
    pub before: CheckReport,
    /// The findings that the repair set out to mend.
    pub mended: Vec<Finding>,
    /// Whether the refcount structures were built anew.
    pub rebuilt: bool,
    /// Leaked clusters that were not released, since references to them may be hidden.
    pub held: u64,
    /// Findings before minus findings after.
    pub fixed: Fixed,
    /// A fresh check's findings, where something was written.
    pub after: Option<CheckReport>,
    /// What the findings of the last check mean for guests.
    pub affected: Affected,
}

impl RepairOutcome {
    /// Nothing is done yet.
    fn new(before: CheckReport) -> Self {
        let (mended, fixed) = (Vec::new(), Fixed::default());
        let affected = Affected::default();
        let rebuilt_header = None;
        Self {
            rebuilt_header,
            before,
            mended,
            rebuilt: false,
            held: 0,
            fixed,
            after: None,
            affected,
        }
    }

    /// Takes the findings that a round mends: the first one all that it can, later ones those flags that
    /// were `postponed`, since something else lay in their table.
    fn take_mended(
        &mut self,
        plan: &RepairPlan,
        report: &CheckReport,
        postponed: &mut Vec<Finding>,
    ) {
        if self.mended.is_empty() {
            *postponed = report.findings.clone();
            postponed.retain(|finding| finding.severity() != Severity::Notice);
        }
        postponed.retain(|finding| {
            let parts = plan.mended(finding);
            let waits = parts.is_empty() && is_flag(finding);
            self.mended.extend(parts);
            waits
        });
    }
}

/// Rounds of planning and writing: mending a table can bring up what lay under it. More than this
/// many are never needed, and a repair that does not converge must end.
const MAX_ROUNDS: usize = 16;

/// Checks an image, mends what the mode allows, and checks again.
pub fn repair(
    storage: &dyn Storage,
    mode: RepairMode,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<RepairOutcome> {
    repair_telling(storage, mode, &Hints::default(), options, progress, &mut ())
}

/// The same with what is known of an image whose header is damaged, telling a journal of every step
/// before it is taken.
pub fn repair_telling(
    storage: &dyn Storage,
    mode: RepairMode,
    hints: &Hints,
    options: &CheckOptions,
    progress: &dyn Progress,
    journal: &mut dyn Journal,
) -> Result<RepairOutcome> {
    let look = |assume| check::survey(&storage, &CheckOptions { assume, ..*options }, progress);
    let begun = begin::begin(storage, mode, hints, options, progress, journal)?;
    let (mut survey, mut outcome) = (begun.survey, begun.outcome);
    let was_marked = mark::is_set(&survey) && outcome.rebuilt_header.is_none();
    let (mut released, mut postponed, mut number) = (Vec::new(), Vec::new(), 0);
    let crossed = cross_links::crossed(&survey);
    for _ in 0..MAX_ROUNDS {
        outcome.held = if survey.report.hides_references { survey.report.tally.leaks } else { 0 };
        let target = held::target(storage, &survey, mode)?;
        let plan = plan(storage, &survey, Aim { mode, target, crossed: &crossed })?;
        if plan.stages.is_empty() {
            break;
        }
        progress.stage("repair", 0);
        outcome.rebuilt |= plan.rebuilds;
        outcome.take_mended(&plan, &survey.report, &mut postponed);
        number += 1;
        let round = Round::new(number, &plan, &survey);
        released.extend(apply::apply(storage, &round, journal)?);
        drop(plan);
        let found = std::mem::take(&mut survey.report.findings);
        drop(survey);
        survey = look(mode.assume())?;
        outcome.after = Some(survey.report.clone());
        if mark::is_all_else_equal(&survey.report.findings, &found) {
            break;
        }
    }
    let keep_mark = was_marked || end::is_worse(&survey.report.tally, &outcome.before.tally);
    // Flags were judged by the counts that a repair leaves behind; the verdict goes by those stored.
    if outcome.after.is_some() && !survey.report.tally.is_clean() {
        survey = look(Assume::Stored)?;
        outcome.after = Some(survey.report.clone());
    }
    journal.stage(number + 1, "what follows the verdict");
    end::finish(storage, &mut outcome, &survey, &Left { released, keep_mark }, journal)?;
    if let Some(after) = &outcome.after {
        survey.report.findings.clone_from(&after.findings);
    }
    outcome.affected = Affected::find(&storage, &survey);
    Ok(outcome)
}

/// Whether nothing but leaks and COPIED flags is wrong.
fn only_leaks_and_flags(report: &CheckReport) -> bool {
    let errors = report.findings.iter().filter(|f| f.severity() == Severity::Corruption);
    report.tally.check_errors == 0 && report.unlisted == 0 && errors.clone().all(is_flag)
}

/// Whether a COPIED flag is wrong.
const fn is_flag(finding: &Finding) -> bool {
    matches!(finding.kind, Kind::DataCopied { .. } | Kind::L2TableCopied { .. })
}
