//! Repair of what a check found: a plan first, then its stages, each on stable storage before the
//! next one relies on it, then a fresh check as the verdict.

mod comparison;
mod fix;
mod mode;
mod outcome;
mod plan;
mod request;
mod run;
mod search;

pub use comparison::Comparison;
pub use fix::reattach::{Reattach, Reattachment};
pub use mode::RepairMode;
pub use outcome::{Fixed, RepairOutcome};
pub use plan::purpose::{Purpose, Risk};
pub use plan::step::StageKind;
pub use request::Request;
pub use run::dry_run::{Action, DryRun, PlannedStage, PlannedStep, PlannedWrite, dry_run};
pub use run::journal::{Journal, Round};
pub use run::rounds::{repair, repair_as_asked};
pub use search::{Hints, Names, RebuiltHeader, Unknown};
