//! Results as text, JSON, JUnit, SARIF and exit codes: functions from data to a writer.

pub mod exit;
pub mod extents;
pub mod findings;
pub mod forms;
pub mod html;
pub mod image;
pub mod inspected;
pub mod json;
pub mod outcome;
pub mod plan;
pub mod text;
pub mod verdict;
