//! What became of an image that was compacted.

/// What was done, or would be. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Length of the file before.
    pub file_before: u64,
    /// Length of the file after.
    pub file_after: u64,
    /// Where the last cluster in use ended before.
    pub end_before: u64,
    /// Where it ends after: a block device needs to be no longer.
    pub end_after: u64,
    /// Copied from one place of the file to another.
    pub moved: u64,
    /// Metadata written, without what is part of [`Outcome::moved`].
    pub written: u64,
    /// Clusters that an earlier run, which was broken off, has leaked: freed first.
    pub recovered: u64,
    /// Clusters of zeroes that were freed.
    pub zeroes: u64,
    /// Guest data that were stored compressed, as they were before, for
    /// [`compress`](super::CompactOptions::compress).
    pub compressed: u64,
    /// What was written for them.
    pub compressed_to: u64,
    /// Zeroes of an external data file that became holes.
    pub external: u64,
    /// Free clusters that became holes, for [`punch_only`](super::CompactOptions::punch_only).
    pub punched: u64,
}
