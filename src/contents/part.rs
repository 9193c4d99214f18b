//! The parts of a disk.

use std::fmt;
use std::ops::Range;

/// A form of partition tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// GUID partition table, as UEFI specifies it.
    Gpt,
    /// Master boot record, with logical partitions.
    Mbr,
}

impl Scheme {
    /// Its name: `gpt` or `mbr`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpt => "gpt",
            Self::Mbr => "mbr",
        }
    }
}

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of the partition, as Linux counts them; none for a disk that is not divided.
    pub number: Option<u32>,
    /// Its bytes, as guest offsets.
    pub range: Range<u64>,
    /// What the partition table records as its type.
    pub kind: Option<String>,
    /// The name of the partition in a GPT.
    pub label: Option<String>,
    /// What is at its beginning.
    pub file_system: Option<FileSystem>,
}

/// A file system, or what else has a superblock: swap space, LVM, LUKS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type, as `blkid` and `lsblk` name it.
    pub kind: &'static str,
    /// Its label.
    pub label: Option<String>,
    /// Its UUID, or the serial number in its place.
    pub uuid: Option<String>,
}

impl fmt::Display for Part {
    /// As in `partition 2, ext4 "root"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "partition {number}")?,
            None => write!(f, "the whole disk")?,
        }
        match (&self.file_system, &self.kind) {
            (Some(found), _) => write!(f, ", {}", found.kind)?,
            (None, Some(kind)) => write!(f, ", {kind}")?,
            (None, None) => {}
        }
        let label = self.file_system.as_ref().and_then(|found| found.label.as_ref());
        match label.or(self.label.as_ref()) {
            // Control characters of a label are not printed.
            Some(label) => write!(f, " \"{}\"", label.escape_debug()),
            None => Ok(()),
        }
    }
}
