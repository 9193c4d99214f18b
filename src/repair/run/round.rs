//! One round: what changes references comes first and alone, and the next round's check counts
//! again.

use crate::check::Survey;
use crate::error::{Error, Result};
use crate::format::feature::autoclear;
use crate::format::header::{HeaderField, encode_field};
use crate::format::{ClusterCount, HostOffset};
use crate::repair::fix::reattach::{self, Reattach};
use crate::repair::fix::{
    cross_links, entries, flags, header_fields, limits, loss, snapshot_table,
};
use crate::repair::mode::RepairMode;
use crate::repair::plan::pointers;
use crate::repair::plan::quarantine::Quarantine;
use crate::repair::plan::room::Space;
use crate::repair::plan::step::{RepairPlan, StageKind, Step};
use crate::repair::plan::target::target;
use crate::repair::plan::{counts, rebuild};
use crate::storage::Storage;

/// What a round may do.
pub struct Aim<'a> {
    /// What may be repaired.
    pub mode: RepairMode,
    /// Which lost tables a person put back.
    pub reattach: &'a Reattach,
    /// What is known of clusters that seem free.
    pub quarantine: &'a Quarantine,
}

/// Plans one round. Writes nothing; reads beside what the check left only tables in which something
/// is wrong.
pub fn plan(storage: &dyn Storage, survey: &Survey, aim: &Aim) -> Result<RepairPlan> {
    let capacity = pointers::growth(survey, storage.capacity());
    let given_up = aim.quarantine.is_given_up();
    let begin = || -> Result<RepairPlan> {
        let target = target(storage, survey, aim.quarantine, aim.mode)?;
        Ok(RepairPlan::new(survey, aim.mode, target, (given_up, aim.quarantine.risk())))
    };
    let mut plan = begin()?;
    // With something unread, what seems free may be in use, and what seems a refcount block data.
    if survey.report.tally.check_errors > 0 {
        return Ok(plan);
    }
    let space = Space { storage, survey, quarantine: aim.quarantine, capacity };
    match stages(&mut plan, &space, aim) {
        Err(Error::NoRoom { needed, purpose }) if capacity != storage.capacity() => {
            plan = begin()?;
            if aim.mode != RepairMode::Lossy {
                return Err(Error::Refused(format!(
                    "no free space for {needed} bytes of {purpose}: the file cannot grow over what pointers refer to \
                     past its end; --allow-data-loss gives that up"
                )));
            }
        }
        planned => planned?,
    }
    if let Some(step) = unknown_autoclear(survey) {
        plan.precede(step);
    }
    Ok(plan)
}

fn stages(plan: &mut RepairPlan, space: &Space, aim: &Aim) -> Result<()> {
    let (storage, survey) = (space.storage, space.survey);
    if !plan.mode.is_all() {
        return counts_and_flags(plan, space);
    }
    let lossy = plan.given_up;
    plan.stage(StageKind::HeaderFields, header_fields::plan(&storage, survey, lossy)?);
    if plan.stages.is_empty() && lossy {
        // What is dropped refers to nothing past the end any more.
        loss::plan(plan, &Space { capacity: storage.capacity(), ..*space })?;
    }
    if plan.stages.is_empty() {
        plan.stage(StageKind::Limits, limits::plan(survey));
    }
    if plan.stages.is_empty() {
        let proves = aim.quarantine.proves_tables();
        plan.stage(StageKind::Reattached, reattach::plan(survey, aim.reattach, proves)?);
        plan.stage(StageKind::Entries, entries::plan(storage, survey, aim.quarantine)?);
    }
    if plan.stages.is_empty() {
        counts_and_flags(plan, space)?;
    }
    if plan.stages.is_empty() {
        cross_links::plan(plan, space)?;
    }
    if plan.stages.is_empty() {
        snapshot_table::plan(plan, space, false)?;
    }
    if plan.stages.is_empty() && lossy {
        plan.stage(StageKind::DroppedL2, loss::without_copies(&storage, survey));
    }
    Ok(())
}

fn counts_and_flags(plan: &mut RepairPlan, space: &Space) -> Result<()> {
    let survey = space.survey;
    plan.stage(StageKind::ClearedFlags, flags::plan(plan, space.storage, survey, false)?);
    if plan.mode.is_all() && space.quarantine.rebuilds(survey) {
        let none = ClusterCount::new(0);
        rebuild::plan(plan, space.storage, survey, space.quarantine, space.capacity, none)?;
    } else {
        plan.stage(StageKind::Counts, counts::plan(plan, space.storage, survey)?);
    }
    plan.stage(StageKind::SetFlags, flags::plan(plan, space.storage, survey, true)?);
    Ok(())
}

/// A writer that does not support an autoclear feature clears its bit.
fn unknown_autoclear(survey: &Survey) -> Option<Step> {
    let bits = survey.area.header.autoclear;
    let known = bits & autoclear::KNOWN;
    (bits != known).then(|| {
        let offset = HostOffset::new(HeaderField::Autoclear.place().0);
        let bytes = encode_field(HeaderField::Autoclear, known);
        Step::bytes(offset, bytes, "unknown autoclear bits in the header", Vec::new())
    })
}
