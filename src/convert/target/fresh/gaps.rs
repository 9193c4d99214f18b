//! Free bytes at the ends of clusters that hold compressed data: what is small enough goes there.

use std::collections::BTreeMap;

use crate::format::HostOffset;

/// Most gaps that are kept; of more the smallest is given up.
const MOST: usize = 64;

/// Where there are free bytes, and how many.
#[derive(Debug, Default)]
pub(in crate::convert) struct Gaps(BTreeMap<HostOffset, u64>);

impl Gaps {
    /// Adds a gap.
    pub(in crate::convert) fn put(&mut self, at: HostOffset, bytes: u64) {
        if self.0.len() >= MOST {
            let smallest = self.0.iter().min_by_key(|(_, free)| **free).map(|(&at, _)| at);
            smallest.map(|at| self.0.remove(&at));
        }
        self.0.insert(at, bytes);
    }

    /// Takes the smallest gap that has at least so many bytes.
    pub(in crate::convert) fn take(&mut self, bytes: u64) -> Option<HostOffset> {
        let fitting = self.0.iter().filter(|(_, free)| **free >= bytes);
        let (&at, _) = fitting.min_by_key(|(_, free)| **free)?;
        self.0.remove(&at);
        Some(at)
    }

    /// Takes the first gap that the search accepts, from the last one on.
    pub(in crate::convert) fn take_where(
        &mut self,
        wanted: impl Fn(HostOffset) -> bool,
    ) -> Option<HostOffset> {
        let at = self.0.keys().rev().copied().find(|&at| wanted(at))?;
        self.0.remove(&at);
        Some(at)
    }

    /// The first gap of the file.
    pub(in crate::convert) fn first(&self) -> Option<HostOffset> {
        self.0.keys().next().copied()
    }

    /// Gives all gaps up.
    pub(in crate::convert) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gap_that_is_large_enough_is_taken_and_the_smallest_is_given_up() {
        let at = HostOffset::new;
        let mut gaps = Gaps::default();
        for n in 0..MOST as u64 {
            gaps.put(at(n * 1000), 100 + n);
        }
        assert_eq!(gaps.take(110), Some(at(10_000)));
        assert_eq!(gaps.take(110), Some(at(11_000)));
        gaps.put(at(5), 50);
        gaps.put(at(6), 500);
        gaps.put(at(7), 600);
        assert_eq!(gaps.take(1), Some(at(0)), "the one of 50 bytes was given up");
        assert_eq!(gaps.take(601), None);
        assert_eq!(gaps.take_where(|gap| gap < at(7)), Some(at(6)));
        assert_eq!(gaps.first(), Some(at(7)));
        gaps.clear();
        assert_eq!(gaps.take(0), None);
    }
}
