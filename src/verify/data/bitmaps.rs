//! The data of persistent bitmaps: every cluster is read, and has no bit set past the disk's end.

use std::collections::HashSet;

use crate::check::{Finding, Kind, Place, Survey};
use crate::format::HostOffset;
use crate::format::bitmap::{BitmapEntry, BitmapTableEntry};
use crate::format::feature::autoclear;
use crate::format::geometry::{Geometry, TABLE_ENTRY_BYTES};
use crate::progress::Progress;
use crate::storage::ReadAt;
use crate::tables::{BitmapDirectory, load_entries};

/// Bitmap table entries that are looked at together.
const CHUNK_ENTRIES: u64 = 1 << 16;

/// Reads the data of all bitmaps that the check has found valid.
pub(super) fn run(
    source: &dyn ReadAt,
    survey: &Survey,
    progress: &dyn Progress,
    found: &mut Vec<Finding>,
) {
    if survey.area.header.autoclear & autoclear::BITMAPS == 0 {
        return;
    }
    let Some(pointer) = survey.area.bitmaps() else { return };
    // What cannot be read here the check has reported.
    let Ok(directory) = BitmapDirectory::load(source, &pointer) else { return };
    progress.stage("bitmap data", 0);
    let (geometry, file_bytes) = (survey.area.geometry, survey.file_bytes);
    let mut reader =
        Reader { source, geometry, file_bytes, seen: HashSet::new(), buffer: Vec::new() };
    // Valid tables do not overlap each other, so all are no longer than the file.
    let mut budget = file_bytes;
    for (index, entry) in (0u32..).zip(&directory.entries) {
        let bytes = u64::from(entry.table_entries) * TABLE_ENTRY_BYTES;
        if !entry.defects(&geometry).is_empty() || bytes > budget {
            continue;
        }
        budget -= bytes;
        reader.bitmap(index, entry, found);
    }
}

struct Reader<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    file_bytes: u64,
    /// Clusters that were read: consistent images have each once.
    seen: HashSet<HostOffset>,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn bitmap(&mut self, index: u32, entry: &BitmapEntry, found: &mut Vec<Finding>) {
        let place = Place::Bitmap(index);
        let in_file = self.file_bytes.saturating_sub(entry.table.get()) / TABLE_ENTRY_BYTES;
        let entries = u64::from(entry.table_entries).min(in_file);
        let mut from = 0;
        while from < entries {
            let count = CHUNK_ENTRIES.min(entries - from);
            let at = entry.table.saturating_add(from * TABLE_ENTRY_BYTES);
            let Ok(chunk) = load_entries(self.source, at, count) else { return };
            for (number, &bits) in (from..).zip(&chunk) {
                let bits = BitmapTableEntry(bits);
                let sound = !bits.is_broken(&self.geometry);
                if let Some(at) = bits.data().filter(|_| sound) {
                    if let Some(kind) = self.cluster(entry, number, at) {
                        found.push(Finding::new(kind, place));
                    }
                }
            }
            from += count;
        }
    }

    /// What is wrong with the cluster at this position of the bitmap's table.
    fn cluster(&mut self, entry: &BitmapEntry, number: u64, at: HostOffset) -> Option<Kind> {
        if at.get() >= self.file_bytes || !self.seen.insert(at) {
            return None;
        }
        self.buffer.resize(self.geometry.cluster_len(), 0);
        if let Err(error) = self.source.read_padded_at(at.get(), &mut self.buffer) {
            let error = error.to_string();
            return Some(Kind::Unreadable { what: "bitmap data", offset: at, error });
        }
        if entry.is_in_use() {
            return None;
        }
        let before = number * self.geometry.cluster_bytes() * 8;
        let bits = entry.bits_for(self.geometry.virtual_size()).saturating_sub(before);
        has_bits_from(&self.buffer, bits).then(|| Kind::BitmapData {
            name: entry.name_text(),
            problem: format!("its data at {:#x} has bits set past the disk's end", at.get()),
        })
    }
}

/// Whether a bit is set at this position or after it; the first bit of a byte is its lowest.
fn has_bits_from(bytes: &[u8], bit: u64) -> bool {
    let Ok(first) = usize::try_from(bit / 8) else { return false };
    let Some((&partial, rest)) = bytes.get(first..).and_then(<[u8]>::split_first) else {
        return false;
    };
    partial >> (bit % 8) != 0 || rest.iter().any(|&byte| byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_past_the_end_are_found_to_the_bit() {
        assert!(!has_bits_from(&[0xFF, 0x07, 0], 11));
        assert!(has_bits_from(&[0xFF, 0x07, 0], 10));
        assert!(has_bits_from(&[0, 0, 0x80], 0));
        assert!(!has_bits_from(&[0xFF], 8));
        assert!(!has_bits_from(&[0xFF], u64::MAX));
    }
}
