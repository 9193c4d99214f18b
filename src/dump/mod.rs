//! A copy of an image's metadata alone: what a check reads of it, at the same offsets, and nothing
//! else. It checks like the original, and no guest data is in it.

mod compare;
mod names;
mod recorder;
mod slack;
mod sparse;
mod verdict;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::setters::setters;
use crate::storage::{ReadAt, Storage};
use recorder::Recorder;
use sparse::write_sparsely;
use verdict::verdict;

pub use verdict::CheckOutcome;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// How to dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DumpOptions {
    /// Overwrite the names of files, snapshots and bitmaps with others of the same length.
    pub blank_names: bool,
    /// Copy the rest of each metadata cluster too, in which nothing is stored. It may hold former
    /// guest data.
    pub keep_slack: bool,
}

setters!(DumpOptions { blank_names: bool, keep_slack: bool });

/// An image that was gone through, and what of it has to be in a dump.
pub struct Dump<'a> {
    source: &'a dyn ReadAt,
    recorder: Recorder<'a>,
    file_bytes: u64,
    verdict: CheckOutcome,
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
    /// Goes through an image. An error if it is not one, or if the file's length or its header
    /// cannot be read.
    pub fn of(source: &'a dyn ReadAt, progress: &dyn Progress) -> Result<Self> {
        let recorder = Recorder::new(source);
        let verdict = verdict(&recorder, progress)?;
        let file_bytes = length(source)?;
        Ok(Self { source, recorder, file_bytes, verdict })
    }

    /// The result of a check of the image.
    pub const fn verdict(&self) -> &CheckOutcome {
        &self.verdict
    }

    /// Writes the dump to an empty storage and checks it. An error where the dump does not check
    /// like the image: parts of that cannot be read, or it changed meanwhile; and
    /// [`Error::Cancelled`].
    pub fn write(
        &self,
        target: &dyn Storage,
        options: &DumpOptions,
        progress: &dyn Progress,
    ) -> Result<Written> {
        let at_end = |e| Error::io("make the dump as long as the image", self.file_bytes, e);
        target.set_len(self.file_bytes).map_err(at_end)?;
        let all = self.recorder.ranges();
        let slack = if options.keep_slack { None } else { slack::of_header(self.source) };
        let ranges = match &slack {
            Some(slack) => slack::without(&all, slack),
            None if options.keep_slack => slack::whole_clusters(&all, self.source, self.file_bytes),
            None => all.clone(),
        };
        let mut copied = self.copy(&ranges, target, progress)?;
        let mut checked = self.check(target, options, progress);
        if slack.is_some() && checked.is_err() {
            // Damage can have a check read as a table what is otherwise slack.
            copied = self.copy(&all, target, progress)?;
            checked = self.check(target, options, progress);
        }
        checked?;
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(Written { copied, file_bytes: self.file_bytes })
    }

    /// Copies these ranges; returns how many bytes they have.
    fn copy(
        &self,
        ranges: &[Range<u64>],
        target: &dyn Storage,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let copied = ranges.iter().map(|range| range.end - range.start).sum();
        progress.stage("metadata", copied);
        let mut buffer = vec![0; PIECE];
        for range in ranges {
            let mut at = range.start;
            while at < range.end {
                if progress.is_cancelled() {
                    return Err(Error::Cancelled);
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
        Ok(copied)
    }

    /// Blanks names where that is requested, and compares a check of the dump with one of the
    /// image.
    fn check(
        &self,
        target: &dyn Storage,
        options: &DumpOptions,
        progress: &dyn Progress,
    ) -> Result<()> {
        if options.blank_names {
            match self.verdict {
                CheckOutcome::Report(_) => names::blank(self.source, target)?,
                CheckOutcome::None(_) => return Err(unreadable_names()),
            }
        }
        let found = verdict(target, progress)?;
        compare::same(&self.verdict, &found, options.blank_names)
    }
}

fn unreadable_names() -> Error {
    Error::Refused("names cannot be blanked where the header points to none".into())
}

fn length(source: &dyn ReadAt) -> Result<u64> {
    source.len().map_err(|e| Error::file("determine the file's length", e))
}
