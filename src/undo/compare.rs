//! Whether an image is the one that was repaired, unchanged since, and how far it is undone.

use std::ops::Range;

use super::encoding::{MAX_CHUNK, SHORT, State};
use super::held::Held;
use super::reader::{Placed, Record};
use super::segments::{Segment, segments};
use crate::error::{Error, Result};
use crate::sector::{SECTOR, SECTOR_LEN};
use crate::storage::{ReadAt, is_zero};

/// What became of the sectors that the undo file records.
#[derive(Debug)]
pub struct Comparison {
    /// Sectors that are known to have held something other than zeroes.
    pub known: u64,
    /// Those of them that hold something that they held once.
    pub same: u64,
    /// The first place that holds something else.
    pub changed: Option<u64>,
    /// Whether everything is as it was before the repair.
    pub is_undone: bool,
    /// For each group, whether the image can be in the middle of its undoing.
    possible: Vec<bool>,
}

impl Comparison {
    /// The group that is to be undone next: those above it are undone already.
    pub fn next_group(&self) -> usize {
        let first = self.possible.iter().position(|&possible| possible);
        first.unwrap_or(self.possible.len())
    }

    fn count(&mut self, offset: u64, same: bool, zero: bool) {
        self.known += u64::from(!zero);
        self.same += u64::from(!zero && same);
        if !same && self.changed.is_none_or(|first| offset < first) {
            self.changed = Some(offset);
        }
    }
}

/// Compares an image with what an undo file records of it.
pub fn compare(image: &dyn ReadAt, record: &Record) -> Result<Comparison> {
    let groups = record.old.last().map_or(0, |p| p.entry.group as usize + 1);
    let mut found = Comparison {
        known: 0,
        same: 0,
        changed: None,
        is_undone: true,
        possible: vec![true; groups],
    };
    let len = length(image)?;
    for placed in &record.watched {
        watched(image, record, placed, &mut found)?;
    }
    for segment in segments(&record.old) {
        let zero = segment.entries.iter().all(|placed| placed.entry.zero);
        for_each_chunk(image, segment.range.clone(), zero, &mut |range, bytes| {
            changed(record, &segment, &range, bytes, &mut found)
        })?;
    }
    match record.state {
        // The length is put back when all else is.
        State::Ended(new) if len == record.old_bytes && (found.is_undone || len == new) => {}
        State::Ended(new) if len == new => {
            tail(image, record, len, &mut found)?;
            found.is_undone = false;
        }
        State::Repairing if len >= record.old_bytes => found.is_undone &= len == record.old_bytes,
        _ => {
            found.is_undone &= record.appended(len) > 0;
            found.count(len.min(record.old_bytes), false, true);
        }
    }
    if found.possible.iter().all(|possible| !possible) && groups > 0 && found.changed.is_none() {
        // Every sector holds something that it held once, but never all of it at the same time.
        found.changed = record.old.first().map(|p| p.entry.offset);
    }
    Ok(found)
}

/// The length of an image.
pub fn length(image: &dyn ReadAt) -> Result<u64> {
    image.len().map_err(|e| Error::file("determine the image's length", e))
}

/// Receives a place in the image and its bytes.
pub type Visit<'a> = dyn FnMut(Range<u64>, &[u8]) -> Result<()> + 'a;

/// Shows the image's bytes in a range, in pieces. Where zeroes are expected, holes are left out.
pub fn for_each_chunk(
    image: &dyn ReadAt,
    whole: Range<u64>,
    zero: bool,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let mut at = whole.start;
    while at < whole.end {
        let mut stop = whole.end;
        if zero {
            let failed = |e| Error::io("look for data", at, e);
            let Some(data) = image.next_data(at).map_err(failed)? else { break };
            at = at.max(data.start - data.start % SECTOR);
            stop = stop.min(data.end.checked_next_multiple_of(SECTOR).unwrap_or(stop));
        }
        while at < stop {
            let range = at..stop.min(at + MAX_CHUNK);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
            let failed = |e| Error::io("read the image", at, e);
            image.read_padded_at(at, &mut bytes).map_err(failed)?;
            at = range.end;
            visit(range, &bytes)?;
        }
    }
    Ok(())
}

fn sectors(start: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let chunks = bytes.chunks(SECTOR_LEN).enumerate();
    chunks.map(move |(number, sector)| (start + number as u64 * SECTOR, sector))
}

/// An entry of what the check read.
fn watched(
    image: &dyn ReadAt,
    record: &Record,
    placed: &Placed,
    found: &mut Comparison,
) -> Result<()> {
    let digests = record.digests(placed)?;
    let whole = placed.entry.range();
    for_each_chunk(image, whole.clone(), placed.entry.zero, &mut |range, bytes| {
        for (offset, sector) in sectors(range.start, bytes) {
            if record.changed.overlaps(&(offset..offset + sector.len() as u64)) {
                continue;
            }
            let held = if placed.entry.zero {
                Held::Zero
            } else {
                let at = usize::try_from((offset - whole.start) / SECTOR).unwrap_or(0) * SHORT;
                let mut digest = [0; SHORT];
                digest.copy_from_slice(&digests[at..at + SHORT]);
                Held::Digest(digest)
            };
            found.count(offset, held.is(sector), placed.entry.zero);
        }
        Ok(())
    })
}

/// A piece of what the repair changed.
fn changed(
    record: &Record,
    segment: &Segment<'_>,
    range: &Range<u64>,
    bytes: &[u8],
    found: &mut Comparison,
) -> Result<()> {
    let mut held = Vec::with_capacity(segment.entries.len());
    for placed in &segment.entries {
        let start = placed.entry.offset;
        held.push(record.payload(placed, range.start - start..range.end - start)?);
    }
    let groups: Vec<usize> = segment.entries.iter().map(|p| p.entry.group as usize).collect();
    let after = record.digests_after(range)?;
    for (number, (offset, sector)) in sectors(range.start, bytes).enumerate() {
        let at = number * SECTOR_LEN;
        let was = |old: &Vec<u8>| old[at..at + sector.len()] == *sector;
        let left = match record.state {
            // An interrupted repair left whatever it left.
            State::Repairing => true,
            State::Ended(end) => after[number].map_or(offset >= end, |held| held.is(sector)),
        };
        let matches: Vec<bool> = held.iter().map(was).chain([left]).collect();
        found.is_undone &= matches[0];
        narrow(&mut found.possible, &groups, &matches);
        found.count(offset, matches.contains(&true), is_zero(&held[0][at..at + sector.len()]));
    }
    Ok(())
}

/// Leaves the groups in the middle of whose undoing a sector can hold what it does. What it held
/// before group `groups[n]` shows until the next lower group that changed it is undone.
fn narrow(possible: &mut [bool], groups: &[usize], matches: &[bool]) {
    let end = possible.len();
    let mut allowed = vec![false; end];
    for (n, _) in matches.iter().enumerate().filter(|&(_, &is)| is) {
        let low = if n == 0 { 0 } else { groups[n - 1] };
        let high = groups.get(n).map_or(end, |&group| group + 1);
        allowed[low..high].fill(true);
    }
    possible.iter_mut().zip(allowed).for_each(|(possible, allowed)| *possible &= allowed);
}

/// What the repair appended.
fn tail(image: &dyn ReadAt, record: &Record, len: u64, found: &mut Comparison) -> Result<()> {
    let whole = record.old_bytes.next_multiple_of(SECTOR)..len;
    for_each_chunk(image, whole, false, &mut |range, bytes| {
        let after = record.digests_after(&range)?;
        for ((offset, sector), held) in sectors(range.start, bytes).zip(after) {
            let same = held.is_some_and(|held| held.is(sector));
            found.count(offset, same, matches!(held, Some(Held::Zero)));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups that are possible for a sector that groups 1 and 3 of 5 changed.
    fn possible(matches: [bool; 3]) -> Vec<usize> {
        let mut possible = vec![true; 5];
        narrow(&mut possible, &[1, 3], &matches);
        (0..5).filter(|&group| possible[group]).collect()
    }

    #[test]
    fn what_a_sector_has_shows_how_far_it_is_undone() {
        assert_eq!(possible([true, false, false]), [0, 1]);
        assert_eq!(possible([false, true, false]), [1, 2, 3]);
        assert_eq!(possible([false, false, true]), [3, 4]);
        assert_eq!(possible([true, false, true]), [0, 1, 3, 4]);
        assert!(possible([false; 3]).is_empty());
    }
}
