//! What a repair did.

use super::comparison::Comparison;
use super::search::RebuiltHeader;
use crate::check::{Affected, CheckReport};

/// How many findings were repaired, by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fixed {
    /// Leaked clusters.
    pub leaks: u64,
    /// Errors.
    pub corruptions: u64,
}

/// What a repair did.
#[derive(Debug)]
pub struct RepairOutcome {
    /// The header that was written in place of a damaged one, before anything else.
    pub rebuilt_header: Option<RebuiltHeader>,
    /// What was found before the first write, or through the header that was written first.
    pub before: CheckReport,
    /// Whether the refcount structures were rebuilt.
    pub rebuilt: bool,
    /// Leaked clusters that were not released, since references to them may be hidden.
    pub held: u64,
    /// A fresh check's findings, where something was written.
    pub after: Option<CheckReport>,
    /// What the findings of the last check mean for guests.
    pub affected: Affected,
}

impl RepairOutcome {
    /// The findings that count: those of the last check.
    pub fn report(&self) -> &CheckReport {
        self.after.as_ref().unwrap_or(&self.before)
    }

    /// How much was repaired: what was found before minus what was found after.
    pub fn fixed(&self) -> Fixed {
        let (before, after) = (self.before.tally, self.report().tally);
        Fixed {
            leaks: before.leaks.saturating_sub(after.leaks),
            corruptions: before.corruptions.saturating_sub(after.corruptions),
        }
    }

    /// Which findings were repaired, and which are left.
    pub fn comparison(&self) -> Comparison {
        Comparison::new(&self.before, self.after.as_ref())
    }
}
