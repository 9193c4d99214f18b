//! What became of an image that was compacted, or would become of it.

use qcheck::compact::Outcome;
use serde::Serialize;

/// The result of `compact`. All sizes are bytes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Compacted {
    /// Whether nothing was changed: the numbers are what would be done.
    dry_run: bool,
    /// Length of the file before.
    file_size_before: u64,
    /// Length of the file after.
    file_size_after: u64,
    /// Where the last cluster in use ended before.
    image_end_offset_before: u64,
    /// Where it ends after: a block device needs to be no longer.
    image_end_offset_after: u64,
    /// Copied from one place of the file to another.
    moved: u64,
    /// Metadata written.
    metadata_written: u64,
    /// Clusters that an earlier run has leaked, which was broken off: freed.
    leaks_freed: u64,
    /// Clusters of zeroes freed.
    zeroes_freed: u64,
    /// Guest data that were stored compressed, as they were before.
    compressed: u64,
    /// What was written for them.
    compressed_to: u64,
    /// Zeroes of an external data file made holes.
    data_file_punched: u64,
    /// Free space made holes.
    punched: u64,
}

impl Compacted {
    /// The result, of a dry run or of the work.
    pub const fn new(outcome: &Outcome, dry_run: bool) -> Self {
        Self {
            dry_run,
            file_size_before: outcome.file_before,
            file_size_after: outcome.file_after,
            image_end_offset_before: outcome.end_before,
            image_end_offset_after: outcome.end_after,
            moved: outcome.moved,
            metadata_written: outcome.written,
            leaks_freed: outcome.recovered,
            zeroes_freed: outcome.zeroes,
            compressed: outcome.compressed,
            compressed_to: outcome.compressed_to,
            data_file_punched: outcome.external,
            punched: outcome.punched,
        }
    }
}
