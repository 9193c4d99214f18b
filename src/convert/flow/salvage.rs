//! Continues where the source cannot be read: what is lost is zero in the target, and reported.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

use crate::convert::source::SourceDisk;
use crate::sector::SECTOR;

/// Ranges that are kept apart; above that, neighbours are joined into one.
const MAX_RANGES: usize = 100_000;

/// A range of the guest's disk that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Its bytes.
    pub range: Range<u64>,
    /// Why, as far as is known of its beginning.
    pub reason: String,
}

/// What was lost so far.
#[derive(Debug, Default)]
pub(crate) struct Salvage(Mutex<Vec<Loss>>);

impl Salvage {
    /// Reads what can be read; the rest becomes zeroes and is noted.
    pub(in crate::convert) fn read(&self, source: &SourceDisk, at: u64, buf: &mut [u8]) {
        // From large to small: most of what is damaged is a cluster, some of it a sector.
        self.read_parts(source, at, buf, &[source.grain().max(1 << 16), 4096, SECTOR]);
    }

    fn read_parts(&self, source: &SourceDisk, at: u64, buf: &mut [u8], sizes: &[u64]) {
        let Err(error) = source.read(at, buf) else { return };
        let [size, finer @ ..] = sizes else {
            buf.fill(0);
            return self.note(at..at + buf.len() as u64, &error);
        };
        // Damage of the image is as large as a cluster; only the disk below can lose a part of one.
        if is_damage(&error) && *size < source.grain() {
            buf.fill(0);
            return self.note(at..at + buf.len() as u64, &error);
        }
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let length = usize::try_from(size - at % size).unwrap_or(usize::MAX).min(rest.len());
            let (part, others) = rest.split_at_mut(length);
            self.read_parts(source, at, part, finer);
            at += length as u64;
            rest = others;
        }
    }

    fn note(&self, range: Range<u64>, error: &Error) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        losses.push(Loss { range, reason: error.to_string() });
        if losses.len() >= 2 * MAX_RANGES {
            *losses = merged(std::mem::take(&mut losses), MAX_RANGES);
        }
    }

    /// Everything that was lost, in the order of the disk; neighbours are one.
    pub(in crate::convert) fn losses(self) -> Vec<Loss> {
        merged(self.0.into_inner().unwrap_or_else(PoisonError::into_inner), usize::MAX)
    }
}

fn is_damage(error: &Error) -> bool {
    crate::image::Damage::of(error).is_some()
}

fn merged(mut losses: Vec<Loss>, most: usize) -> Vec<Loss> {
    losses.sort_by_key(|loss| loss.range.start);
    let mut out: Vec<Loss> = Vec::new();
    for loss in losses {
        let full = out.len() >= most;
        match out.last_mut() {
            Some(last) if last.range.end >= loss.range.start => {
                last.range.end = last.range.end.max(loss.range.end);
            }
            Some(last) if full => last.range.end = loss.range.end,
            _ => out.push(loss),
        }
    }
    out
}

/// Reads, with a salvage if there is one.
pub(in crate::convert) fn read(
    source: &SourceDisk,
    salvage: Option<&Salvage>,
    at: u64,
    buf: &mut [u8],
) -> Result<()> {
    match salvage {
        Some(salvage) => {
            salvage.read(source, at, buf);
            Ok(())
        }
        None => source.read(at, buf),
    }
}
