//! A LUKS header, byte by byte from the constants of the LUKS on-disk format, version 1.

use crate::support::images::bytes::poke;

/// Bytes of the header with the key material of its eight slots.
pub const LUKS_BYTES: u64 = SLOT_START + 8 * SLOT_BYTES;
/// Where the key material begins.
const SLOT_START: u64 = 4096;
/// Bytes of 4000 stripes of a key of 16 bytes, in whole blocks of 4096 bytes.
const SLOT_BYTES: u64 = 65536;
/// Where the key slots begin in the header, and bytes of each.
const SLOTS: (usize, usize) = (208, 48);

/// A field of the header: its name, offset and width.
pub const FIELDS: &[(&str, usize, usize)] = &[
    ("magic", 0, 6),
    ("version", 6, 2),
    ("cipher name", 8, 32),
    ("cipher mode", 40, 32),
    ("hash spec", 72, 32),
    ("payload offset", 104, 4),
    ("key bytes", 108, 4),
    ("master key iterations", 164, 4),
];

/// The offset of a field of a key slot in the header.
pub const fn slot_field(slot: usize, field: usize) -> usize {
    SLOTS.0 + slot * SLOTS.1 + field
}

/// A header with one slot in use. Every rule holds, though no passphrase opens it.
pub fn header() -> Vec<u8> {
    let mut header = vec![0; 592];
    header[..6].copy_from_slice(b"LUKS\xba\xbe");
    poke(&mut header, 6, 2, 1);
    header[8..11].copy_from_slice(b"aes");
    header[40..51].copy_from_slice(b"cbc-plain64");
    header[72..78].copy_from_slice(b"sha256");
    poke(&mut header, 104, 4, LUKS_BYTES / 512);
    poke(&mut header, 108, 4, 16);
    poke(&mut header, 164, 4, 1000);
    header[168..204].copy_from_slice(b"01234567-89ab-cdef-0123-456789abcdef");
    for slot in 0..8 {
        let is_used = slot == 0;
        poke(&mut header, slot_field(slot, 0), 4, if is_used { 0x00ac_71f3 } else { 0xdead });
        poke(&mut header, slot_field(slot, 4), 4, if is_used { 1000 } else { 0 });
        let material = SLOT_START + slot as u64 * SLOT_BYTES;
        poke(&mut header, slot_field(slot, 40), 4, material / 512);
        poke(&mut header, slot_field(slot, 44), 4, 4000);
    }
    header
}
