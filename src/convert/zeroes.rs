//! Finding zeroes, so that they need not be stored.

use std::ops::Range;

/// Bytes that are looked at together; a run of zeroes begins and ends at a multiple of this.
const BLOCK: usize = 4096;
/// The least that can be told apart.
const SECTOR: usize = 512;

/// Whether all bytes are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Data is seldom zero for long: most of it is told by its first bytes.
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    head.iter().all(|&b| b == 0)
        && rest.chunks(1024).all(|part| part.iter().fold(0, |a, b| a | b) == 0)
}

/// The ranges of `bytes` that have to be stored: everything but runs of zeroes of at least `sparse` bytes. With
/// `sparse` 0 that is all. `at` is where the bytes lie on the disk: runs are aligned there.
pub(super) fn data_runs(bytes: &[u8], sparse: u64) -> Vec<Range<usize>> {
    if sparse == 0 {
        return std::iter::once(0..bytes.len()).filter(|run| !run.is_empty()).collect();
    }
    let sparse = usize::try_from(sparse).unwrap_or(usize::MAX);
    let block = if sparse < BLOCK { sparse.next_multiple_of(SECTOR) } else { BLOCK };
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for part in bytes.chunks(block) {
        let end = at + part.len();
        if !is_zero(part) {
            match runs.last_mut() {
                // Zeroes too few to be left out are data.
                Some(last) if at - last.end < sparse => last.end = end,
                None if at > 0 && at < sparse && sparse > BLOCK => runs.push(0..end),
                _ => runs.push(at..end),
            }
        }
        at = end;
    }
    if let Some(last) = runs.last_mut() {
        let rest = bytes.len() - last.end;
        if rest > 0 && rest < sparse && sparse > BLOCK {
            last.end = bytes.len();
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_zeroes_are_left_out_where_they_are_long_enough() {
        let mut bytes = vec![0; 10 * BLOCK];
        bytes[BLOCK + 5] = 1;
        bytes[3 * BLOCK] = 1;
        bytes[10 * BLOCK - 1] = 1;
        let runs = |sparse: usize| data_runs(&bytes, sparse as u64);
        let block = |range: Range<usize>| range.start * BLOCK..range.end * BLOCK;
        assert_eq!(runs(BLOCK), [block(1..2), block(3..4), block(9..10)]);
        assert_eq!(runs(2 * BLOCK), [block(0..4), block(9..10)]);
        assert_eq!(runs(0), [block(0..10)]);
        assert_eq!(runs(SECTOR)[0], BLOCK..BLOCK + SECTOR);
        assert!(data_runs(&[0; 100], 4096).is_empty());
        assert!(data_runs(&[], 0).is_empty());
    }

    #[test]
    fn one_byte_anywhere_is_no_zero() {
        for length in [1, 63, 64, 65, 1088, 5000] {
            assert!(is_zero(&vec![0; length]));
            for at in [0, length / 2, length - 1] {
                let mut bytes = vec![0; length];
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{at} of {length}");
            }
        }
    }
}
