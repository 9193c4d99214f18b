//! A bounded write-back cache of metadata tables that are one cluster long: used once for L2
//! tables and once for refcount blocks. It does no I/O and has no order; `ordering` does.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::format::HostOffset;
use crate::sector::SECTOR_LEN;

/// Fewest tables that a cache holds: an operation touches two at a time.
const MIN_TABLES: usize = 4;

struct Slot {
    bytes: Vec<u8>,
    /// Bytes that differ from the file, in whole sectors; empty: none.
    dirty: Range<usize>,
    used: u64,
}

/// The tables that are in memory, by their host offset.
pub(in crate::image) struct TableCache {
    capacity: usize,
    slots: HashMap<HostOffset, Slot>,
    by_use: BTreeMap<u64, HostOffset>,
    clock: u64,
    dirty: usize,
}

/// What must leave a full cache before another table comes in.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::image) enum Room {
    /// There is a free slot.
    Free,
    /// The table that was longest unused has changes to be written first.
    WriteFirst,
}

impl TableCache {
    /// A cache for as many tables of `table_len` bytes as fit into `budget` bytes, at least four.
    pub(in crate::image) fn new(table_len: usize, budget: usize) -> Self {
        Self {
            capacity: (budget / table_len).max(MIN_TABLES),
            slots: HashMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            dirty: 0,
        }
    }

    /// Whether the table at `at` is in memory.
    pub(in crate::image) fn holds(&self, at: HostOffset) -> bool {
        self.slots.contains_key(&at)
    }

    /// Whether any table has changes.
    pub(in crate::image) const fn is_dirty(&self) -> bool {
        self.dirty > 0
    }

    /// The bytes of a table.
    pub(in crate::image) fn get(&mut self, at: HostOffset) -> Option<&[u8]> {
        self.touch(at);
        self.slots.get(&at).map(|slot| slot.bytes.as_slice())
    }

    /// The bytes of a table of which `range` is about to change.
    pub(in crate::image) fn change(
        &mut self,
        at: HostOffset,
        range: Range<usize>,
    ) -> Option<&mut [u8]> {
        self.touch(at);
        let slot = self.slots.get_mut(&at)?;
        let start = range.start / SECTOR_LEN * SECTOR_LEN;
        let end = range.end.next_multiple_of(SECTOR_LEN).min(slot.bytes.len());
        if slot.dirty.is_empty() {
            self.dirty += 1;
            slot.dirty = start..end;
        } else {
            slot.dirty = slot.dirty.start.min(start)..slot.dirty.end.max(end);
        }
        Some(&mut slot.bytes)
    }

    /// Frees a slot for one more table by dropping the one longest unused, unless it has changes.
    pub(in crate::image) fn make_room(&mut self) -> Room {
        while self.slots.len() >= self.capacity {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { break };
            if self.slots.get(&oldest).is_some_and(|slot| !slot.dirty.is_empty()) {
                return Room::WriteFirst;
            }
            self.forget(oldest);
        }
        Room::Free
    }

    /// Takes in a table as stored in the file.
    pub(in crate::image) fn insert(&mut self, at: HostOffset, bytes: Vec<u8>) {
        self.forget(at);
        self.clock += 1;
        self.by_use.insert(self.clock, at);
        self.slots.insert(at, Slot { bytes, dirty: 0..0, used: self.clock });
    }

    /// Takes in a table that is not yet in the file.
    pub(in crate::image) fn insert_new(&mut self, at: HostOffset, bytes: Vec<u8>) {
        let len = bytes.len();
        self.insert(at, bytes);
        self.change(at, 0..len);
    }

    /// Drops a table and its changes: its cluster is no longer such a table.
    pub(in crate::image) fn forget(&mut self, at: HostOffset) {
        if let Some(slot) = self.slots.remove(&at) {
            self.by_use.remove(&slot.used);
            if !slot.dirty.is_empty() {
                self.dirty -= 1;
            }
        }
    }

    /// Drops all tables and their changes.
    pub(in crate::image) fn clear(&mut self) {
        *self = Self { capacity: self.capacity, ..Self::new(1, 0) };
    }

    /// The tables with changes, in the order of the file.
    pub(in crate::image) fn dirty_tables(&self) -> Vec<HostOffset> {
        let dirty = self.slots.iter().filter(|(_, slot)| !slot.dirty.is_empty());
        let mut list: Vec<_> = dirty.map(|(&at, _)| at).collect();
        list.sort_unstable();
        list
    }

    /// Where the changed part of a table goes, and its bytes.
    pub(in crate::image) fn dirty_part(&self, at: HostOffset) -> Option<(HostOffset, &[u8])> {
        let slot = self.slots.get(&at)?;
        let place = at.checked_add(slot.dirty.start as u64)?;
        Some((place, &slot.bytes[slot.dirty.clone()]))
    }

    /// The changes of a table are in the file now.
    pub(in crate::image) fn mark_written(&mut self, at: HostOffset) {
        if let Some(slot) = self.slots.get_mut(&at) {
            if !slot.dirty.is_empty() {
                self.dirty -= 1;
            }
            slot.dirty = 0..0;
        }
    }

    fn touch(&mut self, at: HostOffset) {
        // What was used last is used again most often.
        if let Some(slot) = self.slots.get_mut(&at).filter(|slot| slot.used != self.clock) {
            self.by_use.remove(&slot.used);
            self.clock += 1;
            slot.used = self.clock;
            self.by_use.insert(self.clock, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> HostOffset {
        HostOffset::new(n * 1024)
    }

    #[test]
    fn the_table_longest_unused_leaves_a_full_cache() {
        let mut cache = TableCache::new(1024, 0);
        for n in 0..4 {
            cache.insert(at(n), vec![0; 1024]);
        }
        cache.get(at(0));
        assert_eq!(cache.make_room(), Room::Free);
        assert!(cache.holds(at(0)) && !cache.holds(at(1)));
    }

    #[test]
    fn a_changed_table_stays_until_it_is_written_and_only_its_changed_sectors_are() {
        let mut cache = TableCache::new(1024, 0);
        for n in 0..4 {
            cache.insert(at(n), vec![0; 1024]);
        }
        cache.change(at(0), 600..608).unwrap()[600] = 7;
        for n in 1..4 {
            cache.get(at(n));
        }
        assert_eq!(cache.make_room(), Room::WriteFirst);
        let (place, bytes) = cache.dirty_part(at(0)).unwrap();
        assert_eq!((place, bytes.len(), bytes[88]), (HostOffset::new(512), 512, 7));
        cache.mark_written(at(0));
        assert!(!cache.is_dirty());
        assert_eq!(cache.make_room(), Room::Free);
    }
}
