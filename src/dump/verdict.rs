//! The result of a check of an image.

use crate::check::{CheckOptions, CheckReport, check};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::storage::ReadAt;

/// The result of a check of an image, where it has one.
#[derive(Debug)]
pub enum CheckOutcome {
    /// What it found.
    Report(Box<CheckReport>),
    /// Why it could not look further than the header.
    None(String),
}

/// Checks an image, as far as its header leads anywhere.
pub fn verdict(source: &dyn ReadAt, progress: &dyn Progress) -> Result<CheckOutcome> {
    match check(source, &CheckOptions::default(), progress) {
        Ok(report) => Ok(CheckOutcome::Report(Box::new(report))),
        Err(error @ (Error::Header { .. } | Error::Unsupported(_))) => {
            Ok(CheckOutcome::None(error.to_string()))
        }
        Err(error) => Err(error),
    }
}
