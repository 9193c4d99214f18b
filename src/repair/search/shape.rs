//! What a sector looks like when the cluster size is not known: a piece of a table, a snapshot
//! table's beginning, a LUKS header's.

use crate::format::l1::COPIED;
use crate::format::l2::{COMPRESSED, L2Entry, ZERO};
use crate::sector::SECTOR;

/// 64-bit words of a sector.
pub const SECTOR_WORDS: usize = 64;
/// Bytes of a sector: every structure begins at a multiple.
pub const SECTOR_BYTES: u64 = SECTOR;
/// The first eight bytes of a LUKS header of version 1.
const LUKS: u64 = 0x4C55_4B53_BABE_0001;
/// Most bytes of an id, and of the whole of extra data, that are accepted.
const MAX_ID: u64 = 63;
const MAX_EXTRA: u64 = 1024;
/// Most L1 entries of a snapshot that are accepted (32 MiB of them).
const MAX_ENTRIES: u64 = 4 << 20;

/// The end of an external data file, the length of which is not known: offsets have 56 bits.
pub const ANYWHERE: u64 = 1 << 56;

/// What a sector may be part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Zeroes.
    Empty,
    /// Offsets without flags: of a refcount table, or of an L1 table that is not the active one.
    Offsets,
    /// Offsets with and without COPIED: of an L1 or L2 table.
    Pointers,
    /// L2 entries with other flags, or compressed clusters.
    Entries,
    /// L2 entries with subcluster bitmaps.
    Extended,
}

/// Whether this is an offset in the file without flags.
const fn is_offset(word: u64, end: u64) -> bool {
    word % SECTOR_BYTES == 0 && word < end && word != 0
}

/// Whether this can be a standard L2 entry at some cluster size.
const fn is_entry(word: u64, end: u64) -> bool {
    if word & COMPRESSED != 0 {
        // The offset has 49 bits at least, and the sectors no more than 13.
        return word & COPIED == 0 && word & ((1 << 49) - 1) < end;
    }
    // In an external data file offset 0 is valid.
    let is_first = word == COPIED && end == ANYWHERE;
    word == ZERO || is_first || is_offset(word & !(COPIED | ZERO), end)
}

const fn is_extended(bits: u64, bitmap: u64, end: u64) -> bool {
    let entry = L2Entry { bits, bitmap };
    if entry.is_compressed() {
        return bitmap == 0 && is_entry(bits, end);
    }
    let is_first = bits == COPIED && end == ANYWHERE;
    let pointer = is_offset(bits & !COPIED, end) || is_first || bits == 0 && entry.allocated() == 0;
    pointer && !entry.has_conflicting_subclusters()
}

/// The shape of a sector in a file that ends at `end`; `None` for anything else.
pub fn of_sector(words: &[u64], end: u64) -> Option<Shape> {
    let mut shape = Shape::Empty;
    for &word in words.iter().filter(|&&word| word != 0) {
        let this = if is_offset(word, end) {
            Shape::Offsets
        } else if is_offset(word & !COPIED, end) {
            Shape::Pointers
        } else if is_entry(word, end) {
            Shape::Entries
        } else {
            return is_all_extended(words, end).then_some(Shape::Extended);
        };
        shape = match (shape, this) {
            (Shape::Entries, _) | (_, Shape::Entries) => Shape::Entries,
            (Shape::Pointers, _) | (_, Shape::Pointers) => Shape::Pointers,
            _ => Shape::Offsets,
        };
    }
    Some(shape)
}

fn is_all_extended(words: &[u64], end: u64) -> bool {
    words.chunks_exact(2).all(|pair| is_extended(pair[0], pair[1], end))
}

/// Whether a LUKS header begins here.
pub fn is_luks(words: &[u64]) -> bool {
    words.first() == Some(&LUKS)
}

/// Whether a snapshot table can begin with this sector.
pub fn is_snapshot_table(words: &[u64], end: u64) -> bool {
    let &[l1_table, lengths, _, _, extra, ..] = words else { return false };
    let (entries, id, name) = (lengths >> 32, lengths >> 16 & 0xFFFF, lengths & 0xFFFF);
    let extra = extra & u64::from(u32::MAX);
    let sound = is_offset(l1_table, end)
        && (1..=MAX_ENTRIES).contains(&entries)
        && (1..=MAX_ID).contains(&id)
        && name <= MAX_EXTRA
        && extra <= MAX_EXTRA;
    let byte = |at: u64| {
        let word = usize::try_from(at / 8).ok().and_then(|word| words.get(word))?;
        Some(word >> (56 - at % 8 * 8) & 0xFF)
    };
    let printable = |at: u64| byte(at).is_none_or(|byte| (0x20..0x7F).contains(&byte));
    sound && (0..id).all(|n| printable(40 + extra + n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(words: &[u64]) -> Vec<u64> {
        let mut sector = words.to_vec();
        sector.resize(SECTOR_WORDS, 0);
        sector
    }

    #[test]
    fn tables_are_distinguished_from_data_by_their_words() {
        let end = 1 << 20;
        let shape = |words: &[u64]| of_sector(&sector(words), end);
        assert_eq!(shape(&[]), Some(Shape::Empty));
        assert_eq!(shape(&[0x10000, 0, 0x20000]), Some(Shape::Offsets));
        assert_eq!(shape(&[COPIED | 0x10000, 0x20000]), Some(Shape::Pointers));
        assert_eq!(shape(&[COPIED | 0x10000, ZERO]), Some(Shape::Entries));
        assert_eq!(shape(&[COPIED | 0x10000, 0xFFFF_FFFF]), Some(Shape::Extended));
        assert_eq!(shape(&[0x1111_1111_1111_1111]), None);
        assert_eq!(shape(&[end]), None, "past the end of the file");
    }

    #[test]
    fn a_snapshot_table_begins_with_an_l1_table_and_a_printable_id() {
        let words =
            sector(&[0x30000, 4 << 32 | 1 << 16 | 5, 0, 0, 16, 0, 0, 0x3161_6161_6161_0000]);
        assert!(is_snapshot_table(&words, 1 << 20));
        let words =
            sector(&[0x30000, 4 << 32 | 1 << 16 | 5, 0, 0, 16, 0, 0, 0x0061_6161_6161_0000]);
        assert!(!is_snapshot_table(&words, 1 << 20));
    }
}
