//! How to compact.

use crate::codec::Method;
use crate::setters::setters;

/// How to compact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactOptions {
    /// Guest clusters that hold only zeroes are freed too, of the disk and of all snapshots; in an
    /// external data file they become holes. All guest data are read for that.
    pub zeroes: bool,
    /// Guest data are stored compressed, of the disk and of all snapshots, where that makes them
    /// smaller; data that are compressed already stay as they are.
    pub compress: bool,
    /// How they are compressed; `None`: as the image records it. Another method is recorded where
    /// nothing is compressed yet, and version 3 has more than one.
    pub method: Option<Method>,
    /// How hard it is tried to compress, one of [`Method::levels`], or the nearest; `None`: as
    /// [`ConvertOptions::level`](crate::convert::ConvertOptions::level) has it.
    pub level: Option<u8>,
    /// Data go into the order of the guest, and metadata together to the front. Compressed data
    /// stay in their order.
    pub defragment: bool,
    /// Nothing moves: free clusters become holes, and the file ends after the last one in use.
    pub punch_only: bool,
    /// Nothing moves that is before this offset of the file, in bytes: the file needs to get no
    /// shorter.
    pub until: Option<u64>,
    /// All that is in use has to end at or before this offset, in bytes; where that is not possible
    /// nothing is written.
    pub target: Option<u64>,
    /// Most bytes that move.
    pub max_moves: Option<u64>,
    /// Most bytes a second that move; `None`: no limit.
    pub rate: Option<u64>,
    /// Most bytes that are copied before the space that they came from is given back, 24 MiB by
    /// default. Twice as much is the most that a file takes beside what it took before.
    pub batch: u64,
}

setters!(CompactOptions {
    zeroes: bool,
    compress: bool,
    method: Option<Method>,
    level: Option<u8>,
    defragment: bool,
    punch_only: bool,
    until: Option<u64>,
    target: Option<u64>,
    max_moves: Option<u64>,
    rate: Option<u64>,
    batch: u64,
});

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            zeroes: false,
            compress: false,
            method: None,
            level: None,
            defragment: false,
            punch_only: false,
            until: None,
            target: None,
            max_moves: None,
            rate: None,
            batch: 24 << 20,
        }
    }
}

impl CompactOptions {
    /// Nothing moves that is before this offset.
    pub(super) fn floor(&self) -> u64 {
        self.until.max(self.target).unwrap_or(0)
    }
}
