//! Results as text, JSON, JUnit, SARIF and exit codes: functions from data to a writer.

pub mod exit;
pub mod extents;
pub mod findings;
pub mod image;
pub mod inspected;
pub mod json;
pub mod junit;
pub mod outcome;
pub mod plan;
pub mod prometheus;
pub mod record;
pub mod sarif;
pub mod summary;
pub mod text;
pub mod verdict;
