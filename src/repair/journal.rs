//! What a repair is about to write, told while it goes on.

use std::cell::OnceCell;

use super::describe::{self, Index};
use super::plan::{RepairPlan, Stage, Step};
use crate::check::Survey;

/// Whether something is lost by a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing that can be read is lost.
    Safe,
    /// Something that was in the image cannot be read through it any more.
    Lossy,
}

/// What a step is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// What it changes, as a phrase.
    pub what: String,
    /// The codes of the findings that it mends.
    pub mends: Vec<&'static str>,
    /// Whether something is lost.
    pub risk: Risk,
}

impl Purpose {
    /// A step that is safe and mends these.
    pub fn safe(what: impl Into<String>, mends: Vec<&'static str>) -> Self {
        Self { what: what.into(), mends, risk: Risk::Safe }
    }
}

/// Listens to a repair.
pub trait Journal {
    /// A stage begins, of this round, from 1 on.
    fn stage(&mut self, round: usize, what: &'static str);
    /// A step begins. Only who wants to know asks what for.
    fn step(&mut self, purpose: &dyn Fn() -> Purpose);
}

/// Nobody listens.
impl Journal for () {
    fn stage(&mut self, _round: usize, _what: &'static str) {}
    fn step(&mut self, _purpose: &dyn Fn() -> Purpose) {}
}

/// A round as the journal is told of it.
pub struct Round<'a> {
    /// From 1 on.
    pub number: usize,
    /// What it does.
    pub plan: &'a RepairPlan,
    /// What it was planned from.
    pub survey: &'a Survey,
    index: OnceCell<Index>,
}

impl<'a> Round<'a> {
    /// A round from its parts.
    pub const fn new(number: usize, plan: &'a RepairPlan, survey: &'a Survey) -> Self {
        Self { number, plan, survey, index: OnceCell::new() }
    }

    /// What a step is for.
    pub fn purpose(&self, stage: &Stage, step: &Step) -> Purpose {
        let index = self.index.get_or_init(|| Index::of(self.plan, self.survey));
        describe::purpose(self.plan, index, stage, step)
    }
}
