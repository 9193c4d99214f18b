//! Telling image formats apart by a file's first bytes.

use byteorder::{BigEndian, ByteOrder};

use super::header::MAGIC;

/// How many bytes of a file's start [`probe`] wants to see.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_qcow_from_qcow2() {
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
