//! How to check.

use crate::setters::setters;

/// How to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Threads that read and count; 0 chooses by the machine.
    pub threads: usize,
    /// Runs of findings to keep one by one; further ones are counted only.
    pub keep: usize,
    /// The refcounts with which COPIED flags are compared: those after a repair, when one follows.
    pub assume: Assume,
    /// Whether that repair keeps refcounts that are too high.
    pub hold: Hold,
}

setters!(CheckOptions { threads: usize, keep: usize, assume: Assume, hold: Hold });

impl Default for CheckOptions {
    fn default() -> Self {
        Self { threads: 0, keep: 100_000, assume: Assume::Stored, hold: Hold::ByEvidence }
    }
}

/// Which refcounts to assume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Assume {
    /// Those in the file.
    #[default]
    Stored,
    /// Those in the file once refcounts that are too high are lowered.
    LeaksRepaired,
    /// Those that the references require.
    AllRepaired,
}

/// Whether refcounts that are higher than the references found stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Hold {
    /// Where something may hide references.
    #[default]
    ByEvidence,
    /// In any case: something did before.
    Always,
    /// Never, and lost tables are not counted: what may be lost was given up.
    Never,
}
