//! What was done with an image that has a checker: a check, a repair, or the plan of one.

use qcheck::check::{Affected, CheckReport};
use qcheck::repair::{DryRun, Fixed, RebuiltHeader, RepairOutcome};

/// What was done.
#[derive(Debug)]
pub enum Outcome {
    /// The image was checked.
    Checked {
        /// The findings.
        report: Box<CheckReport>,
        /// What they mean for guests.
        affected: Affected,
    },
    /// It was repaired, and checked again.
    Repaired(Box<RepairOutcome>),
    /// It was checked, and a repair was planned.
    Planned(Box<DryRun>),
}

impl Outcome {
    /// The findings that count: those of the last check.
    pub fn report(&self) -> &CheckReport {
        match self {
            Self::Checked { report, .. } => report,
            Self::Planned(run) => run.report(),
            Self::Repaired(outcome) => outcome.report(),
        }
    }

    /// What they mean for guests.
    pub fn affected(&self) -> &Affected {
        match self {
            Self::Checked { affected, .. } => affected,
            Self::Repaired(outcome) => &outcome.affected,
            Self::Planned(run) => &run.affected,
        }
    }

    /// The header that was found for one that was lost.
    pub fn rebuilt_header(&self) -> Option<&RebuiltHeader> {
        match self {
            Self::Checked { .. } => None,
            Self::Repaired(outcome) => outcome.rebuilt_header.as_ref(),
            Self::Planned(run) => run.outcome.rebuilt_header.as_ref(),
        }
    }

    /// What was repaired before the last check.
    pub fn fixed(&self) -> Fixed {
        match self {
            Self::Checked { .. } | Self::Planned(_) => Fixed::default(),
            Self::Repaired(outcome) => outcome.fixed(),
        }
    }
}
