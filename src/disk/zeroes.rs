//! Finding zeroes, so that they need not be stored.

use std::ops::Range;

use crate::sector::SECTOR;
use crate::storage::is_zero;

/// The ranges of `bytes`, which begin at `at` on the disk, that have to be stored: everything but
/// runs of zeroes of at least `sparse` bytes. With `sparse` 0 that is all. Runs begin and end at
/// multiples of `sparse` where that is a power of two, and of the next smaller one otherwise.
pub(crate) fn data_runs(bytes: &[u8], at: u64, sparse: u64) -> Vec<Range<usize>> {
    if sparse == 0 {
        return std::iter::once(0..bytes.len()).filter(|run| !run.is_empty()).collect();
    }
    let block = (1u64 << sparse.ilog2()).max(SECTOR);
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let left = block - (at + start as u64) % block;
        let end =
            bytes.len().min(start.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        if !is_zero(&bytes[start..end]) {
            match runs.last_mut() {
                // Zeroes too few to be left out are data.
                Some(last) if ((start - last.end) as u64) < sparse => last.end = end,
                _ => runs.push(start..end),
            }
        }
        start = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_zeroes_are_left_out_where_they_are_long_enough() {
        const BLOCK: usize = 4096;
        let mut bytes = vec![0; 10 * BLOCK];
        bytes[BLOCK + 5] = 1;
        bytes[3 * BLOCK] = 1;
        bytes[10 * BLOCK - 1] = 1;
        let runs = |sparse: usize| data_runs(&bytes, 0, sparse as u64);
        let block = |range: Range<usize>| range.start * BLOCK..range.end * BLOCK;
        assert_eq!(runs(BLOCK), [block(1..2), block(3..4), block(9..10)]);
        assert_eq!(runs(2 * BLOCK), [block(0..4), block(8..10)]);
        assert_eq!(runs(3 * BLOCK), [block(0..4), block(8..10)]);
        assert_eq!(runs(0), [block(0..10)]);
        assert_eq!(runs(512)[0], BLOCK..BLOCK + 512);
        // Alignment is that of the disk.
        let shifted = data_runs(&bytes, BLOCK as u64, 2 * BLOCK as u64);
        assert_eq!(shifted, [block(1..5), block(9..10)]);
        assert!(data_runs(&[0; 100], 0, 4096).is_empty());
        assert!(data_runs(&[], 0, 0).is_empty());
    }
}
