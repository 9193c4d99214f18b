//! The LUKS header (LUKS on-disk format, version 1), as far as it is told of: no keys.

use byteorder::{BigEndian, ByteOrder};

/// Bytes of a version 1 header with its key slots.
pub const LUKS_BYTES: usize = 592;
/// Key slots of a header.
pub const KEY_SLOTS: usize = 8;
/// Where the key slots begin, and bytes of each.
const SLOTS: (usize, usize) = (208, 48);
/// The mark of a key slot in use.
const ACTIVE: u32 = 0x00AC_71F3;
/// Bytes of the unit in which offsets are counted.
const SECTOR_BYTES: u64 = 512;

/// A key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySlot {
    /// Whether a passphrase is in it.
    pub active: bool,
    /// Iterations of the passphrase's derivation.
    pub iterations: u32,
    /// Where its key material begins, in bytes from the start of the header.
    pub key_offset: u64,
    /// Stripes of its key material.
    pub stripes: u32,
}

/// The parts of a header that are no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuksHeader {
    /// The cipher ("aes").
    pub cipher: String,
    /// The mode with the generator of initial vectors ("xts-plain64").
    pub mode: String,
    /// The hash ("sha256").
    pub hash: String,
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
        if b.len() < LUKS_BYTES || !b.starts_with(b"LUKS\xBA\xBE") || b[6..8] != [0, 1] {
            return None;
        }
        Some(Self {
            cipher: text(&b[8..40]),
            mode: text(&b[40..72]),
            hash: text(&b[72..104]),
            payload_offset: u64::from(BigEndian::read_u32(&b[104..])) * SECTOR_BYTES,
            key_bytes: BigEndian::read_u32(&b[108..]),
            iterations: BigEndian::read_u32(&b[164..]),
            uuid: text(&b[168..208]),
            slots: b[SLOTS.0..].chunks_exact(SLOTS.1).take(KEY_SLOTS).map(slot).collect(),
        })
    }

    /// The cipher with its key size in bits, as QEMU names it ("aes-256"). XTS has two keys.
    pub fn cipher_algorithm(&self) -> String {
        let keys = if self.chain_mode() == "xts" { 2 } else { 1 };
        format!("{}-{}", self.cipher, u64::from(self.key_bytes) * 8 / keys)
    }

    /// The mode without the generator of initial vectors.
    pub fn chain_mode(&self) -> &str {
        self.mode.split('-').next().unwrap_or_default()
    }

    /// The generator of initial vectors, and its hash where it uses one.
    pub fn iv_generator(&self) -> (&str, Option<&str>) {
        let generator = self.mode.split_once('-').map_or("", |(_, rest)| rest);
        match generator.split_once(':') {
            Some((name, hash)) => (name, (name == "essiv").then_some(hash)),
            None => (generator, None),
        }
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn slot(b: &[u8]) -> KeySlot {
    KeySlot {
        active: BigEndian::read_u32(b) == ACTIVE,
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
    fn a_header_tells_cipher_mode_and_slots() {
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
}
