//! Sets of numbers, such as bytes or clusters of a file, as ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that neither overlap nor touch, in order.
#[derive(Debug, Clone, Default)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range.
    pub fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.0.range(..=range.end).next_back() {
            if end < range.start {
                break;
            }
            self.0.remove(&start);
            range = range.start.min(start)..range.end.max(end);
        }
        self.0.insert(range.start, range.end);
    }

    /// Whether a byte of the range is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..range.end).next_back();
        !range.is_empty() && before.is_some_and(|(_, &end)| end > range.start)
    }

    /// Whether every byte of the range is in the set.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        range.is_empty() || before.is_some_and(|(_, &end)| end >= range.end)
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(&start, &end)| start..end)
    }

    /// How many numbers are in the set.
    pub fn total(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_a_table_of_bytes_has() {
        let mut random = 12345_u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % n
        };
        for _ in 0..300 {
            let (mut set, mut bytes) = (RangeSet::default(), [false; 64]);
            for _ in 0..below(12) {
                let start = below(60);
                let range = start..start + below(64 - start);
                bytes[start as usize..range.end as usize].fill(true);
                set.insert(range);
            }
            let start = below(60);
            let asked = start..start + below(64 - start);
            let inside = &bytes[start as usize..asked.end as usize];
            assert_eq!(set.overlaps(&asked), inside.contains(&true));
            assert_eq!(set.covers(&asked), !inside.contains(&false));
            let members: Vec<u64> = set.iter().flatten().collect();
            let want: Vec<u64> = (0..64).filter(|&at| bytes[at as usize]).collect();
            assert_eq!(set.total(), want.len() as u64);
            assert_eq!(members, want);
            let ends: Vec<_> = set.iter().flat_map(|r| [r.start, r.end]).collect();
            assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
        }
    }
}
