//! Huffman codes of limited length.

#![cfg_attr(
    not(test),
    expect(
        clippy::cast_possible_truncation,
        reason = "positions in a table of at most 286 entries"
    )
)]

/// The longest code of a literal, length or distance.
pub(super) const MAX_BITS: usize = 15;

/// A code for up to `N` symbols.
#[derive(Debug, Clone)]
pub(super) struct Code<const N: usize> {
    /// Bits of each symbol's code; 0: it has none.
    pub(super) lengths: [u8; N],
    /// Each code, its first bit lowest.
    pub(super) words: [u16; N],
}

impl<const N: usize> Default for Code<N> {
    fn default() -> Self {
        Self { lengths: [0; N], words: [0; N] }
    }
}

impl<const N: usize> Code<N> {
    /// The best code of at most `limit` bits for these frequencies. At least two symbols get one, since some readers
    /// take nothing else.
    pub(super) fn build(&mut self, frequencies: &[u32; N], limit: usize, scratch: &mut Vec<u64>) {
        self.lengths = [0; N];
        // Frequency above, symbol below: sorting such numbers needs no comparison function.
        scratch.clear();
        let used = (0u64..).zip(frequencies).filter(|(_, f)| **f > 0);
        scratch.extend(used.map(|(symbol, &f)| u64::from(f) << 16 | symbol));
        if scratch.len() < 2 {
            let only = scratch.first().map_or(0, |&entry| (entry & 0xFFFF) as usize);
            self.lengths[only] = 1;
            self.lengths[usize::from(only == 0)] = 1;
        } else {
            scratch.sort_unstable();
            self.set_lengths(scratch, limit);
        }
        self.set_words();
    }

    /// Lengths from symbols in the order of their frequencies.
    fn set_lengths(&mut self, sorted: &mut [u64], limit: usize) {
        let symbols: [u16; N] = {
            let mut symbols = [0; N];
            for (symbol, entry) in symbols.iter_mut().zip(sorted.iter()) {
                *symbol = (entry & 0xFFFF) as u16;
            }
            symbols
        };
        sorted.iter_mut().for_each(|entry| *entry >>= 16);
        let mut counts = count_depths(sorted, limit);
        shorten(&mut counts, limit);
        // The most frequent symbols, at the end, get the shortest codes.
        let mut next = sorted.len();
        for (bits, &count) in (1u8..).zip(&counts[1..]) {
            for _ in 0..count {
                next -= 1;
                self.lengths[usize::from(symbols[next])] = bits;
            }
        }
    }

    /// Canonical codes for the lengths.
    fn set_words(&mut self) {
        let mut counts = [0u16; MAX_BITS + 1];
        for &length in self.lengths.iter().filter(|&&length| length > 0) {
            counts[usize::from(length)] += 1;
        }
        let mut next = [0u16; MAX_BITS + 1];
        for bits in 1..=MAX_BITS {
            next[bits] = (next[bits - 1] + if bits > 1 { counts[bits - 1] } else { 0 }) << 1;
        }
        for (word, &length) in self.words.iter_mut().zip(&self.lengths) {
            if length > 0 {
                let code = &mut next[usize::from(length)];
                *word = code.reverse_bits() >> (16 - u16::from(length));
                *code += 1;
            }
        }
    }
}

/// How many leaves of the Huffman tree for sorted frequencies lie at each depth; what is deeper than `limit` is counted
/// there. The numbers are overwritten: first with the tree's parents, then with depths.
fn count_depths(tree: &mut [u64], limit: usize) -> [u32; MAX_BITS + 2] {
    let n = tree.len();
    // Inner nodes are made in ascending order of weight, so leaves and nodes are two sorted queues in one array.
    let (mut leaf, mut node) = (0, 0);
    for next in 0..n - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let from_leaves = leaf < n && (node >= next || tree[leaf] <= tree[node]);
            if from_leaves {
                weight += tree[leaf];
                leaf += 1;
            } else {
                weight += tree[node];
                tree[node] = next as u64;
                node += 1;
            }
        }
        tree[next] = weight;
    }
    // The root is the last; every other node lies one below its parent.
    let mut counts = [0u32; MAX_BITS + 2];
    tree[n - 2] = 0;
    for at in (0..n - 2).rev() {
        tree[at] = tree[tree[at] as usize] + 1;
    }
    let (mut depth, mut at, mut open) = (0u64, n - 1, 1u32);
    // At each depth, what is no inner node is a leaf.
    while open > 0 {
        let mut inner = 0;
        while at > 0 && tree[at - 1] == depth {
            inner += 1;
            at -= 1;
        }
        counts[(depth as usize).min(limit)] += open - inner;
        open = 2 * inner;
        depth += 1;
    }
    counts
}

/// Makes a code of what was cut off at `limit`: shorter codes get longer until all fit.
fn shorten(counts: &mut [u32; MAX_BITS + 2], limit: usize) {
    let used = |counts: &[u32; MAX_BITS + 2]| -> u64 {
        (1..=limit).map(|bits| u64::from(counts[bits]) << (limit - bits)).sum()
    };
    let mut over = used(counts).saturating_sub(1 << limit);
    while over > 0 {
        // One leaf at the limit goes beside a leaf from further up, which goes one down.
        let from = (1..limit).rev().find(|&bits| counts[bits] > 0).unwrap_or(1);
        counts[from] -= 1;
        counts[from + 1] += 2;
        counts[limit] -= 1;
        over -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kraft(lengths: &[u8]) -> u32 {
        lengths.iter().filter(|&&l| l > 0).map(|&l| 1 << (15 - l)).sum()
    }

    #[test]
    fn codes_are_complete_whatever_the_frequencies() {
        let mut state = 7u64;
        let mut next = move || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 33) as u32
        };
        let mut scratch = Vec::new();
        for round in 0..2000 {
            let mut frequencies = [0u32; 30];
            for (n, f) in frequencies.iter_mut().enumerate() {
                // Powers of two make the deepest trees.
                *f = match round % 3 {
                    0 => next() % 50,
                    1 => 1 << (n % 30),
                    _ => next() % 3 * (next() % 100_000),
                };
            }
            for limit in [7, 15] {
                let mut code = Code::<30>::default();
                code.build(&frequencies, limit, &mut scratch);
                assert_eq!(kraft(&code.lengths), 1 << 15, "{frequencies:?}");
                assert!(code.lengths.iter().all(|&l| usize::from(l) <= limit));
                let used = frequencies.iter().filter(|&&f| f > 0).count();
                let coded = code.lengths.iter().filter(|&&l| l > 0).count();
                assert_eq!(coded, used.max(2));
            }
        }
    }

    #[test]
    fn frequent_symbols_have_shorter_codes() {
        let mut code = Code::<4>::default();
        code.build(&[1, 1, 2, 4], 15, &mut Vec::new());
        assert_eq!(code.lengths, [3, 3, 2, 1]);
        assert_eq!(code.words, [0b011, 0b111, 0b01, 0]);
    }
}
