//! Mending what a check found.

/// What may be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairMode {
    /// Only counts that are too high.
    Leaks,
    /// Everything that can be mended without losing data.
    All,
}

use crate::check::{CheckOptions, CheckReport, Finding};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::storage::Storage;

/// How much was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fixed {
    /// Leaked clusters released.
    pub leaks: u64,
    /// Errors mended.
    pub corruptions: u64,
}

/// What a repair did.
#[derive(Debug, Clone)]
pub struct RepairOutcome {
    /// What was found before.
    pub before: CheckReport,
    /// What was mended.
    pub mended: Vec<Finding>,
    /// Whether the refcount structures were written anew.
    pub rebuilt: bool,
    /// Leaked clusters that were not released, since references to them may hide.
    pub held: u64,
    /// How much was mended.
    pub fixed: Fixed,
    /// The verdict afterwards, where something was written.
    pub after: Option<CheckReport>,
}

/// Checks and mends an image.
pub fn repair(
    storage: &dyn Storage,
    mode: RepairMode,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<RepairOutcome> {
    let _ = (storage, mode, options, progress);
    Err(Error::Unsupported("not yet".into()))
}
