//! Puts back what an undo file recorded.

use std::ops::Range;

use super::compare::{Comparison, compare, for_each_chunk, length};
use super::reader::{Placed, Record};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::sector::SECTOR_LEN;
use crate::storage::{Latch, Storage};

/// What an undo did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The image is as it was before the repair.
    Restored {
        /// Bytes that were written.
        bytes: u64,
        /// Bytes at the end that were appended since the repair, and stay.
        appended: u64,
        /// Bytes at the end that the image did not have before the repair, and that were cut off.
        /// After a repair that was interrupted nothing shows which of them it appended itself.
        cut: u64,
    },
    /// It was so already.
    Nothing,
}

/// Puts the bytes and the length back that an image had before a repair.
///
/// An image that has changed since is refused, unless `force` is set; another image is refused in
/// any case. After an interruption at any point, the same call begins where it was.
pub fn undo(
    record: &Record<'_>,
    image: &dyn Storage,
    force: bool,
    progress: &dyn Progress,
) -> Result<Undone> {
    let image = &Latch::new(image);
    progress.stage("compare", 0);
    let found = compare(image, record)?;
    judge(&found, force)?;
    if found.is_undone {
        return Ok(Undone::Nothing);
    }
    progress.stage("undo", 0);
    let mut restore = Restore { image, record, bytes: 0, cut: 0 };
    restore.run(found.next_group())?;
    let Restore { bytes, cut, .. } = restore;
    if !compare(image, record)?.is_undone {
        let what = "the image does not hold what was written to it";
        return Err(Error::Refused(what.into()));
    }
    Ok(Undone::Restored { bytes, appended: record.appended(length(image)?), cut })
}

/// Refuses an image that is not the one, or not as it was left.
fn judge(found: &Comparison, force: bool) -> Result<()> {
    let Some(first) = found.changed else { return Ok(()) };
    let Comparison { known, same, .. } = found;
    if same.saturating_mul(2) < *known {
        return Err(Error::Refused(format!(
            "is not the image that was repaired: of {known} places that are known, {same} are as \
             they were"
        )));
    }
    if force {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "has changed since the repair, first at offset {first:#x}; what is put back may not fit \
         what was written since (--force does it all the same)"
    )))
}

/// The work, and how much of it is done.
struct Restore<'a> {
    image: &'a dyn Storage,
    record: &'a Record<'a>,
    bytes: u64,
    cut: u64,
}

impl Restore<'_> {
    /// Undoes one group after the other, the last one first and each on stable storage before the
    /// next: what a crash leaves is what a crash of the repair could have left.
    fn run(&mut self, next: usize) -> Result<()> {
        let groups: Vec<&[Placed]> =
            self.record.old.chunk_by(|a, b| a.entry.group == b.entry.group).collect();
        let undone = |group: &&&[Placed]| group[0].entry.group as usize > next;
        for group in groups.iter().rev().skip_while(undone) {
            for placed in *group {
                self.entry(placed)?;
            }
            self.sync()?;
        }
        let now = length(self.image)?;
        // What was appended since is somebody else's.
        if now != self.record.old_bytes && self.record.appended(now) == 0 {
            let len = self.record.old_bytes;
            self.image.set_len(len).map_err(|e| Error::io("set the image's length", len, e))?;
            self.sync()?;
            self.cut = now.saturating_sub(len);
        }
        Ok(())
    }

    /// Puts back those sectors of an entry that differ.
    fn entry(&mut self, placed: &Placed) -> Result<()> {
        let (image, record) = (self.image, self.record);
        let start = placed.entry.offset;
        for_each_chunk(image, placed.entry.range(), placed.entry.zero, &mut |range, bytes| {
            let old = record.payload(placed, range.start - start..range.end - start)?;
            for run in differing(&old, bytes) {
                let (from, length) = (range.start + run.start as u64, run.len() as u64);
                if placed.entry.zero {
                    let failed = |e| Error::io("write zeroes to the image", from, e);
                    image.write_zeroes(from, length).map_err(failed)?;
                    self.bytes += length;
                } else {
                    self.write(from, &old[run])?;
                }
            }
            Ok(())
        })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let failed = |e| Error::io("write to the image", offset, e);
        self.image.write_at(offset, bytes).map_err(failed)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.image.sync().map_err(|e| Error::file("flush the image", e))
    }
}

/// The sectors that differ, neighbouring ones together.
fn differing(old: &[u8], now: &[u8]) -> Vec<Range<usize>> {
    let size = SECTOR_LEN;
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, (was, is)) in old.chunks(size).zip(now.chunks(size)).enumerate() {
        let start = number * size;
        match runs.last_mut() {
            _ if was == is => {}
            Some(run) if run.end == start => run.end += was.len(),
            _ => runs.push(start..start + was.len()),
        }
    }
    runs
}
