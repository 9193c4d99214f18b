//! One comparison.

use super::content::{self, Work};
use super::outcome::{Difference, Failure, Phase, Side};
use super::strict;
use crate::disk::Disk;
use crate::progress::Progress;
use crate::setters::setters;

/// How to compare.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct CompareOptions {
    /// Whether sizes, and what the images record of each range, must be the same too.
    pub strict: bool,
    /// How many threads work; 0: one for each core.
    pub threads: usize,
}

setters!(CompareOptions { strict: bool, threads: usize });

/// Compares two disks; `None` where a guest reads the same from both. A shorter disk is compared as
/// if zeroes came after it, unless the comparison is strict. Of what is different or cannot be
/// read, the first is reported. A comparison that is cancelled fails with
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub fn compare(
    first: &Disk,
    second: &Disk,
    options: CompareOptions,
    progress: &dyn Progress,
) -> Result<Option<Difference>, Failure> {
    let sizes = (size(first, Side::First)?, size(second, Side::Second)?);
    if options.strict && sizes.0 != sizes.1 {
        return Ok(Some(Difference::Size));
    }
    for (disk, side) in [(first, Side::First), (second, Side::Second)] {
        require_key(disk, side)?;
    }
    let total = sizes.0.max(sizes.1);
    let status = match options.strict {
        true => strict::first_difference(first, second, total),
        false => Ok(None),
    };
    // Bytes after the first range that is recorded otherwise do not matter any more.
    let end = match &status {
        Ok(found) => found.unwrap_or(total),
        Err(failure) => failure.offset,
    };
    let work = Work { disks: [first, second], end, threads: options.threads, progress };
    match content::first_difference(&work)? {
        Some(offset) => Ok(Some(Difference::Content(offset))),
        None => Ok(status?.map(Difference::Status)),
    }
}

fn size(disk: &Disk, side: Side) -> Result<u64, Failure> {
    disk.size().map_err(|error| Failure { side, phase: Phase::Mapping, offset: 0, error })
}

/// Ciphertext does not show what a guest reads.
fn require_key(disk: &Disk, side: Side) -> Result<(), Failure> {
    let fail = |error| Failure { side, phase: Phase::Reading, offset: 0, error };
    disk.require_key().map_err(fail)
}
