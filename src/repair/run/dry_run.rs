//! The plan of a repair: the repair itself, on a copy of the image in memory.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::journal::Journal;
use super::rounds::repair_as_asked;
use crate::check::{Affected, CheckOptions, CheckReport, survey};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repair::mode::RepairMode;
use crate::repair::outcome::RepairOutcome;
use crate::repair::plan::purpose::Purpose;
use crate::repair::plan::step::StageKind;
use crate::repair::request::Request;
use crate::storage::{Capacity, Overlay, ReadAt, Storage};

/// Most memory that the changes may take.
const MAX_CHANGES: usize = 256 << 20;
/// Most writes that a plan lists.
const MAX_WRITES: usize = 1 << 20;

/// What a call does to its range of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// New bytes.
    Write,
    /// Zeroes.
    Zero,
    /// Given back to the file system.
    Discard,
}

/// A call that the repair makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedWrite {
    /// What it does.
    pub action: Action,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// Calls that have the same purpose.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// What they are for.
    pub purpose: Purpose,
    /// In order; none where there turned out to be nothing to change.
    pub writes: Vec<PlannedWrite>,
}

/// Steps that are on stable storage before the next stage begins.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// From 1 on: each round begins with a new check.
    pub round: usize,
    /// What the stage is for.
    pub kind: StageKind,
    /// Its steps, those that write nothing left out.
    pub steps: Vec<PlannedStep>,
}

/// What a repair would do.
#[derive(Debug)]
pub struct DryRun {
    /// What a check finds; nothing where the header cannot be read.
    found: Option<CheckReport>,
    /// What that means for guests.
    pub affected: Affected,
    /// Its stages in order.
    pub stages: Vec<PlannedStage>,
    /// How it would end.
    pub outcome: RepairOutcome,
}

/// Plans a repair. Nothing is written to `source`; the changes are kept in memory, and a repair
/// that changes more than fits there is an error.
pub fn dry_run(
    source: &dyn ReadAt,
    capacity: Capacity,
    request: &Request,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<DryRun> {
    let (found, affected) = match survey(&source, options, progress) {
        Ok(survey) => {
            let affected = Affected::find(&source, &survey);
            (Some(survey.report), affected)
        }
        Err(Error::Header { .. } | Error::NotQcow2) if request.mode == RepairMode::Lossy => {
            (None, Affected::default())
        }
        Err(error) => return Err(error),
    };
    let failed = |e| Error::file("determine the file's length", e);
    let overlay = Overlay::new(source, capacity, MAX_CHANGES).map_err(failed)?;
    let calls = Mutex::default();
    let storage = Logged { overlay, calls: &calls };
    let mut plan = Plan { calls: &calls, stages: Vec::new() };
    let outcome = repair_as_asked(&storage, request, options, progress, &mut plan)?;
    plan.settle();
    let mut stages = plan.stages;
    for stage in &mut stages {
        stage.steps.retain(|step| !step.writes.is_empty());
    }
    stages.retain(|stage| !stage.steps.is_empty());
    Ok(DryRun { found, affected, stages, outcome })
}

impl DryRun {
    /// What a check finds; where it cannot read the header, what it finds through the one that the
    /// repair writes first.
    pub fn report(&self) -> &CheckReport {
        self.found.as_ref().unwrap_or(&self.outcome.before)
    }
}

/// The calls since the journal last recorded something, and how many there were in all.
#[derive(Debug, Default)]
struct Calls {
    since: Vec<PlannedWrite>,
    total: usize,
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects the stages.
struct Plan<'a> {
    calls: &'a Mutex<Calls>,
    stages: Vec<PlannedStage>,
}

impl Plan<'_> {
    /// Gives the calls since the last step to that step.
    fn settle(&mut self) {
        let calls = std::mem::take(&mut lock(self.calls).since);
        if let Some(step) = self.stages.last_mut().and_then(|stage| stage.steps.last_mut()) {
            step.writes.extend(calls);
        }
    }
}

impl Journal for Plan<'_> {
    fn stage(&mut self, round: usize, kind: StageKind) {
        self.settle();
        self.stages.push(PlannedStage { round, kind, steps: Vec::new() });
    }

    fn step(&mut self, purpose: &dyn Fn() -> Purpose) {
        self.settle();
        if let Some(stage) = self.stages.last_mut() {
            stage.steps.push(PlannedStep { purpose: purpose(), writes: Vec::new() });
        }
    }
}

/// The copy in memory, and what is written to it.
struct Logged<'a> {
    overlay: Overlay<&'a dyn ReadAt>,
    calls: &'a Mutex<Calls>,
}

impl Logged<'_> {
    fn log(&self, action: Action, offset: u64, length: u64) -> io::Result<()> {
        let mut calls = lock(self.calls);
        calls.total += 1;
        if calls.total > MAX_WRITES {
            let what = format!("the plan has more than {MAX_WRITES} writes");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, what));
        }
        calls.since.push(PlannedWrite { action, offset, length });
        Ok(())
    }
}

impl ReadAt for Logged<'_> {
    fn len(&self) -> io::Result<u64> {
        self.overlay.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.overlay.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.overlay.next_data(offset)
    }

    fn is_remote(&self) -> bool {
        self.overlay.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.overlay.will_need(range);
    }
}

impl Storage for Logged<'_> {
    fn capacity(&self) -> Capacity {
        self.overlay.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.log(Action::Write, offset, data.len() as u64)?;
        self.overlay.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.overlay.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.overlay.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.log(Action::Discard, offset, length)?;
        self.overlay.discard(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.log(Action::Zero, offset, length)?;
        self.overlay.write_zeroes(offset, length)
    }
}
