//! `check --dry-run`: the plan of a repair, for programs.

use qcheck::repair::{DryRun, PlannedStage};
use serde_json::Value;

use super::document::Object;
use crate::cli::render::plan::{Budget, action, listed, risk, sums};

/// The plan as a value, with at most `most` writes, 0 meaning all.
pub fn value(run: &DryRun, most: u64) -> Value {
    let sums = sums(run);
    let verdict = run.outcome.report().tally;
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
