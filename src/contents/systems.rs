//! File systems by their superblocks, at the offsets that their documentation gives.

use std::ops::Range;

use super::bytes::{Bytes, text, u16_at, u32_at, uuid};
use super::ntfs;
use super::part::FileSystem;

/// Bytes at the beginning of a part that have all superblocks but that of btrfs.
const BEGINNING: u64 = 8192;
/// Where btrfs has its superblock, and how much of it is read.
const BTRFS: (u64, usize) = (64 << 10, 0x300);

/// Where the superblock of ext2, ext3 and ext4 is, and the feature bits by which they differ.
const EXT: usize = 1024;
const HAS_JOURNAL: u32 = 0x4;
const JOURNAL_DEVICE: u32 = 0x8;
/// Extents, 64 bits, flexible block groups; huge files, checksums of groups, metadata checksums.
const EXT4_INCOMPATIBLE: u32 = 0x40 | 0x80 | 0x200;
const EXT4_READ_ONLY: u32 = 0x8 | 0x10 | 0x400;

/// What a part of a disk begins with.
pub fn find(bytes: &Bytes<'_>, part: &Range<u64>) -> Option<FileSystem> {
    let end = part.end.min(bytes.size());
    let length = end.checked_sub(part.start)?;
    let begin = bytes.read(part.start, usize::try_from(length.min(BEGINNING)).ok()?)?;
    let sector = begin.get(..512)?;
    luks(&begin)
        .or_else(|| lvm(&begin))
        .or_else(|| xfs(&begin))
        .or_else(|| ext(&begin))
        .or_else(|| swap(&begin))
        .or_else(|| ntfs::find(bytes, part.start, sector))
        .or_else(|| exfat(sector))
        .or_else(|| fat(sector))
        .or_else(|| btrfs(&bytes.read(part.start.checked_add(BTRFS.0)?, BTRFS.1)?))
}

const fn found(
    kind: &'static str,
    label: Option<String>,
    uuid: Option<String>,
) -> Option<FileSystem> {
    Some(FileSystem { kind, label, uuid })
}

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..at + magic.len()) == Some(magic)
}

fn luks(begin: &[u8]) -> Option<FileSystem> {
    has(begin, 0, b"LUKS\xba\xbe").then_some(())?;
    let label = if has(begin, 6, &[0, 2]) { text(begin, 24, 48) } else { None };
    found("LUKS", label, text(begin, 168, 40))
}

/// A physical volume of LVM: its label is in one of the first four sectors.
fn lvm(begin: &[u8]) -> Option<FileSystem> {
    let label = begin
        .chunks_exact(512)
        .take(4)
        .find(|sector| has(sector, 0, b"LABELONE") && has(sector, 24, b"LVM2 001"))?;
    let header = usize::try_from(u32_at(label, 20)).ok()?;
    found("LVM2 physical volume", None, text(label, header.min(480), 32))
}

fn xfs(begin: &[u8]) -> Option<FileSystem> {
    has(begin, 0, b"XFSB").then_some(())?;
    found("xfs", text(begin, 108, 12), uuid(begin, 32))
}

fn ext(begin: &[u8]) -> Option<FileSystem> {
    let block = begin.get(EXT..EXT + 1024)?;
    (u16_at(block, 56) == 0xef53).then_some(())?;
    let (compatible, incompatible, read_only) =
        (u32_at(block, 92), u32_at(block, 96), u32_at(block, 100));
    let is_ext4 = incompatible & EXT4_INCOMPATIBLE != 0 || read_only & EXT4_READ_ONLY != 0;
    let kind = if incompatible & JOURNAL_DEVICE != 0 {
        "ext journal"
    } else if is_ext4 {
        "ext4"
    } else if compatible & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    found(kind, text(block, 120, 16), uuid(block, 104))
}

/// Swap space, with pages of 4 KiB.
fn swap(begin: &[u8]) -> Option<FileSystem> {
    has(begin, 4086, b"SWAPSPACE2").then_some(())?;
    found("swap", text(begin, 1052, 16), uuid(begin, 1036))
}

fn btrfs(block: &[u8]) -> Option<FileSystem> {
    has(block, 0x40, b"_BHRfS_M").then_some(())?;
    found("btrfs", text(block, 0x12b, 256), uuid(block, 0x20))
}

fn exfat(sector: &[u8]) -> Option<FileSystem> {
    has(sector, 3, b"EXFAT   ").then_some(())?;
    found("exFAT", None, Some(serial(u32_at(sector, 100))))
}

fn fat(sector: &[u8]) -> Option<FileSystem> {
    (u16_at(sector, 510) == 0xaa55).then_some(())?;
    // What mkfs writes where no label was given.
    let label = |at| text(sector, at, 11).filter(|label| label != "NO NAME");
    if has(sector, 82, b"FAT32   ") {
        return found("FAT32", label(71), Some(serial(u32_at(sector, 67))));
    }
    let kind = match () {
        () if has(sector, 54, b"FAT12   ") => "FAT12",
        () if has(sector, 54, b"FAT16   ") => "FAT16",
        () => return None,
    };
    found(kind, label(43), Some(serial(u32_at(sector, 39))))
}

/// A serial number as Windows and blkid print it.
fn serial(number: u32) -> String {
    format!("{:04X}-{:04X}", number >> 16, number & 0xffff)
}
