//! All L2 tables, each read once a round by several threads, whatever the number of disks that use
//! them.

use std::ops::Range;

use crate::check::{Survey, Visit, parallel};
use crate::format::geometry::Geometry;
use crate::format::l2::{CompressedExtent, L2Entry, Meaning};
use crate::format::{HostOffset, L2Index};
use crate::storage::{ReadAt, is_zero};

/// From so many bytes of tables on, holes among them are looked for before they are read.
const MANY_BYTES: u64 = 1 << 30;

/// The positions of the L2 tables, and what uses them.
pub(super) struct Tables<'a> {
    source: &'a dyn ReadAt,
    geometry: Geometry,
    threads: usize,
    /// All L1 entries, by the table that they point to.
    visits: Vec<Visit>,
    /// The tables, each with its visits.
    list: Vec<(HostOffset, Range<usize>)>,
    /// The file's length, up to the end of its last sector.
    file_bytes: u64,
    /// Whether data is in an external data file.
    external: bool,
}

/// Guest data that an L2 entry points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// A cluster as it is.
    Plain(HostOffset),
    /// A compressed cluster.
    Packed(CompressedExtent),
}

impl<'a> Tables<'a> {
    /// The tables that a check has found, without those that it has reported as out of place.
    pub(super) fn of(source: &'a dyn ReadAt, survey: &Survey, threads: usize) -> Self {
        let geometry = survey.area.geometry;
        let file_bytes = survey.file_bytes.next_multiple_of(512);
        let sound = |at: HostOffset| geometry.is_aligned(at) && at.get() < file_bytes;
        let visits = survey.visits.iter().filter(|visit| sound(visit.entry.offset()));
        let mut visits: Vec<Visit> = visits.collect();
        visits.sort_unstable_by_key(|v| (v.entry.offset(), v.source, v.index));
        let mut list = Vec::new();
        let mut start = 0;
        for same in visits.chunk_by(|a, b| a.entry.offset() == b.entry.offset()) {
            list.push((same[0].entry.offset(), start..start + same.len()));
            start += same.len();
        }
        let external = survey.area.header.has_data_file();
        Self { source, geometry, threads, visits, list, file_bytes, external }
    }

    /// The image's sizes.
    pub(super) const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether data is in an external data file.
    pub(super) const fn is_external(&self) -> bool {
        self.external
    }

    /// The L1 entries that point to the table with this number.
    pub(super) fn visits(&self, number: usize) -> &[Visit] {
        &self.visits[self.list[number].1.clone()]
    }

    /// What `look` makes of the bytes of each table, by number. Of those that cannot be read the
    /// check has reported.
    pub(super) fn map<T: Send + Default>(&self, look: impl Fn(&[u8]) -> T + Sync) -> Vec<T> {
        let bytes = self.geometry.cluster_bytes();
        let many = self.list.len() as u64 * bytes > MANY_BYTES;
        parallel::map(self.threads, self.list.len(), Vec::new, |buffer, number| {
            let at = self.list[number].0;
            if many && self.source.is_hole(at.get(), bytes) {
                return T::default();
            }
            buffer.resize(self.geometry.cluster_len(), 0);
            match self.source.read_padded_at(at.get(), buffer) {
                Ok(()) => look(buffer),
                Err(_) => T::default(),
            }
        })
    }

    /// The guest data that a table's entries point to. Entries that the check has reported
    /// point to nothing.
    pub(super) fn data<'b>(
        &'b self,
        table: &'b [u8],
    ) -> impl Iterator<Item = (L2Index, Data)> + 'b {
        let entries = (0u32..).zip(table.chunks_exact(self.geometry.l2_entry_bytes()));
        entries.filter_map(|(index, bytes)| {
            if is_zero(bytes) {
                return None;
            }
            let entry = L2Entry::decode(bytes);
            Some((L2Index::new(index), self.data_of(entry)?))
        })
    }

    fn data_of(&self, entry: L2Entry) -> Option<Data> {
        match entry.meaning(&self.geometry, self.external) {
            Meaning::Data(at) => {
                let in_part = !self.geometry.extended_l2() || entry.allocated() != 0;
                let there = self.external || at.get() < self.file_bytes;
                (in_part && there && self.geometry.is_aligned(at)).then_some(Data::Plain(at))
            }
            Meaning::Compressed(extent) => {
                let over = extent.offset.get().saturating_add(extent.bytes);
                let beyond = over.saturating_sub(self.file_bytes) >= self.geometry.cluster_bytes();
                (!self.external && entry.bitmap == 0 && !beyond).then_some(Data::Packed(extent))
            }
            Meaning::Unallocated | Meaning::Zero | Meaning::ZeroAllocated(_) => None,
        }
    }
}
