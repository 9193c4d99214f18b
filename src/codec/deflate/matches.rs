//! Finding earlier occurrences of what comes next, at most 4 KiB back.

/// How far back a match may lie.
pub(super) const WINDOW: usize = 4096;
/// The longest match.
pub(super) const MAX_MATCH: usize = 258;
/// The shortest match that is looked for.
pub(super) const MIN_MATCH: usize = 4;
/// Bytes from the end at which no match begins.
pub(super) const TAIL: usize = 8;

const HASH_BITS: u32 = 15;
/// Up to so many bytes, taking out each of them is faster than clearing the table.
const SMALL: usize = 1 << 13;

/// A match: how long, how far back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) length: usize,
    pub(super) distance: usize,
}

/// For each hash of four bytes the chain of positions that had it. (Matches of three bytes make a result smaller by less than
/// one percent and take a quarter of the time.)
///
/// Positions are kept modulo 2^16. One that is wrong by a multiple of that does no harm: it is a position like any other, at which
/// the bytes are compared.
pub(super) struct Finder {
    last: Box<[u16; 1 << HASH_BITS]>,
    before: Box<[u16; WINDOW]>,
}

impl Finder {
    pub(super) fn new() -> Self {
        Self { last: Box::new([0; 1 << HASH_BITS]), before: Box::new([0; WINDOW]) }
    }

    /// Forgets all of `data`, so that the next result depends on nothing but its data.
    pub(super) fn forget(&mut self, data: &[u8]) {
        if data.len() > SMALL {
            return self.last.fill(0);
        }
        for at in 0..data.len().saturating_sub(TAIL) {
            self.last[slot(word(data, at))] = 0;
        }
    }

    /// Notes a position; its word is returned with the position that was last there.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "positions are kept modulo 2^16")]
    fn note(&mut self, data: &[u8], at: usize) -> (u32, u16) {
        let word = word(data, at);
        let last = std::mem::replace(&mut self.last[slot(word)], at as u16);
        self.before[at % WINDOW] = last;
        (word, last)
    }

    /// Notes the positions of a range, at which nobody looks for a match.
    #[inline(always)]
    pub(super) fn skip(&mut self, data: &[u8], from: usize, to: usize) {
        for at in from..to.min(data.len().saturating_sub(TAIL)) {
            self.note(data, at);
        }
    }

    /// The longest match at a position, longer than `least`, after at most `depth` tries; it is good enough at `nice` bytes.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "positions are kept modulo 2^16")]
    pub(super) fn find(
        &mut self,
        data: &[u8],
        at: usize,
        least: usize,
        mut depth: u32,
        nice: usize,
    ) -> Match {
        let (word, mut candidate) = self.note(data, at);
        let most = MAX_MATCH.min(data.len() - at);
        let nice = nice.min(most);
        let limit = WINDOW.min(at);
        let mut best = Match { length: least, distance: 0 };
        let mut last = 0;
        loop {
            let distance = usize::from((at as u16).wrapping_sub(candidate));
            // Chains lead further and further back; what does not belongs to bytes long gone.
            if distance <= last || distance > limit {
                break;
            }
            last = distance;
            let from = at - distance;
            // A longer match has the same byte behind the best one, and then the same beginning.
            if self::tail(data, from, best.length) == self::tail(data, at, best.length)
                && self::word(data, from) == word
            {
                let length = common(data, from, at, most);
                if length > best.length {
                    best = Match { length, distance };
                    if length >= nice {
                        break;
                    }
                }
            }
            depth -= 1;
            if depth == 0 {
                break;
            }
            candidate = self.before[from % WINDOW];
        }
        best
    }
}

#[inline(always)]
const fn slot(word: u32) -> usize {
    (word.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

/// Four bytes at a position, which lies `TAIL` before the end.
#[inline(always)]
fn word(data: &[u8], at: usize) -> u32 {
    match data.get(at..at + 4).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => 0,
    }
}

/// The four bytes that end one behind a match of this length, or fewer where it is shorter.
#[inline(always)]
fn tail(data: &[u8], at: usize, length: usize) -> u32 {
    word(data, (at + length).saturating_sub(3))
}

/// How many bytes at two positions are the same, at most `most`.
#[inline(always)]
fn common(data: &[u8], from: usize, at: usize, most: usize) -> usize {
    let (one, other) = (&data[from..from + most], &data[at..at + most]);
    let mut length = 4;
    while let (Some(a), Some(b)) = (
        one.get(length..).and_then(|rest| rest.first_chunk::<8>()),
        other.get(length..).and_then(|rest| rest.first_chunk::<8>()),
    ) {
        let differ = u64::from_be_bytes(*a) ^ u64::from_be_bytes(*b);
        if differ != 0 {
            return length + (differ.leading_zeros() / 8) as usize;
        }
        length += 8;
    }
    while length < most && one[length] == other[length] {
        length += 1;
    }
    length
}
