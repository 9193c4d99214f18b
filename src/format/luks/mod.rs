//! The LUKS header (LUKS on-disk format, version 1) without its secrets: no keys, salts or digests.
//! These are in `keys`, and only whoever has a passphrase needs them.

pub mod defects;
pub mod keys;

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};

/// Bytes of a version 1 header with its key slots.
pub const LUKS_BYTES: usize = 592;
/// Key slots of a header.
pub const KEY_SLOTS: usize = 8;
/// The first bytes of a header.
pub const MAGIC: &[u8; 6] = b"LUKS\xBA\xBE";
/// The only version that qcow2 and QEMU have.
pub const VERSION: u16 = 1;
/// Where the key slots begin, and bytes of each.
const SLOTS: (usize, usize) = (208, 48);
/// The state of a key slot with a passphrase.
const ENABLED: u32 = 0x00AC_71F3;
/// The state of a key slot without one.
const DISABLED: u32 = 0x0000_DEAD;
/// Bytes of the unit in which offsets are counted.
pub const SECTOR_BYTES: u64 = 512;

/// A key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot {
    /// Whether a passphrase is in it.
    pub active: bool,
    /// Whether its state is one of the two that the format has.
    pub has_known_state: bool,
    /// Iterations of the passphrase's derivation.
    pub iterations: u32,
    /// Where its key material begins, in bytes from the start of the header.
    pub key_offset: u64,
    /// Stripes of its key material.
    pub stripes: u32,
}

/// A name in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its bytes up to the first zero byte, with what is not UTF-8 replaced.
    pub text: String,
    /// Whether a zero byte ends it.
    pub is_terminated: bool,
}

/// The parts of a header that are not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuksHeader {
    /// The cipher ("aes").
    pub cipher: Name,
    /// The mode with the generator of initial vectors ("xts-plain64").
    pub mode: Name,
    /// The hash ("sha256").
    pub hash: Name,
    /// Where the payload begins, in bytes from the start of the header.
    pub payload_offset: u64,
    /// Bytes of the master key.
    pub key_bytes: u32,
    /// Iterations of the master key's digest.
    pub iterations: u32,
    /// The identifier, as text.
    pub uuid: String,
    /// The key slots.
    pub slots: Vec<KeySlot>,
}

impl LuksHeader {
    /// Decodes a header; `None` where it is too short, or has another magic number or version.
    pub fn decode(b: &[u8]) -> Option<Self> {
        if b.len() < LUKS_BYTES || !b.starts_with(MAGIC) || version(b) != VERSION {
            return None;
        }
        Some(Self {
            cipher: name(&b[8..40]),
            mode: name(&b[40..72]),
            hash: name(&b[72..104]),
            payload_offset: u64::from(BigEndian::read_u32(&b[104..])) * SECTOR_BYTES,
            key_bytes: BigEndian::read_u32(&b[108..]),
            iterations: BigEndian::read_u32(&b[164..]),
            uuid: name(&b[168..208]).text,
            slots: b[SLOTS.0..].chunks_exact(SLOTS.1).take(KEY_SLOTS).map(slot).collect(),
        })
    }

    /// The bytes of a header that are not secret, as ranges of it: all but the identifier, the
    /// salts and the digest of the master key. [`Self::decode`] takes a header where only these are
    /// known.
    pub fn public_bytes() -> Vec<Range<usize>> {
        let slots = (0..KEY_SLOTS).map(|n| SLOTS.0 + n * SLOTS.1);
        let of_slots = slots.flat_map(|at| [at..at + 8, at + 40..at + 48]);
        [0..112, 164..168].into_iter().chain(of_slots).collect()
    }

    /// The cipher with its key size in bits, as QEMU names it ("aes-256"). XTS has two keys.
    pub fn cipher_algorithm(&self) -> String {
        let keys = if self.chain_mode() == "xts" { 2 } else { 1 };
        format!("{}-{}", self.cipher.text, u64::from(self.key_bytes) * 8 / keys)
    }

    /// The mode without the generator of initial vectors.
    pub fn chain_mode(&self) -> &str {
        self.mode.text.split('-').next().unwrap_or_default()
    }

    /// The generator of initial vectors, and its hash where it uses one.
    pub fn iv_generator(&self) -> (&str, Option<&str>) {
        match self.iv_names() {
            (generator @ "essiv", hash) => (generator, hash),
            (generator, _) => (generator, None),
        }
    }

    /// What follows the mode: the generator of initial vectors, and the hash that is named with it.
    pub(super) fn iv_names(&self) -> (&str, Option<&str>) {
        let generator = self.mode.text.split_once('-').map_or("", |(_, rest)| rest);
        match generator.split_once(':') {
            Some((name, hash)) => (name, Some(hash)),
            None => (generator, None),
        }
    }
}

/// The version of what begins like a header; 0 where that is too short.
pub fn version(b: &[u8]) -> u16 {
    b.get(6..8).map_or(0, BigEndian::read_u16)
}

fn name(field: &[u8]) -> Name {
    let end = field.iter().position(|&b| b == 0);
    let text = String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned();
    Name { text, is_terminated: end.is_some() }
}

fn slot(b: &[u8]) -> KeySlot {
    let state = BigEndian::read_u32(b);
    KeySlot {
        active: state == ENABLED,
        has_known_state: [ENABLED, DISABLED].contains(&state),
        iterations: BigEndian::read_u32(&b[4..]),
        key_offset: u64::from(BigEndian::read_u32(&b[40..])) * SECTOR_BYTES,
        stripes: BigEndian::read_u32(&b[44..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut b = vec![0; LUKS_BYTES];
        b[..8].copy_from_slice(b"LUKS\xBA\xBE\0\x01");
        b[8..11].copy_from_slice(b"aes");
        b[40..56].copy_from_slice(b"cbc-essiv:sha256");
        b[111] = 32;
        b[208..212].copy_from_slice(&[0x00, 0xAC, 0x71, 0xF3]);
        b[251] = 8;
        b
    }

    #[test]
    fn a_header_has_cipher_mode_and_slots() {
        let luks = LuksHeader::decode(&header()).unwrap();
        assert_eq!(luks.cipher_algorithm(), "aes-256");
        assert_eq!((luks.chain_mode(), luks.iv_generator()), ("cbc", ("essiv", Some("sha256"))));
        assert_eq!(luks.slots.len(), KEY_SLOTS);
        assert!(luks.slots[0].active && !luks.slots[1].active);
        assert_eq!(luks.slots[0].key_offset, 4096);
    }

    #[test]
    fn other_versions_and_short_headers_are_not_decoded() {
        let mut other = header();
        other[7] = 2;
        assert_eq!(LuksHeader::decode(&other), None);
        assert_eq!(LuksHeader::decode(&header()[..500]), None);
    }

    #[test]
    fn the_public_bytes_are_in_order_and_leave_out_the_secrets() {
        let ranges = LuksHeader::public_bytes();
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        assert!(ranges.last().is_some_and(|last| last.end == LUKS_BYTES));
        let public = |at: usize| ranges.iter().any(|range| range.contains(&at));
        // Digest and salt of the master key, and the salts of the first and the last slot.
        assert!(![112, 163, 216, 247, 552, 583].into_iter().any(public));
        let mut known = vec![0; LUKS_BYTES];
        let whole = header();
        ranges.iter().for_each(|r| known[r.clone()].copy_from_slice(&whole[r.clone()]));
        assert_eq!(LuksHeader::decode(&known), LuksHeader::decode(&whole));
    }
}
