//! Which reads go through an object in its order, and what they need next.

use std::ops::Range;

/// Reads so near to where the last one ended continue it; those of several threads overtake each
/// other.
const NEAR: u64 = 512 << 10;
/// After so many reads in a row, more are expected.
const PROOF: u32 = 4;
/// What is read ahead at first, and at most.
const FIRST: u64 = 512 << 10;
const MOST: u64 = 8 << 20;
/// Most rows of reads that are followed at the same time.
const ROWS: usize = 4;

/// Rows of reads.
#[derive(Debug, Default)]
pub struct Ahead(Vec<Row>);

#[derive(Debug)]
struct Row {
    end: u64,
    reads: u32,
    /// Up to where it is requested.
    requested: u64,
    window: u64,
}

impl Ahead {
    /// Enters a read; returns what should be requested beside it. `is_known` is whether it was
    /// requested before: then it begins no row.
    pub fn enter(&mut self, read: &Range<u64>, is_known: bool) -> Option<Range<u64>> {
        let continues = |row: &Row| {
            let to = row.requested.max(row.end) + NEAR;
            (row.end.saturating_sub(NEAR)..to).contains(&read.start)
        };
        let Some(at) = self.0.iter().position(continues) else {
            if !is_known {
                self.0.truncate(ROWS - 1);
                let row = Row { end: read.end, reads: 1, requested: 0, window: FIRST };
                self.0.insert(0, row);
            }
            return None;
        };
        let mut row = self.0.remove(at);
        row.end = row.end.max(read.end);
        row.reads = row.reads.saturating_add(1);
        let mut ahead = None;
        if row.reads >= PROOF && row.requested < row.end + row.window / 2 {
            let from = row.requested.max(row.end);
            row.requested = row.end + row.window;
            row.window = (row.window * 2).min(MOST);
            ahead = Some(from..row.requested);
        }
        self.0.insert(0, row);
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_a_row_are_continued_and_scattered_ones_are_not() {
        let mut ahead = Ahead::default();
        let (mut requested, mut at) = (0, 0);
        for _ in 0..1000 {
            if let Some(range) = ahead.enter(&(at..at + 65_536), at < requested) {
                assert!(range.start >= requested && range.end <= at + MOST + 65_536);
                requested = range.end;
            }
            at += 65_536;
        }
        assert!(requested >= at);
        let mut scattered = Ahead::default();
        for table in 0..100 {
            let at = table * (512 << 20);
            assert_eq!(scattered.enter(&(at..at + 65_536), false), None);
        }
        let mut known = Ahead::default();
        assert!((0..100).all(|n| known.enter(&(n * 65_536..(n + 1) * 65_536), true).is_none()));
    }
}
