//! The refcount table and refcount blocks (specification, "Host cluster management").

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};

use super::addr::HostOffset;

/// Greatest refcount table in bytes (QEMU's limit: 8 MiB).
pub const MAX_REFTABLE_BYTES: u64 = 8 << 20;

/// A word of a block, in which no entry counts.
const ZERO_WORD: [u8; 8] = [0; 8];

/// One entry of the refcount table; any bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReftableEntry(pub u64);

impl ReftableEntry {
    /// Bits 0 - 8. Unlike in L1 and L2 entries, the offset goes up to bit 63.
    pub const RESERVED: u64 = 0x1FF;

    /// Host offset of the refcount block; 0 means that all its counts are 0.
    pub const fn offset(self) -> HostOffset {
        HostOffset::new(self.0 & !Self::RESERVED)
    }

    /// Whether a reserved bit is set.
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & Self::RESERVED != 0
    }
}

/// Reads entry `index` of a refcount block whose counts are `1 << order` bits wide. Widths under
/// 8 bits are stored from the least significant bit of each byte; wider ones are big-endian.
pub fn get_refcount(block: &[u8], order: u32, index: usize) -> u64 {
    match order {
        0..=2 => {
            let bits = 1usize << order;
            let per_byte = 8 >> order;
            let shift = index % per_byte * bits;
            u64::from(block[index / per_byte] >> shift) & ((1 << bits) - 1)
        }
        3 => u64::from(block[index]),
        4 => u64::from(BigEndian::read_u16(&block[index * 2..])),
        5 => u64::from(BigEndian::read_u32(&block[index * 4..])),
        _ => BigEndian::read_u64(&block[index * 8..]),
    }
}

/// Writes entry `index`; `value` must fit into the width.
#[expect(clippy::cast_possible_truncation, reason = "the value fits into the width")]
pub fn set_refcount(block: &mut [u8], order: u32, index: usize, value: u64) {
    debug_assert!(order == 6 || value < 1 << (1 << order), "a refcount fits into its width");
    match order {
        0..=2 => {
            let bits = 1usize << order;
            let per_byte = 8 >> order;
            let shift = index % per_byte * bits;
            let mask = (((1u32 << bits) - 1) << shift) as u8;
            let byte = &mut block[index / per_byte];
            *byte = *byte & !mask | (value as u8) << shift;
        }
        3 => block[index] = value as u8,
        4 => BigEndian::write_u16(&mut block[index * 2..], value as u16),
        5 => BigEndian::write_u32(&mut block[index * 4..], value as u32),
        _ => BigEndian::write_u64(&mut block[index * 8..], value),
    }
}

/// Sets these entries to 1.
pub fn count_once(block: &mut [u8], order: u32, entries: Range<usize>) {
    entries.for_each(|index| set_refcount(block, order, index, 1));
}

/// The entries of a block that are not 0, with their values, in order.
pub fn counted(
    block: &[u8],
    order: u32,
    entries: Range<usize>,
) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let counted = in_words(order, entries, |word| block[word] != ZERO_WORD);
    counted.map(move |at| (at, get_refcount(block, order, at))).filter(|&(_, count)| count > 0)
}

/// The entries that are not 0 in at least one of two blocks, with their values in each, in order.
pub fn counted_in_either(
    blocks: (&[u8], &[u8]),
    order: u32,
    entries: Range<usize>,
) -> impl Iterator<Item = (usize, u64, u64)> {
    pairs(blocks, order, entries, |one, other| one != ZERO_WORD || other != ZERO_WORD)
        .filter(|&(_, one, other)| one > 0 || other > 0)
}

/// The entries that differ between two blocks, with their values in each, in order.
pub fn differing(
    blocks: (&[u8], &[u8]),
    order: u32,
    entries: Range<usize>,
) -> impl Iterator<Item = (usize, u64, u64)> {
    pairs(blocks, order, entries, |one, other| one != other).filter(|&(_, one, other)| one != other)
}

/// The entries of two blocks in those words that have something of interest.
fn pairs(
    (one, other): (&[u8], &[u8]),
    order: u32,
    entries: Range<usize>,
    is_of_interest: impl Fn(&[u8], &[u8]) -> bool,
) -> impl Iterator<Item = (usize, u64, u64)> {
    let words = move |word: Range<usize>| is_of_interest(&one[word.clone()], &other[word]);
    in_words(order, entries, words)
        .map(move |at| (at, get_refcount(one, order, at), get_refcount(other, order, at)))
}

/// The entries in those words of 8 bytes that have something of interest: most words have nothing.
fn in_words(
    order: u32,
    entries: Range<usize>,
    is_of_interest: impl Fn(Range<usize>) -> bool,
) -> impl DoubleEndedIterator<Item = usize> {
    let per_word = 64 >> order;
    (entries.start / per_word..entries.end.div_ceil(per_word))
        .filter(move |word| is_of_interest(8 * word..8 * word + 8))
        .flat_map(move |word| {
            (per_word * word).max(entries.start)..(per_word * (word + 1)).min(entries.end)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_refcounts_are_stored_from_the_least_significant_bit() {
        let mut block = [0; 8];
        set_refcount(&mut block, 0, 1, 1);
        assert_eq!(block[0], 0b10);
        set_refcount(&mut block, 1, 5, 3);
        assert_eq!(block[1], 0b1100);
        set_refcount(&mut block, 2, 5, 0xA);
        assert_eq!(block[2], 0xA0);
    }

    #[test]
    fn wide_counts_are_big_endian() {
        let mut block = [0; 16];
        set_refcount(&mut block, 4, 1, 0x0102);
        assert_eq!(block[2..4], [1, 2]);
        set_refcount(&mut block, 6, 1, 0x0102);
        assert_eq!(block[8..], [0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn what_is_set_is_read_back_at_every_width() {
        for order in 0..=6 {
            let max = u64::MAX >> (64 - (1u32 << order));
            let mut block = [0; 64];
            for index in 0..8 {
                set_refcount(&mut block, order, index, max - index as u64 % (max.min(8)));
            }
            for index in 0..8 {
                let want = max - index as u64 % (max.min(8));
                assert_eq!(get_refcount(&block, order, index), want, "order {order}");
            }
        }
    }
    #[test]
    fn entries_are_found_in_any_range_at_every_width() {
        for order in 0..=6 {
            let entries = (64 * 8) >> order;
            let (mut one, mut other) = ([0; 64], [0; 64]);
            let set: Vec<usize> = (0..entries).filter(|at| at % 5 == 3).collect();
            let more: Vec<usize> = (0..entries).filter(|at| at % 7 == 2).collect();
            set.iter().for_each(|&at| count_once(&mut one, order, at..at + 1));
            set.iter().chain(&more).for_each(|&at| count_once(&mut other, order, at..at + 1));
            for range in [0..entries, 1..entries - 1, 3..4, 0..0] {
                let within =
                    |at: &usize| range.contains(at) && (set.contains(at) || more.contains(at));
                let all: Vec<usize> = (0..entries).filter(within).collect();
                let found = counted(&other, order, range.clone());
                assert_eq!(found.map(|(at, _)| at).collect::<Vec<_>>(), all, "order {order}");
                let last = counted(&other, order, range.clone()).next_back();
                assert_eq!(last.map(|(at, _)| at), all.last().copied());
                let either = counted_in_either((&one, &other), order, range.clone());
                assert_eq!(either.map(|(at, ..)| at).collect::<Vec<_>>(), all);
                let new: Vec<usize> = all.into_iter().filter(|at| !set.contains(at)).collect();
                let differ = differing((&one, &other), order, range);
                assert_eq!(
                    differ.collect::<Vec<_>>(),
                    new.into_iter().map(|at| (at, 0, 1)).collect::<Vec<_>>()
                );
            }
        }
    }
}
