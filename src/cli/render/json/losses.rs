//! What a conversion of a damaged image lost, as JSON.

use qcheck::convert::{self, ConvertReport};
use serde::Serialize;

/// What a guest reads as zeroes in the target since it could not be read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Losses<'a> {
    losses: Vec<Loss<'a>>,
}

/// A range that is lost.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Loss<'a> {
    /// Guest offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// Why it could not be read.
    reason: &'a str,
}

impl<'a> From<&'a ConvertReport> for Losses<'a> {
    fn from(report: &'a ConvertReport) -> Self {
        let loss = |loss: &'a convert::Loss| Loss {
            offset: loss.range.start,
            length: loss.range.end - loss.range.start,
            reason: &loss.reason,
        };
        Self { losses: report.losses.iter().map(loss).collect() }
    }
}
