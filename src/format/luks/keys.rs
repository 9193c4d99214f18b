//! What of a LUKS header belongs to its keys: the salts, and the digest of the master key. Headers
//! are encoded here.

use byteorder::{BigEndian, ByteOrder};

use super::{
    DISABLED, ENABLED, KEY_SLOTS, LUKS_BYTES, LuksHeader, MAGIC, SECTOR_BYTES, SLOTS, VERSION,
};

/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;
/// Bytes of the digest of the master key.
pub const DIGEST_BYTES: usize = 20;
/// Stripes over which the material of a key is spread.
pub const STRIPES: u32 = 4000;
/// Where the digest of the master key and its salt are.
const DIGEST: usize = 112;
const SALT: usize = 132;
const ITERATIONS: usize = 164;
const UUID: usize = 168;
/// Where the salt of a key slot is, from the slot's beginning.
const SLOT_SALT: usize = 8;

/// What the master key and the passphrases are tested with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LuksKeys {
    /// The digest of the master key.
    pub digest: [u8; DIGEST_BYTES],
    /// Its salt.
    pub salt: [u8; SALT_BYTES],
    /// The salts of the key slots.
    pub slots: [[u8; SALT_BYTES]; KEY_SLOTS],
}

impl LuksKeys {
    /// Decodes a header; `None` where it is too short.
    pub fn decode(b: &[u8]) -> Option<Self> {
        let b: &[u8; LUKS_BYTES] = b.get(..LUKS_BYTES)?.try_into().ok()?;
        let salt = |at: usize| std::array::from_fn(|n| b[at + n]);
        Some(Self {
            digest: std::array::from_fn(|n| b[DIGEST + n]),
            salt: salt(SALT),
            slots: std::array::from_fn(|n| salt(slot_record(n) + SLOT_SALT)),
        })
    }
}

/// Bytes of the state of a key slot, which its record begins with.
pub const STATE_BYTES: usize = 4;

/// Where the record of a key slot is, in bytes from the start of the header.
pub const fn slot_record(slot: usize) -> usize {
    SLOTS.0 + slot * SLOTS.1
}

/// The record of a key slot.
pub fn encode_slot(header: &LuksHeader, keys: &LuksKeys, slot: usize) -> Vec<u8> {
    let record = &header.slots[slot];
    let mut b = vec![0; SLOTS.1];
    BigEndian::write_u32(&mut b, if record.active { ENABLED } else { DISABLED });
    BigEndian::write_u32(&mut b[4..], record.iterations);
    b[SLOT_SALT..SLOT_SALT + SALT_BYTES].copy_from_slice(&keys.slots[slot]);
    BigEndian::write_u32(&mut b[40..], sectors(record.key_offset));
    BigEndian::write_u32(&mut b[44..], record.stripes);
    b
}

/// A whole header: the mirror of [`LuksHeader::decode`] and [`LuksKeys::decode`].
pub fn encode(header: &LuksHeader, keys: &LuksKeys) -> Vec<u8> {
    let mut b = vec![0; LUKS_BYTES];
    let mut text = |at: usize, text: &str| b[at..at + text.len()].copy_from_slice(text.as_bytes());
    text(8, &header.cipher.text);
    text(40, &header.mode.text);
    text(72, &header.hash.text);
    text(UUID, &header.uuid);
    b[..MAGIC.len()].copy_from_slice(MAGIC);
    BigEndian::write_u16(&mut b[MAGIC.len()..], VERSION);
    BigEndian::write_u32(&mut b[104..], sectors(header.payload_offset));
    BigEndian::write_u32(&mut b[108..], header.key_bytes);
    b[DIGEST..SALT].copy_from_slice(&keys.digest);
    b[SALT..ITERATIONS].copy_from_slice(&keys.salt);
    BigEndian::write_u32(&mut b[ITERATIONS..], header.iterations);
    for slot in 0..header.slots.len().min(KEY_SLOTS) {
        let at = slot_record(slot);
        b[at..at + SLOTS.1].copy_from_slice(&encode_slot(header, keys, slot));
    }
    b
}

fn sectors(bytes: u64) -> u32 {
    u32::try_from(bytes / SECTOR_BYTES).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first 592 bytes of an image that qemu-img 10.0.2 made.
    const HEADER: &[u8] = include_bytes!("../../../tests/data/luks-header.bin");

    #[test]
    fn what_qemu_wrote_is_encoded_to_the_same_bytes() {
        let header = LuksHeader::decode(HEADER).unwrap();
        let keys = LuksKeys::decode(HEADER).unwrap();
        assert_eq!(encode(&header, &keys), HEADER);
        for slot in 0..KEY_SLOTS {
            let at = slot_record(slot);
            assert_eq!(encode_slot(&header, &keys, slot), &HEADER[at..at + SLOTS.1]);
        }
        assert_eq!(LuksKeys::decode(&HEADER[..LUKS_BYTES - 1]), None);
    }
}
