//! What a virtual disk contains: partitions and file systems, by their names, so that a range of
//! bytes can be given in words that a person has for it.
//!
//! The tables are parsed here and not by a crate: the work is bounded whatever numbers are in them,
//! what is damaged is left out and the rest is read, and the library has no further dependency.

mod bytes;
mod names;
mod ntfs;
mod part;
mod systems;
mod tables;

use std::ops::Range;

use crate::disk::Disk;
use bytes::Bytes;

pub use part::{FileSystem, Part, Scheme};

/// Partitions and file systems of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// How the disk is divided, where it is.
    pub scheme: Option<Scheme>,
    /// The parts, in the order of the disk. A disk without a partition table is one part, if a
    /// file system is recognized at its beginning.
    pub parts: Vec<Part>,
}

impl Contents {
    /// Reads the partition table and the superblocks of a disk: at most a few megabytes, whatever
    /// the disk contains. What cannot be read is left out, as is what is not known.
    pub fn of(disk: &Disk) -> Self {
        let bytes = Bytes::new(disk);
        let (scheme, mut parts) = tables::find(&bytes);
        for part in &mut parts {
            part.file_system = systems::find(&bytes, &part.range);
        }
        if scheme.is_none() {
            let range = 0..bytes.size();
            if let Some(found) = systems::find(&bytes, &range) {
                let (number, kind, label) = (None, None, None);
                parts.push(Part { number, range, kind, label, file_system: Some(found) });
            }
        }
        parts.sort_by_key(|part| part.range.start);
        Self { scheme, parts }
    }

    /// The parts that a range of guest offsets touches.
    pub fn at(&self, range: &Range<u64>) -> impl Iterator<Item = &Part> {
        let (start, end) = (range.start, range.end);
        self.parts.iter().filter(move |part| part.range.start < end && start < part.range.end)
    }

    /// What a range of guest offsets is of, in words; empty where nothing is known.
    pub fn words(&self, range: &Range<u64>) -> Vec<String> {
        let tables = self.scheme.filter(|_| range.start < 512);
        let mut words: Vec<String> =
            tables.map(|scheme| format!("{} partition table", scheme.name())).into_iter().collect();
        words.extend(self.at(range).map(ToString::to_string));
        words
    }
}
