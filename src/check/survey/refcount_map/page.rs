//! One page of counts: as few bits each as the counts need, and the few that need more aside.

use std::ops::{AddAssign, Range};

use crate::format::refcount::set_refcount;

/// log2 of [`PAGE_CLUSTERS`].
pub const PAGE_BITS: u32 = 15;
/// Counts in a page: with default geometry, those of one refcount block.
pub const PAGE_CLUSTERS: usize = 1 << PAGE_BITS;
/// Counts kept aside before a page gets wider: as much memory as a page of single bits.
const MAX_ASIDE: usize = 256;

/// The counts of a page are those of its base plus what is kept aside.
#[derive(Clone, Default)]
pub struct Page {
    base: Base,
    /// What the base cannot hold, by position, in order; never 0.
    aside: Vec<(u16, u64)>,
}

#[derive(Clone, Default)]
enum Base {
    #[default]
    Zero,
    Bits(Box<[u64]>),
    Bytes(Box<[u8]>),
    Shorts(Box<[u16]>),
    Words(Box<[u32]>),
    Longs(Box<[u64]>),
}

impl Base {
    /// The greatest count it can hold.
    const fn max(&self) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Bits(_) => 1,
            Self::Bytes(_) => u8::MAX as u64,
            Self::Shorts(_) => u16::MAX as u64,
            Self::Words(_) => u32::MAX as u64,
            Self::Longs(_) => u64::MAX,
        }
    }

    fn get(&self, index: usize) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Bits(words) => words[index / 64] >> (index % 64) & 1,
            Self::Bytes(v) => u64::from(v[index]),
            Self::Shorts(v) => u64::from(v[index]),
            Self::Words(v) => u64::from(v[index]),
            Self::Longs(v) => v[index],
        }
    }

    /// Sets a count that is at most [`Self::max`].
    #[expect(clippy::cast_possible_truncation, reason = "the count is at most `max`")]
    fn set(&mut self, index: usize, count: u64) {
        debug_assert!(count <= self.max(), "a base holds counts up to its greatest");
        match self {
            Self::Zero => {}
            Self::Bits(words) => {
                let bit = 1 << (index % 64);
                let word = &mut words[index / 64];
                *word = if count == 0 { *word & !bit } else { *word | bit };
            }
            Self::Bytes(v) => v[index] = count as u8,
            Self::Shorts(v) => v[index] = count as u16,
            Self::Words(v) => v[index] = count as u32,
            Self::Longs(v) => v[index] = count,
        }
    }

    /// The first position that is not 0.
    fn first(&self) -> Option<usize> {
        match self {
            Self::Zero => None,
            Self::Bits(words) => {
                let word = words.iter().position(|&word| word != 0)?;
                Some(word * 64 + words[word].trailing_zeros() as usize)
            }
            base => (0..PAGE_CLUSTERS).find(|&index| base.get(index) != 0),
        }
    }

    /// The last position that is not 0.
    fn last(&self) -> Option<usize> {
        match self {
            Self::Zero => None,
            Self::Bits(words) => {
                let word = words.iter().rposition(|&word| word != 0)?;
                Some(word * 64 + 63 - words[word].leading_zeros() as usize)
            }
            base => (0..PAGE_CLUSTERS).rev().find(|&index| base.get(index) != 0),
        }
    }

    /// The narrowest base that holds `count`, all 0.
    fn for_max(count: u64) -> Self {
        // Memory that is read before it is written costs a second page fault, with all threads
        // interrupted: so it is written here, which an allocation of zeroes would not do.
        fn zeroes<T: Copy>(zero: T, len: usize) -> Box<[T]> {
            let mut counts = Vec::with_capacity(len);
            counts.resize(len, std::hint::black_box(zero));
            counts.into()
        }
        match count {
            0..=1 => Self::Bits(zeroes(0, PAGE_CLUSTERS / 64)),
            2..=0xFF => Self::Bytes(zeroes(0, PAGE_CLUSTERS)),
            0x100..=0xFFFF => Self::Shorts(zeroes(0, PAGE_CLUSTERS)),
            0x1_0000..=0xFFFF_FFFF => Self::Words(zeroes(0, PAGE_CLUSTERS)),
            _ => Self::Longs(zeroes(0, PAGE_CLUSTERS)),
        }
    }

    /// Adds `times` to a range where every sum fits; returns whether it did so.
    fn add_all(&mut self, range: Range<usize>, times: u64) -> bool {
        fn add<T>(counts: &mut [T], times: u64) -> bool
        where
            T: Copy + Ord + Default + TryFrom<u64> + AddAssign,
            u64: From<T>,
        {
            // Two plain loops: both become vector instructions.
            let greatest = counts.iter().copied().max().unwrap_or_default();
            let sum = u64::from(greatest).checked_add(times);
            match (sum.map(T::try_from), T::try_from(times)) {
                (Some(Ok(_)), Ok(times)) => {
                    counts.iter_mut().for_each(|count| *count += times);
                    true
                }
                _ => false,
            }
        }
        match self {
            Self::Zero | Self::Bits(_) => false,
            Self::Bytes(v) => add(&mut v[range], times),
            Self::Shorts(v) => add(&mut v[range], times),
            Self::Words(v) => add(&mut v[range], times),
            Self::Longs(v) => add(&mut v[range], times),
        }
    }
}

impl Page {
    /// The count at a position.
    pub fn get(&self, index: usize) -> u64 {
        self.base.get(index).saturating_add(self.aside_at(index))
    }

    fn aside_at(&self, index: usize) -> u64 {
        self.aside_slot(index).map_or(0, |slot| self.aside[slot].1)
    }

    fn aside_slot(&self, index: usize) -> Result<usize, usize> {
        self.aside.binary_search_by_key(&index, |&(i, _)| usize::from(i))
    }

    /// Adds `times` to every count of a range; returns whether one may now be over 1.
    pub fn add(&mut self, range: Range<usize>, times: u64) -> bool {
        if range.len() > MAX_ASIDE && times > self.base.max() {
            self.widen(times);
        }
        if let (Base::Bits(_), 1) = (&self.base, times) {
            return self.add_bits(range);
        }
        if self.base.add_all(range.clone(), times) {
            return true;
        }
        let mut shared = false;
        for index in range {
            shared |= self.add_one(index, times);
        }
        shared
    }

    fn add_bits(&mut self, range: Range<usize>) -> bool {
        let mut again: Vec<(usize, u64)> = Vec::new();
        if let Base::Bits(words) = &mut self.base {
            for (word, mask) in word_masks(range) {
                let twice = words[word] & mask;
                words[word] |= mask;
                if twice != 0 {
                    again.push((word, twice));
                }
            }
        }
        for &(word, mut bits) in &again {
            while bits != 0 {
                self.add_one(word * 64 + bits.trailing_zeros() as usize, 1);
                bits &= bits - 1;
            }
        }
        !again.is_empty()
    }

    fn add_one(&mut self, index: usize, times: u64) -> bool {
        let sum = self.get(index).saturating_add(times);
        self.put(index, sum);
        sum > 1
    }

    /// Takes `times` from every count of a range, down to 0.
    pub fn take(&mut self, range: Range<usize>, times: u64) {
        for index in range {
            let left = self.get(index).saturating_sub(times);
            self.put(index, left);
        }
    }

    fn put(&mut self, index: usize, count: u64) {
        let base = count.min(self.base.max());
        self.base.set(index, base);
        let rest = count - base;
        #[expect(clippy::cast_possible_truncation, reason = "a position inside a page")]
        match (self.aside_slot(index), rest) {
            (Ok(slot), 0) => {
                self.aside.remove(slot);
            }
            (Ok(slot), _) => self.aside[slot].1 = rest,
            (Err(_), 0) => {}
            (Err(slot), _) => {
                self.aside.insert(slot, (index as u16, rest));
                if self.aside.len() > MAX_ASIDE {
                    self.widen(self.base.max().saturating_mul(2).max(1));
                }
            }
        }
    }

    /// Moves all counts to a base that holds `count` at least.
    fn widen(&mut self, count: u64) {
        let old = std::mem::take(self);
        self.base = Base::for_max(count);
        match old.base {
            Base::Zero => {}
            base => {
                for index in 0..PAGE_CLUSTERS {
                    self.base.set(index, base.get(index));
                }
            }
        }
        for (index, rest) in old.aside {
            self.add_one(usize::from(index), rest);
        }
    }

    /// Whether every count of a range is 1.
    pub fn is_one(&self, range: Range<usize>) -> bool {
        self.is_all(range, 1)
    }

    /// Whether every count of a range is 0.
    pub fn is_zero(&self, range: Range<usize>) -> bool {
        self.is_all(range, 0)
    }

    fn is_all(&self, range: Range<usize>, count: u64) -> bool {
        let mut index = range.start;
        loop {
            index = self.skip(index..range.end, count);
            if index >= range.end {
                return true;
            }
            if self.get(index) != count {
                return false;
            }
            index += 1;
        }
    }

    fn aside_within(&self, range: &Range<usize>) -> &[(u16, u64)] {
        let start = self.aside.partition_point(|&(i, _)| usize::from(i) < range.start);
        let end = self.aside.partition_point(|&(i, _)| usize::from(i) < range.end);
        &self.aside[start..end]
    }

    /// The first position from `from` on that is 0.
    pub fn next_zero(&self, from: usize) -> Option<usize> {
        let mut index = from;
        if matches!(self.base, Base::Zero) {
            for &(taken, _) in self.aside_within(&(from..PAGE_CLUSTERS)) {
                if usize::from(taken) != index {
                    break;
                }
                index += 1;
            }
            return (index < PAGE_CLUSTERS).then_some(index);
        }
        while index < PAGE_CLUSTERS {
            if let Base::Bits(words) = &self.base {
                if index % 64 == 0 && words[index / 64] == u64::MAX {
                    index += 64;
                    continue;
                }
            }
            if self.get(index) == 0 {
                return Some(index);
            }
            index += 1;
        }
        None
    }

    /// The first position that is not 0.
    pub fn first(&self) -> Option<usize> {
        let aside = self.aside.first().map(|&(index, _)| usize::from(index));
        self.base.first().into_iter().chain(aside).min()
    }

    /// The last position that is not 0.
    pub fn last(&self) -> Option<usize> {
        let aside = self.aside.last().map(|&(index, _)| usize::from(index));
        self.base.last().into_iter().chain(aside).max()
    }

    /// Calls `visit(positions, count)` for each run of equal counts.
    pub fn for_each_run(&self, range: Range<usize>, mut visit: impl FnMut(Range<usize>, u64)) {
        let mut start = range.start;
        let mut value = self.get(start);
        let mut index = start + 1;
        while index < range.end {
            index = self.skip(index..range.end, value);
            if index == range.end {
                break;
            }
            let next = self.get(index);
            if next != value {
                visit(start..index, value);
                (start, value) = (index, next);
            }
            index += 1;
        }
        visit(start..range.end, value);
    }

    /// Leaves out what is sure to be `count`; returns the first position that may be something
    /// else.
    fn skip(&self, range: Range<usize>, count: u64) -> usize {
        let aside = self.aside.partition_point(|&(i, _)| usize::from(i) < range.start);
        let bound = self.aside.get(aside).map_or(range.end, |&(i, _)| range.end.min(i.into()));
        let range = range.start..bound;
        let found = match &self.base {
            base if count > base.max() => (!range.is_empty()).then_some(range.start),
            Base::Zero => None,
            Base::Bits(words) => {
                let same = if count == 0 { 0 } else { u64::MAX };
                let differing = |(word, mask): (usize, u64)| match (words[word] ^ same) & mask {
                    0 => None,
                    bits => Some(word * 64 + bits.trailing_zeros() as usize),
                };
                word_masks(range).find_map(differing)
            }
            base => range.into_iter().find(|&index| base.get(index) != count),
        };
        found.unwrap_or(bound)
    }

    /// Encodes a range as part of a refcount block; returns whether all counts fit into the width.
    pub fn encode(&self, range: Range<usize>, order: u32, out: &mut [u8]) -> bool {
        let max = u64::MAX >> (64 - (1u32 << order));
        let aside = self.aside_within(&range);
        let mut fits = match (&self.base, order) {
            (Base::Zero, _) => {
                out.fill(0);
                true
            }
            (Base::Bits(words), 4) => {
                encode_bits_as_u16(words, range.clone(), out);
                true
            }
            (Base::Bytes(v), 4) => {
                for (out, &count) in out.chunks_exact_mut(2).zip(&v[range.clone()]) {
                    out[0] = 0;
                    out[1] = count;
                }
                true
            }
            _ => range.clone().enumerate().fold(true, |fits, (at, index)| {
                let count = self.base.get(index);
                set_refcount(out, order, at, count.min(max));
                fits && count <= max
            }),
        };
        for &(index, _) in aside {
            let count = self.get(usize::from(index));
            set_refcount(out, order, usize::from(index) - range.start, count.min(max));
            fits &= count <= max;
        }
        fits
    }
}

/// 16-bit big-endian counts of 0 or 1, a whole word of equal bits at once where there is one.
fn encode_bits_as_u16(words: &[u64], range: Range<usize>, out: &mut [u8]) {
    const ONES: [u8; 128] = {
        let mut ones = [0; 128];
        let mut i = 1;
        while i < 128 {
            ones[i] = 1;
            i += 2;
        }
        ones
    };
    let first = range.start;
    let mut index = range.start;
    while index < range.end {
        let word = words[index / 64];
        let here = (64 - index % 64).min(range.end - index);
        let bytes = &mut out[(index - first) * 2..(index - first + here) * 2];
        match word {
            0 => bytes.fill(0),
            u64::MAX => bytes.copy_from_slice(&ONES[..here * 2]),
            _ => {
                for (at, count) in bytes.chunks_exact_mut(2).enumerate() {
                    count.copy_from_slice(&[0, u8::from(word >> ((index + at) % 64) & 1 == 1)]);
                }
            }
        }
        index += here;
    }
}

/// The words of a page of bits that a range touches, with the bits of the range in each.
fn word_masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = range;
    let words = if start < end { start / 64..end.div_ceil(64) } else { 0..0 };
    words.map(move |word| {
        let low = start.saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        (word, u64::MAX >> (64 - (high - low)) << low)
    })
}
