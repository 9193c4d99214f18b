//! `check --dry-run`: the plan of a repair, for programs.

use qcheck::repair::{DryRun, PlannedStage};
use serde::Serialize;

use crate::cli::render::json::absent::is_zero;
use crate::cli::render::plan::{Budget, action, listed, risk, sums};

/// What a repair would write.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Plan<'a> {
    /// In order; each is on stable storage before the next one begins.
    stages: Vec<Stage<'a>>,
    /// Writes in all.
    writes: u64,
    /// Writes that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    writes_omitted: u64,
    /// Bytes that are written.
    bytes: u64,
    /// Writes that lose data.
    lossy_writes: u64,
    /// Errors that would be left.
    corruptions_left: u64,
    /// Leaked clusters that would be left.
    leaks_left: u64,
    /// Parts that could not be checked afterwards.
    check_errors_left: u64,
}

/// Writes between two flushes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stage<'a> {
    /// What it is for.
    what: &'static str,
    /// From 1 on; each round begins with a new check.
    round: usize,
    writes: Vec<Write<'a>>,
}

/// A write.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Write<'a> {
    /// `write`, `zero` or `discard`.
    action: &'static str,
    /// Host offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// What is written.
    what: &'a str,
    /// The codes of the findings that it repairs.
    fixes: &'a [&'static str],
    /// `safe` or `lossy`.
    risk: &'static str,
}

impl<'a> Plan<'a> {
    /// The plan with at most `most` writes listed, 0 meaning all.
    pub fn new(run: &'a DryRun, most: u64) -> Self {
        let sums = sums(run);
        let verdict = run.outcome.report().tally;
        let mut budget = Budget::of(most);
        Self {
            stages: run.stages.iter().map(|stage| Stage::new(stage, &mut budget)).collect(),
            writes: sums.writes,
            writes_omitted: sums.writes - listed(most, sums.writes),
            bytes: sums.bytes,
            lossy_writes: sums.lossy,
            corruptions_left: verdict.corruptions,
            leaks_left: verdict.leaks,
            check_errors_left: verdict.check_errors,
        }
    }
}

impl<'a> Stage<'a> {
    fn new(stage: &'a PlannedStage, budget: &mut Budget) -> Self {
        let mut writes = Vec::new();
        for step in &stage.steps {
            let some = &step.writes[..budget.take(&step.writes)];
            writes.extend(some.iter().map(|write| Write {
                action: action(write.action),
                offset: write.offset,
                length: write.length,
                what: &step.purpose.what,
                fixes: &step.purpose.fixes,
                risk: risk(step.purpose.risk),
            }));
        }
        Self { what: stage.kind.text(), round: stage.round, writes }
    }
}
