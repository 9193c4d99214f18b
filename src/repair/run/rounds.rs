//! A repair: rounds of planning and writing until nothing is left to do, then the verdict.

use std::ops::Range;
use std::sync::Arc;

use super::end::{self, Left};
use super::journal::{Journal, Round};
use super::round::{self, Aim};
use super::{apply, begin, mark};
use crate::check::{self, Affected, Assume, CheckOptions, CheckReport, Hold, Kind, Survey};
use crate::error::{Error, Result};
use crate::format::HostCluster;
use crate::progress::Progress;
use crate::repair::fix::{cross_links, loss};
use crate::repair::mode::RepairMode;
use crate::repair::outcome::RepairOutcome;
use crate::repair::plan::purpose::Risk;
use crate::repair::plan::quarantine::Quarantine;
use crate::repair::plan::step::{RepairPlan, StageKind};
use crate::repair::request::Request;
use crate::repair::search::RebuiltHeader;
use crate::storage::Storage;

/// Rounds of planning and writing: repairing a table can bring up what was under it. More than this
/// many are never needed, and a repair that does not converge must end.
const MAX_ROUNDS: usize = 24;

/// Checks an image, repairs what the mode allows, and checks again.
pub fn repair(
    storage: &dyn Storage,
    mode: RepairMode,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<RepairOutcome> {
    repair_as_asked(storage, &Request::new(mode), options, progress, &mut ())
}

/// The same with all that can be asked, reporting every step to a journal before it is taken.
pub fn repair_as_asked(
    storage: &dyn Storage,
    request: &Request,
    options: &CheckOptions,
    progress: &dyn Progress,
    journal: &mut dyn Journal,
) -> Result<RepairOutcome> {
    let mode = request.mode;
    // What is written must not depend on how many findings are printed.
    let options = CheckOptions { keep: CheckOptions::default().keep, ..*options };
    let look =
        |assume, hold| check::survey(&storage, &CheckOptions { assume, hold, ..options }, progress);
    let begun = begin::begin(storage, mode, &request.hints, &options, progress, journal)?;
    let (mut survey, mut before) = (begun.survey, begun.before);
    let was_marked = mark::is_set(&survey) && begun.rebuilt_header.is_none();
    let (mut released, mut number, mut rebuilt) = (Vec::new(), 0, false);
    let mut quarantine = quarantine_of(storage, &survey, (mode, begun.risk))?;
    // Rounds after which a check found the same as before: what they did is not done again.
    let mut idle: Vec<Vec<StageKind>> = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let aim = Aim { mode, reattach: &request.reattach, quarantine: &quarantine };
        let planned = plan_round(storage, &mut survey, &aim);
        let may_give_up = mode == RepairMode::Lossy && !quarantine.is_given_up();
        let is_repeated = |plan: &RepairPlan| idle.contains(&plan.kinds());
        if is_stuck(&planned, is_repeated, may_give_up || number > 0) {
            if !may_give_up {
                break;
            }
            quarantine.give_up();
            idle.clear();
            if survey.report.tally.is_clean() && !has_bitmap_in_use(&survey) {
                break;
            }
            before.get_or_insert(survey.into_report());
            survey = look(mode.assume(), quarantine.hold())?;
            continue;
        }
        let plan = planned?;
        progress.stage("repair", 0);
        rebuilt |= plan.rebuilds;
        number += 1;
        let round = Round { number, plan: &plan, survey: &survey };
        released.extend(apply::apply(storage, &round, journal)?);
        let kinds = plan.kinds();
        drop(plan);
        let found = survey.into_report();
        survey = look(mode.assume(), quarantine.hold())?;
        quarantine.note(&survey, &kinds);
        if mark::is_all_else_equal(&survey.report.findings, &found.findings) {
            idle.push(kinds);
        } else {
            idle.clear();
        }
        before.get_or_insert(found);
    }
    let quarantine = &quarantine;
    let ended = Ended { survey, before, quarantine, released, was_marked, rounds: number };
    let done = Done { rebuilt_header: begun.rebuilt_header, rebuilt };
    verdict(storage, &look, ended, done, journal)
}

/// Plans a round. What lost tables refer to past the end of the file is not there: rather than no
/// repair, one takes that space.
fn plan_round(storage: &dyn Storage, survey: &mut Survey, aim: &Aim) -> Result<RepairPlan> {
    let planned = round::plan(storage, survey, aim);
    if planned.is_ok() || survey.claims_beyond.last().is_none() {
        return planned;
    }
    survey.claims_beyond = Arc::default();
    round::plan(storage, survey, aim)
}

/// Whether a repair that may lose data drops something from an image without errors.
fn has_bitmap_in_use(survey: &Survey) -> bool {
    survey.report.findings.iter().any(|finding| matches!(finding.kind, Kind::BitmapInUse { .. }))
}

/// Whether a round has nothing to do, or no free space where it need not have any: what may be lost
/// takes the space, or what was written before stays and has its verdict.
fn is_stuck(
    planned: &Result<RepairPlan>,
    is_repeated: impl Fn(&RepairPlan) -> bool,
    may_lack_space: bool,
) -> bool {
    match planned {
        Ok(plan) => plan.stages.is_empty() || is_repeated(plan),
        Err(Error::NoRoom { .. }) => may_lack_space,
        Err(_) => false,
    }
}

/// Evidence of the first check about clusters that seem free, are shared by mistake, or look like
/// tables.
fn quarantine_of(
    storage: &dyn Storage,
    survey: &Survey,
    (mode, risk): (RepairMode, Risk),
) -> Result<Quarantine> {
    let mut quarantine = Quarantine::of(storage, survey)?;
    quarantine.note_risk(risk);
    quarantine.cross(cross_links::crossed(&storage, survey)?);
    if mode == RepairMode::Lossy {
        quarantine.condemn(loss::mistaken(&storage, survey)?);
    }
    Ok(quarantine)
}

/// A check under an assumption about refcounts.
type Look<'a> = &'a dyn Fn(Assume, Hold) -> Result<Survey>;

/// What the rounds of a repair end with.
struct Ended<'a> {
    survey: Survey,
    before: Option<CheckReport>,
    quarantine: &'a Quarantine,
    released: Vec<Range<HostCluster>>,
    was_marked: bool,
    rounds: usize,
}

/// What was written as a whole.
struct Done {
    rebuilt_header: Option<RebuiltHeader>,
    rebuilt: bool,
}

/// The last check's verdict, and what follows it.
fn verdict(
    storage: &dyn Storage,
    look: Look,
    ended: Ended,
    done: Done,
    journal: &mut dyn Journal,
) -> Result<RepairOutcome> {
    let Ended { mut survey, before, quarantine, released, was_marked, rounds } = ended;
    let Done { rebuilt_header, rebuilt } = done;
    let is_written = rounds > 0 || rebuilt_header.is_some();
    // Through a header in place of one that could not be read, the first check is the only one.
    let before = before.or_else(|| rebuilt_header.as_ref().map(|_| survey.report.clone()));
    let held = if quarantine.holds(&survey) { survey.report.tally.leaks } else { 0 };
    let is_worse =
        before.as_ref().is_some_and(|before| end::is_worse(&survey.report.tally, &before.tally));
    let keep_mark = was_marked || is_worse;
    // Flags were compared with the refcounts that a repair leaves; the verdict goes by those
    // stored.
    if is_written && !survey.report.tally.is_clean() {
        survey = look(Assume::Stored, Hold::ByEvidence)?;
    }
    // Where no copy can be made, with leave clusters may be shared: nobody writes in place without
    // COPIED.
    if is_written && !quarantine.is_given_up() {
        end::report_still_shared(&mut survey.report, quarantine.crossed());
    }
    journal.stage(rounds + 1, StageKind::AfterVerdict);
    let left =
        Left { before: before.as_ref(), released, keep_mark, is_written, risk: quarantine.risk() };
    end::finish(storage, &mut survey, &left, journal)?;
    let affected = Affected::find(&storage, &survey);
    let (before, after) = match (before, is_written) {
        (Some(before), true) => (before, Some(survey.report)),
        (before, _) => (before.unwrap_or(survey.report), None),
    };
    Ok(RepairOutcome { rebuilt_header, before, rebuilt, held, after, affected })
}
