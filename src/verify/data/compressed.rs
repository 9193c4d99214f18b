//! Compressed clusters: each extent is decompressed once, however many entries point to it.

use std::sync::{Mutex, PoisonError};

use super::blame::{Blame, Failed};
use super::packed::Packed;
use super::tables::{Data, Tables};
use crate::check::parallel;
use crate::codec::{Decompressor, Fault, Method};
use crate::format::geometry::Geometry;
use crate::format::l2::SECTOR_BYTES;
use crate::progress::Progress;
use crate::storage::ReadAt;

/// Extents that are kept at a time; where there are more, the tables are read again.
const MAX_EXTENTS: usize = 1 << 22;
/// Extents that are read together, in bytes of the file.
const READ_BYTES: u64 = 1 << 20;
/// Extents that are read together, at most.
const READ_EXTENTS: usize = 256;
/// Extents that overlap others, which consistent images do not have: so many are decompressed.
const MAX_OVERLAPPING: usize = 1024;

/// The first extents after an offset in the file, each once: no more than a number of them.
#[derive(Debug, Default)]
pub(super) struct First {
    after: Option<Packed>,
    /// Where more are left out: the last that is kept.
    last: Option<Packed>,
    list: Vec<Packed>,
}

impl First {
    fn after(after: Option<Packed>) -> Self {
        Self { after, ..Self::default() }
    }

    /// Takes some in.
    pub(super) fn extend(&mut self, found: &[Packed]) {
        let wanted =
            |p: &&Packed| self.after.is_none_or(|a| **p > a) && self.last.is_none_or(|l| **p <= l);
        self.list.extend(found.iter().filter(wanted));
        if self.list.len() >= 2 * MAX_EXTENTS {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.list.sort_unstable();
        self.list.dedup();
        if self.list.len() > MAX_EXTENTS {
            self.list.truncate(MAX_EXTENTS);
            self.last = self.list.last().copied();
        }
    }
}

/// How compressed clusters are read.
pub(super) struct Compressed<'a> {
    /// The image.
    pub(super) source: &'a dyn ReadAt,
    /// How they were compressed.
    pub(super) method: Method,
    /// How many threads decompress.
    pub(super) threads: usize,
    /// Receives the progress.
    pub(super) progress: &'a dyn Progress,
}

impl Compressed<'_> {
    /// Decompresses all: those found so far, and by reading the tables again those that were too
    /// many.
    pub(super) fn run(&self, tables: &Tables<'_>, found: First, blame: &mut Blame) {
        let mut first = found;
        loop {
            first.settle();
            let list = without_most_overlaps(&first.list, tables.geometry());
            self.decompress_all(tables.geometry(), &list, blame);
            let Some(last) = first.last else { return };
            let next = Mutex::new(First::after(Some(last)));
            tables.map(|table| collect(tables, table, &next));
            first = next.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn decompress_all(&self, geometry: &Geometry, list: &[Packed], blame: &mut Blame) {
        let groups = groups(list, geometry);
        let bytes = list.iter().map(|packed| packed.extent(geometry).bytes).sum();
        if bytes > 0 {
            self.progress.stage("compressed data", bytes);
        }
        let failed = parallel::map(self.threads, groups.len(), Tools::default, |tools, number| {
            let group = groups[number];
            let failed = self.decompress_group(geometry, group, tools);
            self.progress.advance(group.iter().map(|p| p.extent(geometry).bytes).sum());
            failed
        });
        for (packed, failed) in failed.into_iter().flatten() {
            blame.packed(packed, failed);
        }
    }

    /// Decompresses neighbours, which are read together.
    fn decompress_group(
        &self,
        geometry: &Geometry,
        group: &[Packed],
        tools: &mut Tools,
    ) -> Vec<(Packed, Failed)> {
        let Some(first) = group.first() else { return Vec::new() };
        let start = first.extent(geometry).offset.get();
        let ends = group.iter().map(|p| p.extent(geometry)).map(|e| e.offset.get() + e.bytes);
        let end = ends.max().unwrap_or(start);
        let len = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        tools.packed.resize(len(end - start), 0);
        tools.cluster.resize(geometry.cluster_len(), 0);
        let whole = self.source.read_padded_at(start, &mut tools.packed).is_ok();
        let mut failed = Vec::new();
        for &packed in group {
            let extent = packed.extent(geometry);
            let within = len(extent.offset.get() - start);
            let bytes = &mut tools.packed[within..within + len(extent.bytes)];
            if !whole {
                if let Err(error) = self.source.read_padded_at(extent.offset.get(), bytes) {
                    failed.push((packed, Failed::Unreadable(error.to_string())));
                    continue;
                }
            }
            if !tools.decompressor.decompress(self.method, bytes, &mut tools.cluster) {
                let fault = Fault::find(self.method, bytes, &mut tools.cluster);
                failed.push((packed, Failed::Fault(fault)));
            }
        }
        failed
    }
}

/// What a thread keeps from group to group.
#[derive(Debug, Default)]
struct Tools {
    decompressor: Decompressor,
    packed: Vec<u8>,
    cluster: Vec<u8>,
}

/// Takes in a table's compressed extents.
pub(super) fn collect(tables: &Tables<'_>, table: &[u8], into: &Mutex<First>) {
    let geometry = tables.geometry();
    let packed = |(_, data)| match data {
        Data::Packed(extent) => Some(Packed::of(extent, geometry)),
        Data::Plain(_) => None,
    };
    let mut found: Vec<Packed> = tables.data(table).filter_map(packed).collect();
    if !found.is_empty() {
        found.sort_unstable();
        found.dedup();
        into.lock().unwrap_or_else(PoisonError::into_inner).extend(&found);
    }
}

/// Neighbours that are read together.
fn groups<'b>(list: &'b [Packed], geometry: &Geometry) -> Vec<&'b [Packed]> {
    let mut groups = Vec::new();
    let mut start = 0;
    for (at, packed) in list.iter().enumerate() {
        let from = list[start].extent(geometry).offset.get();
        let extent = packed.extent(geometry);
        let far = extent.offset.get() + extent.bytes > from.saturating_add(READ_BYTES);
        if at > start && (far || at - start >= READ_EXTENTS) {
            groups.push(&list[start..at]);
            start = at;
        }
    }
    if start < list.len() {
        groups.push(&list[start..]);
    }
    groups
}

/// Leaves out extents that overlap others, after the first ones: the check has reported all, and a
/// file can have far more of them than its length could hold.
fn without_most_overlaps(list: &[Packed], geometry: &Geometry) -> Vec<Packed> {
    let (mut reached, mut room) = (0, MAX_OVERLAPPING);
    let mut kept = Vec::with_capacity(list.len());
    for &packed in list {
        let extent = packed.extent(geometry);
        let (start, end) = (extent.offset.get(), extent.offset.get() + extent.bytes);
        // One may begin in the sector in which the one before ends.
        let overlaps = start + SECTOR_BYTES < reached;
        if !overlaps || room > 0 {
            kept.push(packed);
        }
        if overlaps {
            room = room.saturating_sub(1);
        }
        reached = reached.max(end);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HostOffset;
    use crate::format::l2::CompressedExtent;

    fn packed(offset: u64, bytes: u64) -> Packed {
        let geometry = Geometry::new(16, 4, false, 1 << 30).unwrap();
        Packed::of(CompressedExtent { offset: HostOffset::new(offset), bytes }, &geometry)
    }

    #[test]
    fn an_extent_and_its_word_are_the_same() {
        for bits in [9, 16, 21] {
            let geometry = Geometry::new(bits, 4, false, 1 << 30).unwrap();
            for (offset, bytes) in [(0x200, 1024), (0x50010, 1024 - 16), (0x12345, 512 - 0x145)] {
                let extent = CompressedExtent { offset: HostOffset::new(offset), bytes };
                assert_eq!(Packed::of(extent, &geometry).extent(&geometry), extent);
            }
        }
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_length() {
        let geometry = Geometry::new(16, 4, false, 1 << 30).unwrap();
        let list: Vec<Packed> = (0..1000).map(|n| packed(n * 8192, 8192)).collect();
        let groups = groups(&list, &geometry);
        assert_eq!(groups.concat(), list);
        assert!(groups.iter().all(|group| group.len() <= 128), "{}", groups.len());
    }

    #[test]
    fn of_extents_over_each_other_only_some_are_decompressed() {
        let geometry = Geometry::new(16, 4, false, 1 << 30).unwrap();
        let sound: Vec<Packed> = (0..5000).map(|n| packed(n * 100, 512 - n * 100 % 512)).collect();
        assert_eq!(without_most_overlaps(&sound, &geometry), sound);
        let over: Vec<Packed> = (0..5000).map(|n| packed(n, 65536 - n % 512)).collect();
        assert!(without_most_overlaps(&over, &geometry).len() < 2000);
    }

    #[test]
    fn the_first_extents_are_kept_each_once() {
        let mut first = First::after(Some(packed(512, 512)));
        first.extend(&[packed(1024, 512), packed(0, 512), packed(1024, 512), packed(512, 512)]);
        first.settle();
        assert_eq!(first.list, [packed(1024, 512)]);
    }
}
