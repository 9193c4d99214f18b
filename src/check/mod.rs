//! The check: passes over the image's structures, findings as data.

mod describe;
pub mod finding;
pub mod report;

pub use describe::{Verb, place_text, region_text};
pub use finding::{Finding, GuestRange, Kind, Place, RegionKind, Severity, Source};
pub use report::{Allocation, CheckReport, SnapshotName, Tally};

use crate::error::Result;
use crate::progress::Progress;
use crate::storage::ReadAt;

/// How to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Threads that read and count; 0 chooses by the machine.
    pub threads: usize,
    /// Runs of findings to keep one by one; further ones are counted only.
    pub keep: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { threads: 0, keep: 100_000 }
    }
}

/// Checks an image. `Err` means that there is no verdict; what is wrong with the image is in the
/// report.
pub fn check(
    source: &dyn ReadAt,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<CheckReport> {
    let _ = (source, options, progress);
    Err(crate::error::Error::Unsupported("not yet".into()))
}
