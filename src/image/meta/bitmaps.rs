//! What is known of the persistent bitmaps of an image that is open for writing.

use std::collections::BTreeMap;

use crate::format::bitmap::BitmapEntry;
use crate::format::{Geometry, GuestOffset, HostOffset};

use crate::image::order::disk::HEAD_BYTES;
use crate::image::run::ClusterRun;

/// Where the header extension has the directory's offset, from its data's start.
pub(in crate::image) const POINTER_PLACE: u64 = 16;
/// Where a directory entry has its flags.
const FLAGS_PLACE: u64 = 12;

/// The bitmaps of an image that is open for writing.
#[derive(Clone)]
pub(in crate::image) struct Bitmaps {
    /// Host offset of the place in the header extension that points to the directory.
    pub(in crate::image) pointer: HostOffset,
    pub(in crate::image) directory: HostOffset,
    pub(in crate::image) entries: Vec<BitmapEntry>,
    /// What the guest wrote, by the position of the bitmap in the directory. Empty before the first
    /// write.
    pub(in crate::image) recorded: BTreeMap<usize, Recorded>,
}

/// Bits that are to be set in a bitmap, by the entry of the bitmap table that they belong to.
pub(in crate::image) type Recorded = BTreeMap<usize, Vec<u8>>;

impl Bitmaps {
    /// The bitmaps of a directory, which `pointer` in the header refers to.
    pub(in crate::image) const fn new(
        pointer: HostOffset,
        directory: HostOffset,
        entries: Vec<BitmapEntry>,
    ) -> Self {
        Self { pointer, directory, entries, recorded: BTreeMap::new() }
    }

    /// The directory's entries.
    pub(in crate::image) fn entries(&self) -> &[BitmapEntry] {
        &self.entries
    }

    /// The clusters of the directory, or of one as long.
    pub(in crate::image) fn run(&self, at: HostOffset, geometry: &Geometry) -> ClusterRun {
        ClusterRun::of(geometry, at, Self::encode(&self.entries).len() as u64)
    }

    /// A directory's bytes.
    pub(in crate::image) fn encode(entries: &[BitmapEntry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        bytes
    }

    /// The position of the flags of each entry.
    pub(in crate::image) fn flag_places(&self) -> Vec<HostOffset> {
        let mut before = Vec::new();
        let mut places = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            places.push(self.directory.saturating_add(before.len() as u64 + FLAGS_PLACE));
            entry.encode(&mut before);
        }
        places
    }

    /// Whether the pointer is in the part of the header that is changed with one write.
    pub(in crate::image) fn switches_with_header(&self) -> bool {
        self.pointer.get() + 8 <= HEAD_BYTES as u64
    }

    /// Sets the bits of guest bytes in all bitmaps that record.
    pub(in crate::image) fn record(&mut self, at: GuestOffset, length: u64, cluster_bytes: usize) {
        let per_cluster = cluster_bytes as u64 * 8;
        for (&index, recorded) in &mut self.recorded {
            let shift = self.entries[index].granularity_bits;
            let (mut bit, last) = (at.get() >> shift, (at.get() + length - 1) >> shift);
            while bit <= last {
                let part = usize::try_from(bit / per_cluster).unwrap_or(usize::MAX);
                let stop = last.min((bit / per_cluster + 1) * per_cluster - 1);
                let bytes = recorded.entry(part).or_insert_with(|| vec![0; cluster_bytes]);
                set_bits(bytes, bit % per_cluster, stop % per_cluster);
                bit = stop + 1;
            }
        }
    }
}

/// Sets the bits from `first` to `last`.
pub(in crate::image) fn set_bits(bytes: &mut [u8], first: u64, last: u64) {
    let place = |bit: u64| usize::try_from(bit / 8).unwrap_or(usize::MAX);
    let (low, high) = (0xff << (first % 8), 0xff >> (7 - last % 8));
    if place(first) == place(last) {
        bytes[place(first)] |= low & high;
        return;
    }
    bytes[place(first)] |= low;
    bytes[place(first) + 1..place(last)].fill(0xff);
    bytes[place(last)] |= high;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_within_and_across_bytes() {
        let mut bytes = [0; 4];
        set_bits(&mut bytes, 3, 5);
        assert_eq!(bytes, [0b0011_1000, 0, 0, 0]);
        set_bits(&mut bytes, 7, 24);
        assert_eq!(bytes, [0b1011_1000, 0xff, 0xff, 1]);
    }
}
