//! Which ranges of an export read as zeroes, as far as the server has reported it.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::wire::{Fields, STATE_ZERO, violation};

/// What the last report of the server has, until something is written.
#[derive(Debug, Default)]
pub struct Allocation(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// One after the other, each with whether it reads as zeroes.
    extents: Vec<(Range<u64>, bool)>,
    /// How often something was written.
    writes: u64,
}

impl Allocation {
    /// Forgets everything, since something is written.
    pub fn forget(&self) {
        let mut known = self.known();
        known.extents.clear();
        known.writes += 1;
    }

    /// How often something was written, for [`Self::learn`].
    pub fn writes(&self) -> u64 {
        self.known().writes
    }

    /// Keeps a report, unless something was written since `writes` was read.
    pub fn learn(&self, extents: Vec<(Range<u64>, bool)>, writes: u64) {
        let mut known = self.known();
        if known.writes == writes {
            known.extents = extents;
        }
    }

    /// What is known of `offset`.
    pub fn next(&self, offset: u64) -> Option<Next> {
        next(&self.known().extents, offset)
    }

    // No panic leaves it half changed.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This range is the first that may be other than zero.
    Data(Range<u64>),
    /// Zeroes up to here, and nothing is known of what follows.
    ZeroesTo(u64),
}

/// What follows an offset by these extents; `None` where they do not have it.
pub fn next(extents: &[(Range<u64>, bool)], offset: u64) -> Option<Next> {
    let at = extents.partition_point(|(range, _)| range.end <= offset);
    let rest = extents.get(at..)?;
    if rest.first()?.0.start > offset {
        return None;
    }
    let Some(first) = rest.iter().position(|(_, is_zero)| !is_zero) else {
        return rest.last().map(|(range, _)| Next::ZeroesTo(range.end));
    };
    let data = rest[first..].iter().take_while(|(_, is_zero)| !is_zero);
    let end = data.last().map_or(offset, |(range, _)| range.end);
    Some(Next::Data(rest[first].0.start.max(offset)..end))
}

/// The extents of a report about `range` in the context `context`.
pub fn extents(
    report: &[u8],
    context: u32,
    range: &Range<u64>,
) -> io::Result<Vec<(Range<u64>, bool)>> {
    let mut fields = Fields(report);
    if fields.u32()? != context {
        return Err(violation("a block status of another context"));
    }
    let (mut extents, mut at) = (Vec::new(), range.start);
    while !fields.0.is_empty() && at < range.end {
        let (bytes, state) = (u64::from(fields.u32()?), fields.u32()?);
        if bytes == 0 {
            return Err(violation("a block status of no bytes"));
        }
        // The last extent may reach further than what was asked for.
        let end = at.saturating_add(bytes).min(range.end);
        extents.push((at..end, state & STATE_ZERO != 0));
        at = end;
    }
    if extents.is_empty() {
        return Err(violation("a block status without extents"));
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_found_in_a_report() {
        let mut report = 7_u32.to_be_bytes().to_vec();
        for (bytes, state) in [(10_u32, 3_u32), (5, 0), (5, 1), (10, 2), (100, 0)] {
            report.extend(bytes.to_be_bytes());
            report.extend(state.to_be_bytes());
        }
        let extents = extents(&report, 7, &(100..140)).unwrap();
        assert_eq!(extents.last(), Some(&(130..140, false)));
        for (offset, want) in [
            (100, Some(Next::Data(110..120))),
            (112, Some(Next::Data(112..120))),
            (120, Some(Next::Data(130..140))),
            (99, None),
            (140, None),
        ] {
            assert_eq!(next(&extents, offset), want, "{offset}");
        }
        assert_eq!(next(&extents[..1], 105), Some(Next::ZeroesTo(110)));
    }

    #[test]
    fn a_report_that_makes_no_progress_is_an_error() {
        let report = |parts: &[u32]| {
            super::extents(
                &parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<u8>>(),
                1,
                &(0..10),
            )
        };
        assert!(report(&[1, 10, 0]).is_ok());
        for wrong in [&[][..], &[1], &[2, 10, 0], &[1, 0, 0], &[1, 10]] {
            assert!(report(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_report_older_than_a_write_is_not_kept() {
        let allocation = Allocation::default();
        let before = allocation.writes();
        allocation.forget();
        allocation.learn(vec![(0..10, true)], before);
        assert_eq!(allocation.next(0), None);
        allocation.learn(vec![(0..10, true)], allocation.writes());
        assert_eq!(allocation.next(0), Some(Next::ZeroesTo(10)));
    }
}
