//! Bounded reads of a disk, and fields in little-endian byte order.

use std::cell::Cell;

use crate::disk::Disk;

/// Bytes that are read of one disk at most: twice what 1024 GPT entries and the superblocks of as
/// many partitions are.
const MOST_BYTES: u64 = 16 << 20;

/// A disk of which a bounded number of bytes is read.
pub struct Bytes<'a> {
    disk: &'a Disk,
    size: u64,
    left: Cell<u64>,
}

impl<'a> Bytes<'a> {
    pub fn new(disk: &'a Disk) -> Self {
        Self { disk, size: disk.size().unwrap_or(0), left: Cell::new(MOST_BYTES) }
    }

    /// Bytes of the disk.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Some bytes, unless the disk ends before, they cannot be read, or enough was read.
    pub fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(length as u64)?;
        self.left.set(self.left.get().checked_sub(length as u64)?);
        let mut buffer = vec![0; length];
        (end <= self.size).then_some(())?;
        self.disk.read_at(&mut buffer, offset).ok()?;
        Some(buffer)
    }
}

/// A number of two bytes; 0 past the end of the bytes.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::try_from(number(bytes, at, 2)).unwrap_or(0)
}

/// A number of four bytes.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(number(bytes, at, 4)).unwrap_or(0)
}

/// A number of eight bytes.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at, 8)
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
    field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// A text in a field, up to a zero byte and without spaces at its end; none where it is empty.
pub fn text(bytes: &[u8], at: usize, length: usize) -> Option<String> {
    let field = bytes.get(at..at + length)?;
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(length);
    let text = String::from_utf8_lossy(&field[..end]).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The same in UTF-16.
pub fn wide_text(field: &[u8]) -> Option<String> {
    let units = field.chunks_exact(2).map(|unit| u16_at(unit, 0)).take_while(|&unit| unit != 0);
    let text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    (!text.is_empty()).then_some(text)
}

/// A UUID whose bytes are in the order of its digits.
pub fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let field = bytes.get(at..at + 16)?;
    let digits: String = field.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Some(parts.join("-"))
}

/// A GUID: the first three of its parts are numbers in little-endian byte order.
pub fn guid(bytes: &[u8], at: usize) -> Option<String> {
    let mut field: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    field[..4].reverse();
    field[4..6].reverse();
    field[6..8].reverse();
    uuid(&field, 0).map(|text| text.to_uppercase())
}
