//! A copy of an image's metadata alone: what a check reads of it, at the same offsets, and nothing else. It
//! checks like the original, and no guest data is in it.

mod compare;
mod names;
mod recorder;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::check::{CheckOptions, CheckReport, check};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::storage::{ReadAt, Storage};
use recorder::Recorder;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// What is zero in blocks of so many bytes is not written.
const BLOCK: u64 = 4096;

/// How to dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpOptions {
    /// Overwrite the names of files, snapshots and bitmaps with others of the same length.
    pub blank_names: bool,
}

/// What a check says of an image, where it says anything.
#[derive(Debug)]
pub enum Verdict {
    /// What it found.
    Report(Box<CheckReport>),
    /// Why it could not look further than the header.
    None(String),
}

/// An image that was gone through, and what of it has to be in a dump.
pub struct Dump<'a> {
    source: &'a dyn ReadAt,
    recorder: Recorder<'a>,
    file_bytes: u64,
    verdict: Verdict,
}

/// What a dump holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were taken over.
    pub copied: u64,
    /// The length of both files, in bytes.
    pub file_bytes: u64,
}

impl<'a> Dump<'a> {
    /// Goes through an image. An error where it is none, or where the file's length or its header cannot
    /// be read.
    pub fn of(source: &'a dyn ReadAt, progress: &dyn Progress) -> Result<Self> {
        let recorder = Recorder::new(source);
        let verdict = verdict(&recorder, progress)?;
        let file_bytes = length(source)?;
        Ok(Self { source, recorder, file_bytes, verdict })
    }

    /// What a check says of the image.
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Writes the dump to an empty storage and checks it. An error where the dump does not check like the
    /// image: parts of that cannot be read, or it changed meanwhile.
    pub fn write(
        &self,
        target: &dyn Storage,
        options: &DumpOptions,
        cancel: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<Written> {
        let at_end = |e| Error::io("make the dump as long as the image", self.file_bytes, e);
        target.set_len(self.file_bytes).map_err(at_end)?;
        let ranges = self.recorder.ranges();
        let copied = ranges.iter().map(|range| range.end - range.start).sum();
        progress.stage("metadata", copied);
        let mut buffer = vec![0; PIECE];
        for range in &ranges {
            let mut at = range.start;
            while at < range.end {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Error::interrupted());
                }
                let length = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
                let piece = &mut buffer[..length];
                let read = |e| Error::io("read metadata", at, e);
                self.source.read_padded_at(at, piece).map_err(read)?;
                write_sparsely(target, at, piece)?;
                progress.advance(length as u64);
                at += length as u64;
            }
        }
        if options.blank_names {
            match self.verdict {
                Verdict::Report(_) => names::blank(self.source, target)?,
                Verdict::None(_) => return Err(unreadable_names()),
            }
        }
        let found = verdict(target, progress)?;
        compare::same(&self.verdict, &found, options.blank_names)?;
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        Ok(Written { copied, file_bytes: self.file_bytes })
    }
}

fn unreadable_names() -> Error {
    Error::Refused("names cannot be blanked where the header leads to none".into())
}

fn length(source: &dyn ReadAt) -> Result<u64> {
    source.len().map_err(|e| Error::file("tell the file's length", e))
}

fn verdict(source: &dyn ReadAt, progress: &dyn Progress) -> Result<Verdict> {
    match check(source, &CheckOptions::default(), progress) {
        Ok(report) => Ok(Verdict::Report(Box::new(report))),
        Err(error @ (Error::Header { .. } | Error::Unsupported(_))) => {
            Ok(Verdict::None(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Writes what is not zero.
fn write_sparsely(target: &dyn Storage, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut at = 0;
    // A run of blocks that are not zero; blocks begin where those of the file do.
    let mut start = None;
    while at < bytes.len() {
        let room = BLOCK - (offset + at as u64) % BLOCK;
        let end = usize::try_from(room).unwrap_or(usize::MAX).saturating_add(at).min(bytes.len());
        if bytes[at..end].iter().any(|&byte| byte != 0) {
            start = start.or(Some(at));
        } else if let Some(start) = start.take() {
            write(target, offset + start as u64, &bytes[start..at])?;
        }
        at = end;
    }
    match start {
        Some(start) => write(target, offset + start as u64, &bytes[start..]),
        None => Ok(()),
    }
}

fn write(target: &dyn Storage, offset: u64, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    target.write_at(offset, bytes).map_err(|e| Error::io("write metadata", offset, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn what_is_not_zero_is_written_whatever_its_place() {
        let mut bytes = vec![0; 40_000];
        for at in [0, 1, 5000, 20_000, 39_999] {
            bytes[at] = 7;
        }
        for offset in [0, 1, 4095, 4096] {
            let target = MemoryStorage::new(vec![0; 50_000]);
            write_sparsely(&target, offset, &bytes).unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!(target.to_vec()[start..start + bytes.len()], bytes, "{offset}");
        }
    }
}
