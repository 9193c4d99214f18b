//! `check --dry-run`: the plan of a repair, for people.

use std::io::{self, Write};

use qcheck::repair::{DryRun, PlannedStep, PlannedWrite};

use crate::cli::render::plan::{Budget, Sums, action, listed, risk, sums};
use crate::cli::terminal::count::counted;

/// Prints the plan: one line a write, at most `most` of them, 0 meaning all.
pub fn print(out: &mut dyn Write, run: &DryRun, most: u64) -> io::Result<()> {
    let sums = sums(run);
    if sums.writes == 0 {
        return writeln!(out, "\nA repair would write nothing.");
    }
    writeln!(out, "\nA repair would do this; nothing was written:")?;
    let mut budget = Budget::of(most);
    for stage in &run.stages {
        writeln!(out, "\nRound {}: {}", stage.round, stage.kind.text())?;
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
    if step.purpose.fixes.is_empty() {
        writeln!(out)
    } else {
        writeln!(out, " [{}]", step.purpose.fixes.join(", "))
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
    let verdict = run.outcome.report().tally;
    let errors = counted(verdict.corruptions, "error", "errors");
    let leaks = counted(verdict.leaks, "leaked cluster", "leaked clusters");
    if verdict.is_clean() {
        writeln!(out, "Nothing would be wrong with the image after it.")
    } else {
        writeln!(out, "{errors} and {leaks} would be left after it.")
    }
}
