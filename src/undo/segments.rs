//! The places that a repair changed, each with everything that it held in turn.

use std::collections::BTreeSet;
use std::ops::Range;

use super::reader::Placed;

/// A range of the image that the same entries are about.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Where.
    pub range: Range<u64>,
    /// The entries about it, by group.
    pub entries: Vec<&'a Placed>,
}

/// Cuts the image where an entry begins or ends, and leaves out what no entry is about.
pub fn segments(old: &[Placed]) -> Vec<Segment<'_>> {
    let mut by_offset: Vec<usize> = (0..old.len()).collect();
    by_offset.sort_by_key(|&at| old[at].entry.offset);
    let mut waiting = by_offset.into_iter().peekable();
    let mut active: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let begins = waiting.peek().map(|&at| old[at].entry.offset);
        let ends = active.first().map(|&(end, _)| end);
        let end = match (begins, ends) {
            (None, None) => return found,
            (Some(begin), Some(end)) => begin.min(end),
            (Some(at), None) | (None, Some(at)) => at,
        };
        if !active.is_empty() && end > start {
            // The entries come group by group, so that their numbers give the order.
            let mut numbers: Vec<usize> = active.iter().map(|&(_, at)| at).collect();
            numbers.sort_unstable();
            let entries = numbers.into_iter().map(|at| &old[at]).collect();
            found.push(Segment { range: start..end, entries });
        }
        start = end;
        while active.first().is_some_and(|&(stop, _)| stop == end) {
            active.pop_first();
        }
        while let Some(at) = waiting.next_if(|&at| old[at].entry.offset == end) {
            active.insert((old[at].entry.range().end, at));
        }
    }
}
