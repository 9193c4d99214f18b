//! A table of 64-bit entries that is wholly in memory: the L1 table and the refcount table.

use std::collections::BTreeSet;

use crate::format::{HostOffset, encode_entries};
use crate::sector::SECTOR_LEN;

const ENTRY: usize = 8;

/// The entries, their position in the file, and which sectors of them have changed.
#[derive(Debug, Clone)]
pub(in crate::image) struct RootTable {
    offset: HostOffset,
    entries: Vec<u64>,
    dirty: BTreeSet<usize>,
}

impl RootTable {
    /// A table that is in the file as given.
    pub(in crate::image) const fn new(offset: HostOffset, entries: Vec<u64>) -> Self {
        Self { offset, entries, dirty: BTreeSet::new() }
    }

    /// Where the table begins in the file.
    pub(in crate::image) const fn offset(&self) -> HostOffset {
        self.offset
    }

    /// All entries.
    pub(in crate::image) fn entries(&self) -> &[u64] {
        &self.entries
    }

    /// An entry; 0 past the end, where there is nothing.
    pub(in crate::image) fn get(&self, index: usize) -> u64 {
        self.entries.get(index).copied().unwrap_or(0)
    }

    /// Changes an entry in memory.
    pub(in crate::image) fn set(&mut self, index: usize, value: u64) {
        self.entries[index] = value;
        self.dirty.insert(index * ENTRY / SECTOR_LEN);
    }

    /// Puts other entries in the place of all.
    pub(in crate::image) fn replace(&mut self, entries: Vec<u64>) {
        self.entries = entries;
        self.mark_all();
    }

    /// Gives the table at least `len` entries; new ones are 0.
    pub(in crate::image) fn lengthen(&mut self, len: usize) {
        self.entries.resize(len.max(self.entries.len()), 0);
        self.mark_all();
    }

    /// Gives the table a new place, where the whole of it will be written.
    pub(in crate::image) fn relocate(&mut self, to: HostOffset) {
        self.offset = to;
        self.mark_all();
    }

    fn mark_all(&mut self) {
        self.dirty = (0..(self.entries.len() * ENTRY).div_ceil(SECTOR_LEN)).collect();
    }

    /// Whether entries have changed since they were written.
    pub(in crate::image) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The changed sectors: where they go, and their bytes. Neighbours are one part.
    pub(in crate::image) fn dirty_parts(&self) -> Vec<(HostOffset, Vec<u8>)> {
        let mut parts: Vec<(usize, usize)> = Vec::new();
        for &sector in &self.dirty {
            match parts.last_mut() {
                Some((_, end)) if *end == sector => *end += 1,
                _ => parts.push((sector, sector + 1)),
            }
        }
        let per_sector = SECTOR_LEN / ENTRY;
        let encode = |(start, end): (usize, usize)| {
            let last = (end * per_sector).min(self.entries.len());
            let bytes = encode_entries(&self.entries[start * per_sector..last]);
            (self.offset.saturating_add((start * SECTOR_LEN) as u64), bytes)
        };
        parts.into_iter().map(encode).collect()
    }

    /// All changes are in the file now.
    pub(in crate::image) fn mark_written(&mut self) {
        self.dirty.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_sectors_are_written_and_neighbours_together() {
        let mut table = RootTable::new(HostOffset::new(0x1000), vec![0; 200]);
        table.set(0, 1);
        table.set(64, 2);
        table.set(199, 3);
        let parts = table.dirty_parts();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].0, parts[0].1.len()), (HostOffset::new(0x1000), 1024));
        assert_eq!((parts[1].0, parts[1].1.len()), (HostOffset::new(0x1600), 64));
        assert_eq!(parts[1].1[56..], [0, 0, 0, 0, 0, 0, 0, 3]);
        table.mark_written();
        assert!(!table.is_dirty());
    }
}
