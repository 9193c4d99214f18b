//! What keeps a LUKS header from being opened, whatever the passphrase: the rules of the LUKS
//! on-disk format, version 1, and of QEMU, which refuses a header that breaks one of them.

use super::keys::STRIPES;
use super::{KeySlot, LuksHeader, MAGIC, VERSION, version};

/// Bytes from the start of a header that cannot be key material or payload; key material begins and
/// ends at multiples of it, and so does the payload.
pub const RESERVED_BYTES: u64 = 4096;
/// The ciphers with the sizes of their keys and blocks in bytes.
const CIPHERS: [(&str, &[u64], u64); 5] = [
    ("aes", &[16, 24, 32], 16),
    ("cast5", &[16], 8),
    ("serpent", &[16, 24, 32], 16),
    ("sm4", &[16], 16),
    ("twofish", &[16, 24, 32], 16),
];
/// The modes of the ciphers.
const MODES: [&str; 4] = ["cbc", "ctr", "ecb", "xts"];
/// The generators of initial vectors.
const GENERATORS: [&str; 3] = ["essiv", "plain", "plain64"];
/// The hashes with their digests' sizes in bytes.
const HASHES: [(&str, u64); 8] = [
    ("md5", 16),
    ("ripemd160", 20),
    ("sha1", 20),
    ("sha224", 28),
    ("sha256", 32),
    ("sha384", 48),
    ("sha512", 64),
    ("sm3", 32),
];

/// What is wrong with the header in `bytes`, in one phrase each. `length` is the length in bytes
/// that the image gives to header and key material together.
pub fn defects(bytes: &[u8], length: u64) -> Vec<String> {
    let Some(header) = LuksHeader::decode(bytes) else {
        let what = if !bytes.starts_with(MAGIC) {
            "it does not begin with the magic number of LUKS".to_owned()
        } else if version(bytes) != VERSION {
            format!("its version is {} and not {VERSION}", version(bytes))
        } else {
            "it is cut short".to_owned()
        };
        return vec![what];
    };
    let mut found = algorithms(&header);
    if header.payload_offset < RESERVED_BYTES {
        found.push("its payload begins inside the header".into());
    }
    if header.iterations == 0 {
        found.push("the digest of the master key has no iterations".into());
    }
    for (number, slot) in header.slots.iter().enumerate() {
        let defects = slot_defects(&header, number, slot, length);
        found.extend(defects.into_iter().map(|what| format!("key slot {number} {what}")));
    }
    if !header.slots.iter().any(|slot| slot.active) {
        found.push("no key slot is in use, so that no passphrase opens it".into());
    }
    found
}

/// Where the material of a slot ends, in bytes from the start of the header. It takes as many whole
/// blocks of 4096 bytes as the key in its stripes needs.
fn material_end(header: &LuksHeader, slot: &KeySlot) -> u64 {
    let bytes = u64::from(header.key_bytes) * u64::from(slot.stripes);
    slot.key_offset + bytes.next_multiple_of(RESERVED_BYTES)
}

fn slot_defects(
    header: &LuksHeader,
    number: usize,
    slot: &KeySlot,
    length: u64,
) -> Vec<&'static str> {
    let end = material_end(header, slot);
    let key_end = slot.key_offset + u64::from(header.key_bytes) * u64::from(slot.stripes);
    let mut later = header.slots.iter().skip(number + 1);
    let overlaps =
        later.any(|other| slot.key_offset < material_end(header, other) && other.key_offset < end);
    [
        (!slot.has_known_state, "is neither in use nor free"),
        (slot.active && slot.iterations == 0, "has no iterations"),
        (slot.stripes != STRIPES, "does not have 4000 stripes"),
        (slot.key_offset < RESERVED_BYTES, "has its key material inside the header"),
        (end > header.payload_offset, "has its key material past the start of the payload"),
        (slot.active && key_end > length, "has its key material past the header's length"),
        (overlaps, "has the same key material as another"),
    ]
    .into_iter()
    .filter_map(|(wrong, what)| wrong.then_some(what))
    .collect()
}

/// What is wrong with the names of cipher, mode, hash and generator of initial vectors.
fn algorithms(header: &LuksHeader) -> Vec<String> {
    let (names, whats) = ([&header.cipher, &header.mode, &header.hash], ["cipher", "mode", "hash"]);
    let mut found: Vec<String> = names
        .into_iter()
        .zip(whats)
        .filter(|(name, _)| !name.is_terminated)
        .map(|(_, what)| format!("the name of its {what} does not end"))
        .collect();
    if !found.is_empty() {
        return found;
    }
    let mut unknown = |what: &str, name: &str, known: bool| {
        if !known {
            found.push(format!("its {what} '{}' is not known", name.escape_debug()));
        }
    };
    let (generator, iv_hash) = header.iv_names();
    let mode = header.chain_mode();
    unknown("hash", &header.hash.text, digest_bytes(&header.hash.text).is_some());
    unknown("mode", mode, MODES.contains(&mode));
    unknown("generator of initial vectors", generator, GENERATORS.contains(&generator));
    if let Some(hash) = iv_hash {
        unknown("hash of initial vectors", hash, digest_bytes(hash).is_some());
    }
    let cipher = CIPHERS.iter().find(|(name, ..)| *name == header.cipher.text);
    unknown("cipher", &header.cipher.text, cipher.is_some());
    let Some((_, keys, block)) = cipher else { return found };
    // XTS has two keys, and needs blocks of 16 bytes.
    let (parts, blocks) = if mode == "xts" { (2, *block == 16) } else { (1, true) };
    let key_bytes = u64::from(header.key_bytes);
    let fits = key_bytes % parts == 0 && keys.contains(&(key_bytes / parts));
    if !fits || !blocks {
        let cipher = &header.cipher.text;
        found.push(format!("{cipher} in the mode {mode} has no key of {key_bytes} bytes"));
    } else if generator == "essiv" {
        found.extend(essiv(keys, key_bytes / parts, iv_hash));
    }
    found
}

/// ESSIV encrypts with the cipher of the data, with a digest for a key.
fn essiv(keys: &[u64], key_bytes: u64, hash: Option<&str>) -> Option<String> {
    let Some(hash) = hash else { return Some("its initial vectors have no hash".into()) };
    let digest = digest_bytes(hash)?;
    let fits = digest == key_bytes || keys.len() > 1 && keys.contains(&digest);
    (!fits).then(|| format!("no key of its cipher is as long as a digest of {hash}"))
}

fn digest_bytes(hash: &str) -> Option<u64> {
    HASHES.iter().find(|(name, _)| *name == hash).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use byteorder::{BigEndian, ByteOrder};

    use crate::format::luks::{KEY_SLOTS, LUKS_BYTES};

    const LENGTH: u64 = 4096 + 8 * 131_072;

    /// A header of AES-256 in CBC with one slot in use.
    fn header() -> Vec<u8> {
        let mut b = vec![0; LUKS_BYTES];
        b[..8].copy_from_slice(b"LUKS\xBA\xBE\0\x01");
        b[8..11].copy_from_slice(b"aes");
        b[40..56].copy_from_slice(b"cbc-essiv:sha256");
        b[72..76].copy_from_slice(b"sha1");
        put(&mut b, 104, u32::try_from(LENGTH / 512).unwrap());
        put(&mut b, 108, 32);
        put(&mut b, 164, 1000);
        for n in 0..KEY_SLOTS {
            let at = 208 + 48 * n;
            put(&mut b, at, if n == 0 { 0x00AC_71F3 } else { 0xDEAD });
            put(&mut b, at + 4, u32::from(n == 0) * 1000);
            put(&mut b, at + 40, 8 + 256 * u32::try_from(n).unwrap());
            put(&mut b, at + 44, 4000);
        }
        b
    }

    fn put(b: &mut [u8], at: usize, value: u32) {
        BigEndian::write_u32(&mut b[at..], value);
    }

    /// The only defect of a header with these bytes in it.
    fn defect(at: usize, bytes: &[u8]) -> String {
        let mut b = header();
        b[at..at + bytes.len()].copy_from_slice(bytes);
        let found = defects(&b, LENGTH);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    #[test]
    fn a_valid_header_has_no_defect() {
        assert_eq!(defects(&header(), LENGTH), Vec::<String>::new());
    }

    #[test]
    fn every_rule_that_is_broken_is_a_defect() {
        assert_eq!(defect(0, b"lUKS"), "it does not begin with the magic number of LUKS");
        assert_eq!(defect(7, &[2]), "its version is 2 and not 1");
        assert_eq!(defect(8, b"aeS"), "its cipher 'aeS' is not known");
        assert_eq!(defect(8, &[b'a'; 32]), "the name of its cipher does not end");
        assert_eq!(defect(40, b"cbd"), "its mode 'cbd' is not known");
        assert_eq!(defect(44, b"essIv"), "its generator of initial vectors 'essIv' is not known");
        assert_eq!(defect(49, &[0]), "its initial vectors have no hash");
        assert_eq!(defect(50, b"sha384"), "no key of its cipher is as long as a digest of sha384");
        assert_eq!(defect(72, b"sha2"), "its hash 'sha2' is not known");
        let what = "key slot 7 has its key material past the start of the payload";
        assert_eq!(defect(107, &[7]), what);
        assert_eq!(defect(111, &[31]), "aes in the mode cbc has no key of 31 bytes");
        assert_eq!(defect(166, &[0, 0]), "the digest of the master key has no iterations");
        assert_eq!(defect(259, &[0]), "key slot 1 is neither in use nor free");
        assert_eq!(defect(214, &[0, 0]), "key slot 0 has no iterations");
        assert_eq!(defect(251, &[7]), "key slot 0 has its key material inside the header");
        assert_eq!(defect(255, &[0]), "key slot 0 does not have 4000 stripes");
        assert_eq!(defect(298, &[0, 9]), "key slot 0 has the same key material as another");
    }

    #[test]
    fn a_payload_inside_the_header_leaves_no_space_for_keys_either() {
        let mut b = header();
        put(&mut b, 104, 7);
        let found = defects(&b, LENGTH);
        assert_eq!((found[0].as_str(), found.len()), ("its payload begins inside the header", 9));
    }

    #[test]
    fn without_a_slot_in_use_no_passphrase_opens_it() {
        let mut b = header();
        put(&mut b, 208, 0xDEAD);
        assert_eq!(defects(&b, LENGTH), ["no key slot is in use, so that no passphrase opens it"]);
    }

    #[test]
    fn material_of_a_slot_in_use_is_within_the_length() {
        let end = 4096 + 32 * 4000;
        assert_eq!(defects(&header(), end), Vec::<String>::new());
        assert_eq!(
            defects(&header(), end - 1),
            ["key slot 0 has its key material past the header's length"]
        );
    }

    #[test]
    fn xts_has_two_keys_of_a_cipher_with_blocks_of_16_bytes() {
        let with = |cipher: &[u8], key: u32| {
            let mut b = header();
            b[8..13].fill(0);
            b[8..8 + cipher.len()].copy_from_slice(cipher);
            b[40..56].copy_from_slice(b"xts-plain64\0\0\0\0\0");
            put(&mut b, 108, key);
            algorithms(&LuksHeader::decode(&b).unwrap())
        };
        assert_eq!(with(b"aes", 64), Vec::<String>::new());
        assert_eq!(with(b"aes", 65), ["aes in the mode xts has no key of 65 bytes"]);
        assert_eq!(with(b"cast5", 32), ["cast5 in the mode xts has no key of 32 bytes"]);
    }
}
