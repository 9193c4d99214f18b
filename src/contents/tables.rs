//! Partition tables: GPT by UEFI's specification, MBR with logical partitions.

use std::ops::Range;

use super::bytes::{Bytes, guid, u16_at, u32_at, u64_at, wide_text};
use super::names;
use super::part::{Part, Scheme};

/// Sizes of logical blocks that disks have.
const BLOCKS: [u64; 2] = [512, 4096];

/// Most partitions that are named, of either form. A GPT has 128 by default.
const MOST_PARTS: u32 = 256;
/// Most entries of a GPT that are read, and most bytes of one.
const MOST_ENTRIES: u32 = 1024;
const ENTRY_BYTES: [u32; 3] = [128, 256, 512];

/// MBR types of an extended partition, which contains logical ones, and of a GPT's placeholder.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const PROTECTIVE: u8 = 0xee;

/// The parts that the disk's table lists; none without a table.
pub fn find(bytes: &Bytes<'_>) -> (Option<Scheme>, Vec<Part>) {
    if let Some(parts) = BLOCKS.into_iter().find_map(|block| gpt(bytes, block)) {
        return (Some(Scheme::Gpt), parts);
    }
    match mbr(bytes) {
        Some(parts) => (Some(Scheme::Mbr), parts),
        None => (None, Vec::new()),
    }
}

/// The parts of a GPT, by the header at the beginning or by the copy at the end of the disk.
fn gpt(bytes: &Bytes<'_>, block: u64) -> Option<Vec<Part>> {
    let last = (bytes.size() / block).checked_sub(1)?;
    [1, last].into_iter().find_map(|at| gpt_at(bytes, block, at))
}

fn gpt_at(bytes: &Bytes<'_>, block: u64, at: u64) -> Option<Vec<Part>> {
    let header = bytes.read(at.checked_mul(block)?, 512)?;
    let length = usize::try_from(u32_at(&header, 12)).ok()?;
    let is_header = header.starts_with(b"EFI PART") && (92..=512).contains(&length);
    if !is_header || u64_at(&header, 24) != at {
        return None;
    }
    let mut summed = header[..length].to_vec();
    summed[16..20].fill(0);
    if crc32(&summed) != u32_at(&header, 16) {
        return None;
    }
    let (count, entry) = (u32_at(&header, 80), u32_at(&header, 84));
    ENTRY_BYTES.contains(&entry).then_some(())?;
    let (count, entry) = (count.min(MOST_ENTRIES), usize::try_from(entry).ok()?);
    let start = u64_at(&header, 72).checked_mul(block)?;
    let table = bytes.read(start, usize::try_from(count).ok()? * entry)?;
    let entries = (1..).zip(table.chunks_exact(entry));
    let parts = entries.filter_map(|(number, entry)| gpt_part(number, entry, block));
    Some(parts.take(MOST_PARTS as usize).collect())
}

fn gpt_part(number: u32, entry: &[u8], block: u64) -> Option<Part> {
    entry[..16].iter().any(|&byte| byte != 0).then_some(())?;
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    let range = first.checked_mul(block)?..last.checked_add(1)?.checked_mul(block)?;
    (range.start < range.end).then_some(())?;
    let kind = guid(entry, 0).map(|guid| names::of_guid(&guid));
    let label = wide_text(&entry[56..128]);
    Some(Part { number: Some(number), range, kind, label, file_system: None })
}

/// The parts of an MBR. The boot sector of a file system has the same signature; its entries are
/// not valid.
fn mbr(bytes: &Bytes<'_>) -> Option<Vec<Part>> {
    let sector = bytes.read(0, 512)?;
    let entries = entries(&sector)?;
    let is_valid = |entry: &Entry| matches!(entry.boot, 0 | 0x80) && entry.blocks > 0;
    let used: Vec<(u32, &Entry)> = (1..).zip(&entries).filter(|(_, e)| e.kind != 0).collect();
    if used.is_empty() || !used.iter().all(|(_, entry)| is_valid(entry)) {
        return None;
    }
    let mut parts = Vec::new();
    for (number, entry) in used {
        if entry.kind == PROTECTIVE {
            continue;
        }
        if EXTENDED.contains(&entry.kind) {
            logical(bytes, u64::from(entry.first), &mut parts);
        } else {
            parts.push(entry.part(number, 0));
        }
    }
    Some(parts)
}

/// The logical partitions: a list of sectors, each with one partition and the next sector.
fn logical(bytes: &Bytes<'_>, base: u64, parts: &mut Vec<Part>) {
    let mut at = base;
    let mut seen = Vec::new();
    for number in 5..MOST_PARTS {
        if seen.contains(&at) {
            return;
        }
        seen.push(at);
        let Some(sector) = at.checked_mul(512).and_then(|offset| bytes.read(offset, 512)) else {
            return;
        };
        let Some([part, next, ..]) = entries(&sector) else { return };
        if part.kind != 0 && part.blocks > 0 {
            parts.push(part.part(number, at));
        }
        if !EXTENDED.contains(&next.kind) {
            return;
        }
        at = base + u64::from(next.first);
    }
}

/// An entry of an MBR.
#[derive(Debug)]
struct Entry {
    boot: u8,
    kind: u8,
    first: u32,
    blocks: u32,
}

impl Entry {
    fn part(&self, number: u32, base: u64) -> Part {
        let first = base + u64::from(self.first);
        let range: Range<u64> = first * 512..(first + u64::from(self.blocks)) * 512;
        let kind = Some(names::of_byte(self.kind));
        Part { number: Some(number), range, kind, label: None, file_system: None }
    }
}

fn entries(sector: &[u8]) -> Option<[Entry; 4]> {
    (u16_at(sector, 510) == 0xaa55).then_some(())?;
    Some([446, 462, 478, 494].map(|at| Entry {
        boot: sector[at],
        kind: sector[at + 4],
        first: u32_at(sector, at + 8),
        blocks: u32_at(sector, at + 12),
    }))
}

/// The checksum of a GPT's header: CRC-32 of ISO 3309.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
