//! `check --dry-run`: the plan of a repair, for people and for programs.

use std::io::{self, Write};

use qcheck::repair::{Action, DryRun, PlannedStage, PlannedStep, PlannedWrite, Risk};
use serde_json::Value;

use crate::cli::render::json::check::Object;
use crate::cli::terminal::count::counted;

/// How many of what a plan has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    writes: u64,
    bytes: u64,
    lossy: u64,
}

fn sums(run: &DryRun) -> Sums {
    let mut sums = Sums::default();
    for step in run.stages.iter().flat_map(|stage| &stage.steps) {
        let writes = step.writes.len() as u64;
        sums.writes += writes;
        sums.bytes += step.writes.iter().map(|write| write.length).sum::<u64>();
        sums.lossy += if step.purpose.risk == Risk::Lossy { writes } else { 0 };
    }
    sums
}

const fn action(action: Action) -> &'static str {
    match action {
        Action::Write => "write",
        Action::Zero => "zero",
        Action::Discard => "discard",
    }
}

const fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Safe => "safe",
        Risk::Lossy => "lossy",
    }
}

/// Hands out the writes that may be printed.
struct Budget(u64);

impl Budget {
    fn of(most: u64) -> Self {
        Self(if most == 0 { u64::MAX } else { most })
    }

    fn take(&mut self, writes: &[PlannedWrite]) -> usize {
        let count = usize::try_from(self.0).unwrap_or(usize::MAX).min(writes.len());
        self.0 -= count as u64;
        count
    }
}

/// Prints the plan: one line a write, at most `most` of them, 0 meaning all.
pub fn text(out: &mut dyn Write, run: &DryRun, most: u64) -> io::Result<()> {
    let sums = sums(run);
    if sums.writes == 0 {
        return writeln!(out, "\nA repair would write nothing.");
    }
    writeln!(out, "\nA repair would do this; nothing was written:")?;
    let mut budget = Budget::of(most);
    for stage in &run.stages {
        writeln!(out, "\nRound {}: {}", stage.round, stage.what)?;
        for step in &stage.steps {
            for write in &step.writes[..budget.take(&step.writes)] {
                line(out, step, write)?;
            }
        }
    }
    let omitted = sums.writes - listed(most, sums.writes);
    if omitted > 0 {
        let omitted = counted(omitted, "more write is", "more writes are");
        writeln!(out, "\n{omitted} not listed.")?;
    }
    ending(out, run, sums)
}

fn line(out: &mut dyn Write, step: &PlannedStep, write: &PlannedWrite) -> io::Result<()> {
    let PlannedWrite { offset, length, .. } = *write;
    let (action, risk) = (action(write.action), risk(step.purpose.risk));
    let what = &step.purpose.what;
    write!(out, "  {action:<7} {offset:#014x} {length:>9} bytes  {risk:<5}  {what}")?;
    if step.purpose.mends.is_empty() {
        writeln!(out)
    } else {
        writeln!(out, " [{}]", step.purpose.mends.join(", "))
    }
}

fn ending(out: &mut dyn Write, run: &DryRun, sums: Sums) -> io::Result<()> {
    let Sums { writes, bytes, lossy } = sums;
    let stages = run.stages.len();
    let writes = counted(writes, "write", "writes");
    let bytes = counted(bytes, "byte", "bytes");
    write!(out, "\n{writes} of {bytes} in {}; ", counted(stages as u64, "stage", "stages"))?;
    match lossy {
        0 => writeln!(out, "none of them loses anything.")?,
        n => writeln!(out, "{} something.", counted(n, "of them loses", "of them lose"))?,
    }
    let verdict = run.outcome.after.as_ref().unwrap_or(&run.outcome.before).tally;
    let errors = counted(verdict.corruptions, "error", "errors");
    let leaks = counted(verdict.leaks, "leaked cluster", "leaked clusters");
    if verdict.is_clean() {
        writeln!(out, "Nothing would be wrong with the image after it.")
    } else {
        writeln!(out, "{errors} and {leaks} would be left after it.")
    }
}

/// The plan as a value, with at most `most` writes, 0 meaning all.
pub fn value(run: &DryRun, most: u64) -> Value {
    let sums = sums(run);
    let verdict = run.outcome.after.as_ref().unwrap_or(&run.outcome.before).tally;
    let mut budget = Budget::of(most);
    let stages: Vec<Value> = run.stages.iter().map(|s| stage(s, &mut budget)).collect();
    let omitted = sums.writes - listed(most, sums.writes);
    let mut plan = Object::default();
    plan.set("stages", stages)
        .set("writes", sums.writes)
        .set_nonzero("writes-omitted", omitted)
        .set("bytes", sums.bytes)
        .set("lossy-writes", sums.lossy)
        .set("corruptions-left", verdict.corruptions)
        .set("leaks-left", verdict.leaks)
        .set("check-errors-left", verdict.check_errors);
    plan.into_value()
}

fn listed(most: u64, all: u64) -> u64 {
    if most == 0 { all } else { all.min(most) }
}

fn stage(stage: &PlannedStage, budget: &mut Budget) -> Value {
    let mut writes: Vec<Value> = Vec::new();
    for step in &stage.steps {
        let some = &step.writes[..budget.take(&step.writes)];
        writes.extend(some.iter().map(|write| {
            let mut object = Object::default();
            object
                .set("action", action(write.action))
                .set("offset", write.offset)
                .set("length", write.length)
                .set("what", step.purpose.what.as_str())
                .set("mends", step.purpose.mends.clone())
                .set("risk", risk(step.purpose.risk));
            object.into_value()
        }));
    }
    let mut object = Object::default();
    object.set("what", stage.what).set("round", stage.round).set("writes", writes);
    object.into_value()
}
