//! What a shorter disk would lose.

use std::ops::Range;

use super::read::Disk;
use super::zeroes::data_runs;
use crate::error::Result;
use crate::sector::SECTOR;

/// Bytes that are read together.
const READ_BYTES: u64 = 1 << 20;

/// Data past some guest offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPast {
    /// How many bytes, in whole sectors.
    pub bytes: u64,
    /// From the first to the end of the last, as guest offsets.
    pub range: Range<u64>,
}

impl Disk {
    /// The data from `from` on, looked at in sectors of 512 bytes: those with a byte that is not
    /// zero. In an encrypted image without its key all that is mapped counts as data. `None`: no
    /// more data.
    pub fn data_past(&self, from: u64) -> Result<Option<DataPast>> {
        let end = self.size()?;
        let mut found: Option<DataPast> = None;
        let mut buffer = vec![0; usize::try_from(self.whole_grain().max(READ_BYTES)).unwrap_or(0)];
        let mut at = from;
        while at < end {
            let extent = self.extent(at, end - at)?;
            let mut bytes = extent.length;
            if !extent.zero {
                bytes = bytes.min(buffer.len() as u64);
                let length = usize::try_from(bytes).unwrap_or(buffer.len());
                let encrypted = self.is_locked();
                if !encrypted {
                    self.read_at(&mut buffer[..length], at)?;
                }
                let sparse = if encrypted { 0 } else { SECTOR };
                for run in data_runs(&buffer[..length], at, sparse) {
                    let run = at + run.start as u64..at + run.end as u64;
                    let data = found.get_or_insert(DataPast { bytes: 0, range: run.clone() });
                    data.bytes += run.end - run.start;
                    data.range.end = run.end;
                }
            }
            at += bytes;
        }
        Ok(found)
    }
}
