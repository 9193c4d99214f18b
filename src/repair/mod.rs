//! Mending what a check found: a plan first, then its stages, each on stable storage before the
//! next one relies on it, then a fresh check as the verdict.

mod apply;
mod bitmap_directory;
mod compression;
mod cross_links;
mod entries;
mod extensions;
mod header_fields;
mod held;
mod loss;
mod orphans;
mod placement;
mod plan;
mod pointers;
mod room;
mod search;
mod snapshot_table;

pub use cross_links::Crossed;
pub use placement::Placement;
pub use plan::{Aim, CountChange, RepairPlan, Stage, Step, plan};
pub use search::{Hints, RebuiltHeader};

use std::ops::Range;

use crate::check::{
    self, Assume, CheckOptions, CheckReport, Finding, Kind, Severity, Survey, Tally,
};
use crate::error::{Error, Result};
use crate::format::feature::incompatible;
use crate::format::header::{HeaderField, encode_field};
use crate::format::{HostCluster, HostOffset};
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
    repair_with(storage, mode, &Hints::default(), options, progress)
}

/// The same with what is known of an image whose header is damaged.
pub fn repair_with(
    storage: &dyn Storage,
    mode: RepairMode,
    hints: &Hints,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<RepairOutcome> {
    let look = |assume| check::survey(&storage, &CheckOptions { assume, ..*options }, progress);
    let mut rebuilt_header = None;
    let mut survey = match look(mode.assume()) {
        Err(Error::Header { .. } | Error::NotQcow2) if mode == RepairMode::Lossy => {
            let rebuilt = search::for_lost(storage, hints, options, progress)?;
            search::write(storage, &rebuilt)?;
            rebuilt_header = Some(rebuilt);
            look(mode.assume())?
        }
        result => result?,
    };
    let before = survey.report.clone();
    if mode == RepairMode::Lossy && rebuilt_header.is_none() {
        rebuilt_header = search::for_doubtful(storage, &survey, hints, options, progress)?;
        if let Some(rebuilt) = &rebuilt_header {
            search::write(storage, rebuilt)?;
            survey = look(mode.assume())?;
        }
    }
    let after = rebuilt_header.as_ref().map(|_| survey.report.clone());
    let mut outcome = RepairOutcome {
        rebuilt_header,
        before,
        mended: Vec::new(),
        rebuilt: false,
        held: 0,
        fixed: Fixed::default(),
        after,
    };
    let crossed = cross_links::crossed(&survey);
    let mut released = Vec::new();
    for _ in 0..MAX_ROUNDS {
        outcome.held = if survey.report.hides_references { survey.report.tally.leaks } else { 0 };
        let target = held::target(storage, &survey, mode)?;
        let plan = plan(storage, &survey, Aim { mode, target, crossed: &crossed })?;
        if plan.stages.is_empty() {
            break;
        }
        progress.stage("repair", 0);
        outcome.rebuilt |= plan.rebuilds;
        if outcome.mended.is_empty() {
            outcome.mended = survey
                .report
                .findings
                .iter()
                .filter(|f| f.severity() != Severity::Notice)
                .flat_map(|f| plan.mended(f))
                .collect();
        }
        released.extend(apply::apply(storage, &plan)?);
        drop(plan);
        let found = std::mem::take(&mut survey.report.findings);
        drop(survey);
        survey = look(mode.assume())?;
        outcome.after = Some(survey.report.clone());
        if survey.report.findings == found {
            break;
        }
    }
    finish(storage, &mut outcome, survey, &released, &look)?;
    Ok(outcome)
}

/// The verdict, and what may follow only a good one: the dirty and corrupt bits are cleared and
/// released clusters given back to the file system.
fn finish(
    storage: &dyn Storage,
    outcome: &mut RepairOutcome,
    mut survey: Survey,
    released: &[Range<HostCluster>],
    look: &dyn Fn(Assume) -> Result<Survey>,
) -> Result<()> {
    // Flags were judged by the counts that a repair leaves behind; the verdict goes by those stored.
    if outcome.after.is_some() && !survey.report.tally.is_clean() {
        survey = look(Assume::Stored)?;
        outcome.after = Some(survey.report.clone());
    }
    let verdict = outcome.after.as_ref().unwrap_or(&outcome.before);
    let sound = verdict.tally.corruptions == 0 && verdict.tally.check_errors == 0;
    if let Some(after) = &outcome.after {
        outcome.fixed = fixed(&outcome.before.tally, &after.tally);
    }
    if sound {
        clear_bits(storage, &survey)?;
    }
    if sound && verdict.tally.is_clean() && !cross_links::were_there(&outcome.before) {
        give_back(storage, &survey, released)?;
    }
    Ok(())
}

const fn fixed(before: &Tally, after: &Tally) -> Fixed {
    Fixed {
        leaks: before.leaks.saturating_sub(after.leaks),
        corruptions: before.corruptions.saturating_sub(after.corruptions),
    }
}

fn clear_bits(storage: &dyn Storage, survey: &Survey) -> Result<()> {
    let bits = survey.area.header.incompatible;
    let cleared = bits & !(incompatible::DIRTY | incompatible::CORRUPT);
    if survey.area.header.version < 3 || bits == cleared {
        return Ok(());
    }
    let offset = HostOffset::new(HeaderField::Incompatible.place().0);
    let failed = |e| Error::io("clear the dirty and corrupt bits", offset.get(), e);
    storage
        .write_at(offset.get(), &encode_field(HeaderField::Incompatible, cleared))
        .and_then(|()| storage.sync())
        .map_err(failed)
}

/// Punches out what was released and is unreferenced in the fresh check too.
fn give_back(
    storage: &dyn Storage,
    survey: &Survey,
    released: &[Range<HostCluster>],
) -> Result<()> {
    let geometry = &survey.area.geometry;
    for range in released {
        let mut free = Vec::new();
        survey.map.for_each_run(range.clone(), |first, count, references| {
            if references == 0 {
                free.push((geometry.offset_of(first).get(), geometry.bytes_of(count)));
            }
        });
        for (offset, bytes) in free {
            let bytes = bytes.min(survey.file_bytes.saturating_sub(offset));
            if bytes > 0 {
                let failed = |e| Error::io("punch out released clusters", offset, e);
                storage.discard(offset, bytes).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Whether nothing but leaks and COPIED flags is wrong.
fn only_leaks_and_flags(report: &CheckReport) -> bool {
    let flag =
        |f: &&Finding| matches!(f.kind, Kind::DataCopied { .. } | Kind::L2TableCopied { .. });
    let errors = report.findings.iter().filter(|f| f.severity() == Severity::Corruption);
    report.tally.check_errors == 0 && report.unlisted == 0 && errors.clone().all(|f| flag(&f))
}
