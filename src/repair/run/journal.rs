//! What a repair is about to write, reported while it goes on.

use crate::check::Survey;
use crate::repair::plan::phrase::phrase;
use crate::repair::plan::purpose::Purpose;
use crate::repair::plan::step::{RepairPlan, StageKind, Step};

/// Listens to a repair.
pub trait Journal {
    /// A stage begins, of this round, from 1 on.
    fn stage(&mut self, round: usize, kind: StageKind);

    /// A step begins. Its purpose is computed only if requested.
    fn step(&mut self, purpose: &dyn Fn() -> Purpose);
}

/// Nobody listens.
impl Journal for () {
    fn stage(&mut self, _round: usize, _kind: StageKind) {}

    fn step(&mut self, _purpose: &dyn Fn() -> Purpose) {}
}

/// A round as it is reported to the journal.
pub struct Round<'a> {
    /// From 1 on.
    pub number: usize,
    /// What it does.
    pub plan: &'a RepairPlan,
    /// What it was planned from.
    pub survey: &'a Survey,
}

impl Round<'_> {
    /// What a step is for.
    pub fn purpose(&self, step: &Step) -> Purpose {
        Purpose::new(phrase(self.plan, &step.write), step.fixes.clone(), step.risk)
    }
}
