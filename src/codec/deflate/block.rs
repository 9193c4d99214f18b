//! One block: its literals and matches, the codes that fit them best, and how both are written.

#![cfg_attr(
    not(test),
    expect(
        clippy::cast_possible_truncation,
        reason = "symbols, lengths and distances of deflate, all below 2^16"
    )
)]

use super::bits::BitWriter;
use super::huffman::{Code, MAX_BITS};
use super::matches::{MAX_MATCH, Match, WINDOW};

/// Literals, the end of a block, and lengths.
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
/// Symbols of the code that tells the lengths of the others, in the order in which theirs are told.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The longest stored block.
const MAX_STORED: usize = 65535;
/// After so many bytes it is asked whether the data has changed.
pub(super) const CHECK_EVERY: usize = 2048;
/// A block is at least this long, and so is what is left.
const MIN_BLOCK: usize = 4096;
/// A block has no more matches than this, and a few.
const MAX_COPIES: usize = 1 << 17;
/// Matches from this length on are another kind than shorter ones.
const LONG: usize = 9;
/// What is told apart when looking whether the data has changed.
const KINDS: usize = 10;

/// A match, and the literals before it.
#[derive(Debug, Clone, Copy)]
struct Copy {
    literals: u32,
    length: u16,
    distance: u16,
}

/// A block that is being made.
pub(super) struct Block {
    copies: Vec<Copy>,
    literal_counts: [u32; LITERALS],
    distance_counts: [u32; DISTANCES],
    /// Kinds of items up to the last check.
    seen: [u32; KINDS],
    long_copies: u32,
    literal_code: Code<LITERALS>,
    distance_code: Code<DISTANCES>,
    /// Word and bits of each match length, with its extra bits.
    lengths: [(u32, u32); MAX_MATCH + 1],
    scratch: Vec<u64>,
    tables: Tables,
}

/// Symbols of lengths and distances.
struct Tables {
    /// Symbol, base and extra bits of each length.
    length: [(u16, u16, u8); MAX_MATCH + 1],
    /// Symbol of each distance less one.
    distance: Box<[u8; WINDOW]>,
}

impl Default for Tables {
    fn default() -> Self {
        let mut length = [(0, 0, 0); MAX_MATCH + 1];
        let mut base = 3u16;
        for symbol in 257..285u16 {
            let extra = if symbol < 265 { 0 } else { (symbol - 261) / 4 };
            for value in base..(base + (1 << extra)).min(259) {
                length[usize::from(value)] = (symbol, base, extra as u8);
            }
            base += 1 << extra;
        }
        length[MAX_MATCH] = (285, 258, 0);
        let mut distance = Box::new([0u8; 4096]);
        for (less_one, symbol) in distance.iter_mut().enumerate() {
            *symbol = match less_one {
                0..4 => less_one as u8,
                _ => {
                    let top = less_one.ilog2();
                    (2 * top + (less_one >> (top - 1) & 1) as u32) as u8
                }
            };
        }
        Self { length, distance }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self {
            copies: Vec::new(),
            literal_counts: [0; LITERALS],
            distance_counts: [0; DISTANCES],
            seen: [0; KINDS],
            long_copies: 0,
            literal_code: Code::default(),
            distance_code: Code::default(),
            lengths: [(0, 0); MAX_MATCH + 1],
            scratch: Vec::new(),
            tables: Tables::default(),
        }
    }
}

impl Block {
    /// Begins anew.
    pub(super) fn begin(&mut self) {
        self.copies.clear();
        self.literal_counts = [0; LITERALS];
        self.distance_counts = [0; DISTANCES];
        self.seen = [0; KINDS];
        self.long_copies = 0;
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        self.literal_counts[usize::from(byte)] += 1;
    }

    /// A match behind so many literals.
    #[inline(always)]
    pub(super) fn copy(&mut self, literals: usize, found: Match) {
        let (length, distance) = (found.length as u16, found.distance as u16);
        self.copies.push(Copy { literals: literals as u32, length, distance });
        let (symbol, _, _) = self.tables.length[found.length];
        self.literal_counts[usize::from(symbol)] += 1;
        let symbol = self.tables.distance[(found.distance - 1) % WINDOW];
        self.distance_counts[usize::from(symbol)] += 1;
        self.long_copies += u32::from(found.length >= LONG);
    }

    /// What there is so far: literals by their two highest bits and the lowest, which tell text, code and tables
    /// apart, and short and long matches.
    fn kinds(&self) -> [u32; KINDS] {
        let mut kinds = [0; KINDS];
        for (sixteenth, counts) in self.literal_counts[..256].chunks_exact(64).enumerate() {
            for pair in counts.chunks_exact(2) {
                kinds[2 * sixteenth] += pair[0];
                kinds[2 * sixteenth + 1] += pair[1];
            }
        }
        kinds[8] = u32::try_from(self.copies.len()).unwrap_or(u32::MAX) - self.long_copies;
        kinds[9] = self.long_copies;
        kinds
    }

    /// Whether the newest items are of other kinds than those before, so that a block of its own serves them better.
    pub(super) fn should_end(&mut self, length: usize, left: usize) -> bool {
        let kinds = self.kinds();
        let seen = std::mem::replace(&mut self.seen, kinds);
        let old: u32 = seen.iter().sum();
        let new = kinds.iter().sum::<u32>() - old;
        if old == 0 || length < MIN_BLOCK || left < MIN_BLOCK {
            return false;
        }
        // Both as if there were as many of them.
        let pairs = seen.iter().zip(&kinds);
        let differ: u64 = pairs
            .map(|(&seen, &now)| {
                let now = u64::from(now - seen) * u64::from(old);
                (u64::from(seen) * u64::from(new)).abs_diff(now)
            })
            .sum();
        // A block costs its codes; the more is in it already, the less has to differ.
        let all = u64::from(old) * u64::from(new);
        let young = 8192u64.saturating_sub(u64::from(old + new));
        let enough = all * 2 / 5 * (8192 + young) / 8192;
        let age = length as u64 / 4096 * u64::from(old);
        differ + age >= enough || self.copies.len() > MAX_COPIES
    }

    /// Writes the block, whose bytes are `data`, in the shorter way; `None` where that is too long.
    pub(super) fn write(
        &mut self,
        data: &[u8],
        last: bool,
        out: &mut BitWriter<'_>,
        most: u64,
    ) -> Option<()> {
        self.literal_counts[END] += 1;
        self.literal_code.build(&self.literal_counts, MAX_BITS, &mut self.scratch);
        self.distance_code.build(&self.distance_counts, MAX_BITS, &mut self.scratch);
        let head = Head::new(&self.literal_code, &self.distance_code, &mut self.scratch);
        let coded = 3 + head.bits() + self.item_bits();
        let stored = (data.len().div_ceil(MAX_STORED).max(1) as u64) * 40 + data.len() as u64 * 8;
        if out.written() + coded.min(stored) > most {
            return None;
        }
        if stored <= coded {
            store(data, last, out);
        } else {
            out.put(u64::from(last) | 2 << 1, 3);
            head.write(out);
            self.write_items(data, out);
        }
        Some(())
    }

    fn item_bits(&self) -> u64 {
        let lengths = self.literal_code.lengths.iter().zip(&self.literal_counts);
        let mut bits: u64 = lengths.map(|(&l, &n)| u64::from(l) * u64::from(n)).sum();
        let distances = self.distance_code.lengths.iter().zip(&self.distance_counts);
        for (symbol, (&length, &n)) in (0u64..).zip(distances) {
            bits += (u64::from(length) + (symbol / 2).saturating_sub(1)) * u64::from(n);
        }
        for (symbol, &n) in (265u64..285).zip(&self.literal_counts[265..285]) {
            bits += (symbol - 261) / 4 * u64::from(n);
        }
        bits
    }

    fn write_items(&mut self, data: &[u8], out: &mut BitWriter<'_>) {
        for (length, slot) in self.lengths.iter_mut().enumerate().skip(3) {
            let (symbol, base, extra) = self.tables.length[length];
            let symbol = usize::from(symbol);
            let bits = u32::from(self.literal_code.lengths[symbol]);
            let word = u32::from(self.literal_code.words[symbol]);
            let more = (length - usize::from(base)) as u32;
            *slot = (word | more << bits, bits + u32::from(extra));
        }
        let mut at = 0;
        for copy in &self.copies {
            let end = at + copy.literals as usize;
            self.write_literals(&data[at..end], out);
            let (word, bits) = self.lengths[usize::from(copy.length)];
            out.add(u64::from(word), bits);
            let less_one = usize::from(copy.distance) - 1;
            let symbol = usize::from(self.tables.distance[less_one % WINDOW]);
            let bits = u32::from(self.distance_code.lengths[symbol]);
            let extra = (symbol as u32 / 2).saturating_sub(1);
            let more = (less_one as u64) & ((1 << extra) - 1);
            out.add(u64::from(self.distance_code.words[symbol]) | more << bits, bits + extra);
            out.flush();
            at = end + usize::from(copy.length);
        }
        self.write_literals(&data[at..], out);
        let end = u64::from(self.literal_code.words[END]);
        out.put(end, u32::from(self.literal_code.lengths[END]));
    }

    #[inline(always)]
    fn write_literals(&self, bytes: &[u8], out: &mut BitWriter<'_>) {
        // Three codes of 15 bits fit beside 7 that wait.
        for three in bytes.chunks(3) {
            for &byte in three {
                let symbol = usize::from(byte);
                let word = u64::from(self.literal_code.words[symbol]);
                out.add(word, u32::from(self.literal_code.lengths[symbol]));
            }
            out.flush();
        }
    }
}

/// Writes bytes as they are.
fn store(data: &[u8], last: bool, out: &mut BitWriter<'_>) {
    let mut parts = data.chunks(MAX_STORED).peekable();
    while let Some(part) = parts.next() {
        out.put(u64::from(last && parts.peek().is_none()), 3);
        let length = part.len() as u64;
        out.bytes(&[]);
        out.put(length | (length ^ 0xFFFF) << 16, 32);
        out.bytes(part);
    }
}

/// The lengths of a block's codes, themselves coded.
struct Head {
    /// Symbol, extra bits, how many of those.
    items: Vec<(u8, u8, u8)>,
    code: Code<19>,
    literals: usize,
    distances: usize,
    told: usize,
}

impl Head {
    fn new(literals: &Code<LITERALS>, distances: &Code<DISTANCES>, scratch: &mut Vec<u64>) -> Self {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|&l| l > 0).map_or(least, |last| (last + 1).max(least))
        };
        let (literal_count, distance_count) =
            (used(&literals.lengths, 257), used(&distances.lengths, 1));
        let mut lengths = [0u8; LITERALS + DISTANCES];
        lengths[..literal_count].copy_from_slice(&literals.lengths[..literal_count]);
        lengths[literal_count..literal_count + distance_count]
            .copy_from_slice(&distances.lengths[..distance_count]);
        let items = runs(&lengths[..literal_count + distance_count]);
        let mut counts = [0u32; 19];
        items.iter().for_each(|item| counts[usize::from(item.0)] += 1);
        let mut code = Code::default();
        code.build(&counts, 7, scratch);
        let told = ORDER.iter().rposition(|&symbol| code.lengths[symbol] > 0).unwrap_or(0) + 1;
        Self { items, code, literals: literal_count, distances: distance_count, told: told.max(4) }
    }

    fn bits(&self) -> u64 {
        let items = self.items.iter();
        let bits = items.map(|&(s, _, extra)| u64::from(self.code.lengths[usize::from(s)] + extra));
        14 + 3 * self.told as u64 + bits.sum::<u64>()
    }

    fn write(&self, out: &mut BitWriter<'_>) {
        let counts = (self.literals - 257) | (self.distances - 1) << 5 | (self.told - 4) << 10;
        out.put(counts as u64, 14);
        for &symbol in &ORDER[..self.told] {
            out.put(u64::from(self.code.lengths[symbol]), 3);
        }
        for &(symbol, more, extra) in &self.items {
            let symbol = usize::from(symbol);
            let bits = u32::from(self.code.lengths[symbol]);
            let word = u64::from(self.code.words[symbol]);
            out.put(word | u64::from(more) << bits, bits + u32::from(extra));
        }
    }
}

/// Lengths with runs told as such: symbol, extra bits, how many of those.
fn runs(lengths: &[u8]) -> Vec<(u8, u8, u8)> {
    let mut items = Vec::with_capacity(lengths.len());
    let mut at = 0;
    while at < lengths.len() {
        let value = lengths[at];
        let mut run = lengths[at..].iter().take_while(|&&l| l == value).count();
        at += run;
        if value != 0 {
            items.push((value, 0, 0));
            run -= 1;
        }
        while run >= 3 {
            let (taken, item) = match value {
                0 if run >= 11 => (run.min(138), 18),
                0 => (run, 17),
                _ => (run.min(6), 16),
            };
            let (least, extra) = match item {
                18 => (11, 7),
                17 => (3, 3),
                _ => (3, 2),
            };
            items.push((item, u8::try_from(taken - least).unwrap_or(0), extra));
            run -= taken;
        }
        items.extend(std::iter::repeat_n((value, 0, 0), run));
    }
    items
}
