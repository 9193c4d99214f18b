//! Where everything goes in a new qcow2 image that is written in the order of its disk: data as it comes, an L2 table
//! behind the data that it maps, L1 table and refcount table at the end.

use std::ops::Range;

use crate::create::Roots;
use crate::error::{Error, Result};
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::{COMPRESSED, L2Entry, SECTOR_BYTES};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, encode_entries};

use super::counts::{Block, Counts};

/// Clusters that are set aside together for data that does not get smaller, so that compressed data around it stays
/// in one piece.
const SET_ASIDE: u64 = 16;

/// What a guest cluster becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: the backing file's data, or zeroes.
    Unallocated,
    /// Zeroes without a host cluster.
    Zero,
    /// Stored as it is; with subclusters, this is their bitmap.
    Plain(u64),
    /// Compressed to so many bytes.
    Packed(u32),
}

/// The roots of a finished image, and the length of its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    /// What the header points to.
    pub(super) header: Roots,
    /// The length of the file.
    pub(super) file_bytes: u64,
}

/// Where data goes, and the metadata that is known so far.
#[derive(Debug)]
pub(super) struct Layout {
    geometry: Geometry,
    counts: Counts,
    /// Whether clusters are compressed.
    packing: bool,
    /// Behind the last compressed byte, inside a cluster.
    packed_end: Option<HostOffset>,
    /// Set aside, and not used so far.
    aside: Range<HostCluster>,
    l1: Vec<u64>,
    /// The L2 table that is being filled, in words, and its index.
    table: Option<(usize, Vec<u64>)>,
}

impl Layout {
    /// An empty image in a file that may have `limit` bytes.
    pub(super) fn new(geometry: Geometry, limit: u64, packing: bool) -> Result<Self> {
        let counts = Counts::new(geometry, limit)?;
        let aside = counts.end()..counts.end();
        let l1 = Vec::new();
        Ok(Self { geometry, counts, packing, packed_end: None, aside, l1, table: None })
    }

    /// Room for `count` clusters that are stored as they are, in up to as many pieces as needed.
    pub(super) fn place_plain(&mut self, mut count: u64) -> Result<Vec<Range<HostCluster>>> {
        let mut runs = Vec::new();
        while count > 0 {
            let left = (self.aside.end - self.aside.start).get();
            if left == 0 {
                let more = if self.packing { count.max(SET_ASIDE) } else { count };
                let more = ClusterCount::new(more);
                let more = match self.counts.ensure(more) {
                    // Perhaps only what is set aside is too much.
                    Err(Error::NoRoom { .. }) => ClusterCount::new(count),
                    _ => more,
                };
                let first = self.counts.reserve(more)?;
                self.aside = first..first + more;
                continue;
            }
            let taken = ClusterCount::new(left.min(count));
            let first = self.aside.start;
            self.counts.raise(first, taken);
            self.aside.start = first + taken;
            runs.push(first..first + taken);
            count -= taken.get();
        }
        Ok(runs)
    }

    /// Room for compressed bytes: behind the last ones where that is possible.
    pub(super) fn place_packed(&mut self, bytes: u64) -> Result<HostOffset> {
        let size = self.geometry.cluster_bytes();
        let mut at = None;
        if let Some(end) = self.packed_end {
            let cluster = self.geometry.cluster_floor(end);
            let free = size - end.get() % size;
            if self.counts.get(cluster) < self.geometry.refcount_max() {
                let more = ClusterCount::new(bytes.saturating_sub(free).div_ceil(size));
                self.counts.ensure(more)?;
                if more.get() == 0 || self.counts.end() == cluster.next() {
                    self.counts.allocate(more)?;
                    self.counts.raise(cluster, ClusterCount::new(1));
                    at = Some(end);
                }
            }
        }
        let at = match at {
            Some(at) => at,
            None => {
                let first = self.counts.allocate(ClusterCount::new(bytes.div_ceil(size)))?;
                self.geometry.offset_of(first)
            }
        };
        let end = at.saturating_add(bytes);
        self.packed_end = (end.get() % size != 0).then_some(end);
        Ok(at)
    }

    /// The entry of a cluster that is compressed.
    pub(super) fn packed_entry(&self, at: HostOffset, bytes: u64) -> Result<L2Entry> {
        let x = 62 - (self.geometry.cluster_bits() - 8);
        if at.get() >> x != 0 {
            let why = "compressed data cannot lie this far into the file: choose larger clusters";
            return Err(Error::Refused(why.into()));
        }
        let additional = (at.get() % SECTOR_BYTES + bytes - 1) / SECTOR_BYTES;
        Ok(L2Entry::standard(COMPRESSED | additional << x | at.get()))
    }

    /// The entry of a cluster that is stored as it is.
    pub(super) fn plain_entry(&self, at: HostOffset, bitmap: u64) -> L2Entry {
        L2Entry { bits: at.get() | COPIED, bitmap }
    }

    /// The entry of a cluster of zeroes.
    pub(super) fn zero_entry(&self) -> L2Entry {
        L2Entry::all_zero(&self.geometry)
    }

    /// Enters a guest cluster; they come in the order of the disk.
    pub(super) fn map(&mut self, cluster: u64, entry: L2Entry, out: &mut Vec<Block>) -> Result<()> {
        let entries = u64::from(self.geometry.l2_entries());
        let index = usize::try_from(cluster / entries).expect("an L1 index fits into memory");
        if self.table.as_ref().is_some_and(|(open, _)| *open != index) {
            self.close_table(out)?;
        }
        let width = self.geometry.l2_entry_bytes() / 8;
        let words = self.geometry.cluster_len() / 8;
        let (_, table) = self.table.get_or_insert_with(|| (index, vec![0; words]));
        let at = usize::try_from(cluster % entries).expect("an L2 index fits into memory") * width;
        table[at] = entry.bits;
        if width == 2 {
            table[at + 1] = entry.bitmap;
        }
        Ok(())
    }

    fn close_table(&mut self, out: &mut Vec<Block>) -> Result<()> {
        if let Some((index, words)) = self.table.take() {
            let at = self.geometry.offset_of(self.counts.allocate(ClusterCount::new(1))?);
            out.push(Block { at, bytes: encode_entries(&words) });
            self.l1.resize(index, 0);
            self.l1.push(L1Entry::new(at, true).0);
        }
        Ok(())
    }

    /// The refcount blocks that are final by now.
    pub(super) fn take_settled(&mut self, out: &mut Vec<Block>) {
        if self.counts.is_crowded() {
            // What little room is left there is not worth the memory.
            self.packed_end = None;
            self.aside.start = self.aside.end;
        }
        let mut settled = self.counts.end();
        if let Some(end) = self.packed_end {
            settled = settled.min(self.geometry.cluster_floor(end));
        }
        if self.aside.start < self.aside.end {
            settled = settled.min(self.aside.start);
        }
        self.counts.take_settled(settled, out);
    }

    /// Room for a structure of `bytes` bytes.
    pub(super) fn place_table(&mut self, bytes: u64) -> Result<HostOffset> {
        let count = self.geometry.clusters_for(bytes);
        Ok(self.geometry.offset_of(self.counts.allocate(count)?))
    }

    /// Ends the image of a disk of `size` bytes: everything that is not written yet.
    pub(super) fn finish(mut self, size: u64, out: &mut Vec<Block>) -> Result<Finished> {
        self.close_table(out)?;
        let l1_entries = self.geometry.l1_entries_for(size);
        self.l1.resize(usize::try_from(l1_entries).unwrap_or(usize::MAX), 0);
        let l1 = match l1_entries {
            0 => HostOffset::new(0),
            _ => self.place_table(l1_entries * 8)?,
        };
        self.push_padded(l1, &self.l1, out);
        let mut clusters = ClusterCount::new(0);
        // Blocks for the table's own clusters may make it longer.
        loop {
            let bytes = self.counts.places().len() as u64 * 8;
            let needed = self.geometry.clusters_for(bytes);
            if needed <= clusters {
                break;
            }
            clusters = needed;
            self.counts.ensure(clusters)?;
        }
        let reftable = self.geometry.offset_of(self.counts.allocate(clusters)?);
        let places: Vec<u64> = self.counts.places().iter().map(|at| at.get()).collect();
        self.push_padded(reftable, &places, out);
        self.counts.take_all(out);
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let header = Roots {
            l1,
            l1_entries: count(l1_entries),
            reftable,
            reftable_clusters: count(clusters.get()),
            autoclear: 0,
        };
        Ok(Finished { header, file_bytes: self.geometry.offset_of(self.counts.end()).get() })
    }

    /// A table in whole clusters: a device may hold anything behind it.
    fn push_padded(&self, at: HostOffset, entries: &[u64], out: &mut Vec<Block>) {
        let mut bytes = encode_entries(entries);
        bytes.resize(bytes.len().next_multiple_of(self.geometry.cluster_len()), 0);
        if !bytes.is_empty() {
            out.push(Block { at, bytes });
        }
    }
}
