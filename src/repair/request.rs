//! What is asked of a repair.

use super::fix::reattach::Reattach;
use super::mode::RepairMode;
use super::search::Hints;

/// What is asked of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What may be repaired.
    pub mode: RepairMode,
    /// What is known of an image whose header is damaged.
    pub hints: Hints,
    /// Which lost L2 tables are put back.
    pub reattach: Reattach,
}

impl Request {
    /// A repair of this kind, and nothing else.
    pub fn new(mode: RepairMode) -> Self {
        Self { mode, hints: Hints::default(), reattach: Reattach::default() }
    }
}
