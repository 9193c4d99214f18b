//! Detects the image format from a file's first bytes.

use byteorder::{BigEndian, ByteOrder};

use super::fixed::MAGIC;
use crate::sector::SECTOR_LEN;

/// How many bytes of a file's start [`probe`] needs.
pub const PROBE_BYTES: usize = 512;

/// The format that a file's first bytes announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// qcow2, version 2 or later.
    Qcow2,
    /// No known magic number: the bytes of the disk themselves.
    Raw,
    /// Another format, by the name that QEMU gives it.
    Other(&'static str),
}

impl ImageFormat {
    /// A disk that is encrypted with LUKS.
    pub const LUKS: Self = Self::Other("luks");
}

/// Magic numbers that are bytes at the start of the file.
const MAGICS: [(&[u8], &str); 10] = [
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"QED\0", "qed"),
    (b"LUKS\xBA\xBE", "luks"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image", "bochs"),
];

/// Where VDI has its magic number, and the number.
const VDI: (usize, [u8; 4]) = (64, [0x7F, 0x10, 0xDA, 0xBE]);

/// The format of a file that begins with `bytes`: its first [`PROBE_BYTES`], or all of them.
pub fn probe(bytes: &[u8]) -> ImageFormat {
    if bytes.len() >= 8 && BigEndian::read_u32(bytes) == MAGIC {
        return match BigEndian::read_u32(&bytes[4..]) {
            1 => ImageFormat::Other("qcow"),
            0 => ImageFormat::Raw,
            _ => ImageFormat::Qcow2,
        };
    }
    if bytes.get(VDI.0..VDI.0 + 4).is_some_and(|b| b == VDI.1) {
        return ImageFormat::Other("vdi");
    }
    MAGICS
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map_or(ImageFormat::Raw, |(_, name)| ImageFormat::Other(name))
}

/// How many bytes of a file's start [`likeness`] needs: up to the volume descriptor of an
/// ISO 9660 file system, and what programs put before an image: up to 1 MiB.
pub const LIKENESS_BYTES: usize = (1 << 20) + SECTOR_LEN;

impl ImageFormat {
    /// QEMU's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Other(name) => name,
        }
    }
}

/// Magic numbers of files that are not disks: the offset, the bytes, the name.
const LIKENESSES: [(usize, &[u8], &str); 14] = [
    (0, b"\x1F\x8B\x08", "a gzip file: decompress it first"),
    (0, b"\xFD7zXZ\0", "an xz file: decompress it first"),
    (0, b"\x28\xB5\x2F\xFD", "a zstd file: decompress it first"),
    (0, b"BZh", "a bzip2 file: decompress it first"),
    (0, b"\x04\x22\x4D\x18", "an lz4 file: decompress it first"),
    (0, b"\x89LZO\0\r\n\x1A\n", "an lzop file: decompress it first"),
    (0, b"PK\x03\x04", "a zip archive: extract the image first"),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7z archive: extract the image first"),
    (0, b"Rar!\x1A\x07", "a rar archive: extract the image first"),
    (0, b"VMA\0", "a backup of Proxmox VE: extract the image first"),
    (257, b"ustar", "a tar archive: extract the image first"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (0, b"<!DOCTYPE html", "an HTML page"),
    (0, b"<html", "an HTML page"),
];

/// What the last [`SECTOR_LEN`] bytes of a file show that [`probe`] takes for a raw disk: an image
/// with a footer in place of a header.
pub fn likeness_of_end(end: &[u8]) -> Option<&'static str> {
    let is_fixed_vhd = end.starts_with(b"conectix");
    is_fixed_vhd.then_some("a fixed VHD image: a raw disk, and a footer of 512 bytes")
}

/// What a file that [`probe`] takes for a raw disk seems to be, by its first [`LIKENESS_BYTES`];
/// `None` for a disk.
pub fn likeness(head: &[u8]) -> Option<String> {
    let begins = |at: usize, magic: &[u8]| {
        let there = head.get(at..at + magic.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(magic))
    };
    if let Some((_, _, name)) = LIKENESSES.iter().find(|(at, magic, _)| begins(*at, magic)) {
        return Some((*name).to_owned());
    }
    if begins(510, &[0x55, 0xAA]) {
        return None;
    }
    let nested = head.chunks(SECTOR_LEN).position(|sector| probe(sector) == ImageFormat::Qcow2);
    if let Some(sector) = nested {
        return Some(format!("a qcow2 image that begins at offset {}", sector * SECTOR_LEN));
    }
    let start = head.get(..SECTOR_LEN.min(head.len())).unwrap_or_default();
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    let is_utf8 = std::str::from_utf8(start).map_or_else(|e| e.error_len().is_none(), |_| true);
    let is_text = !start.is_empty() && is_utf8 && start.iter().all(is_text);
    is_text.then(|| "text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_disks_are_recognized_by_their_first_bytes() {
        let at = |offset: usize, magic: &[u8]| {
            let mut head = vec![0; LIKENESS_BYTES];
            head[offset..offset + magic.len()].copy_from_slice(magic);
            likeness(&head)
        };
        for (offset, magic, name) in LIKENESSES {
            assert_eq!(at(offset, magic).as_deref(), Some(name));
        }
        for offset in [512, 65_536, 1 << 20] {
            let nested = at(offset, b"QFI\xFB\0\0\0\x03").unwrap();
            assert!(nested.ends_with(&format!("offset {offset}")), "{nested}");
        }
        assert_eq!(likeness("plain t\u{e9}xt\n".as_bytes()).as_deref(), Some("text"));
        assert_eq!((likeness(b""), likeness(&[0; 4096])), (None, None));
        assert_eq!(at(510, &[0x55, 0xAA]), None);
    }

    #[test]
    fn the_version_distinguishes_qcow_from_qcow2() {
        assert_eq!(probe(b"QFI\xFB\0\0\0\x03"), ImageFormat::Qcow2);
        assert_eq!(probe(b"QFI\xFB\0\0\0\x02"), ImageFormat::Qcow2);
        assert_eq!(probe(b"QFI\xFB\0\0\0\x01"), ImageFormat::Other("qcow"));
        assert_eq!(probe(b"QFI\xFB"), ImageFormat::Raw);
    }

    #[test]
    fn anything_unknown_is_raw() {
        assert_eq!(probe(b""), ImageFormat::Raw);
        assert_eq!(probe(&[0; PROBE_BYTES]), ImageFormat::Raw);
    }

    #[test]
    fn vdi_is_known_by_bytes_64_to_67() {
        let mut bytes = [0; PROBE_BYTES];
        bytes[64..68].copy_from_slice(&[0x7F, 0x10, 0xDA, 0xBE]);
        assert_eq!(probe(&bytes), ImageFormat::Other("vdi"));
        assert_eq!(probe(b"vhdxfile"), ImageFormat::Other("vhdx"));
    }
}
