//! Where everything goes in a new qcow2 image that is written in the order of its disk.
//!
//! Data goes where it comes, an L2 table after the data that it maps, L1 table and refcount table
//! to the end. Where clusters are compressed the tables come first, as far as it is known how long
//! they are, so that the file ends with the last compressed byte.

use std::ops::Range;

use crate::create::Roots;
use crate::error::{Error, Result};
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::{COMPRESSED, L2Entry, SECTOR_BYTES};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, encode_entries};

use super::counts::{Block, Counts};
use super::gaps::Gaps;

/// Most clusters that are set aside together for data that does not get smaller, so that compressed
/// data around it stays in one piece.
const MOST_ASIDE: u64 = 16;
/// Of so many clusters that did not get smaller one more is set aside for those to come.
const ASIDE_FOR: u64 = 64;

/// What a guest cluster becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::convert) enum State {
    /// Nothing: the backing file's data, or zeroes.
    Unallocated,
    /// Zeroes without a host cluster.
    Zero,
    /// Stored as it is.
    Plain {
        /// With subclusters, their bitmap.
        bitmap: u64,
        /// The 32nds of it that have data, bit by bit; the rest reads as it should without being
        /// written.
        data: u64,
    },
    /// Compressed to so many bytes.
    Packed(u32),
}

/// The roots of a finished image, and the length of its file.
#[derive(Debug, Clone, Copy)]
pub(in crate::convert) struct Finished {
    /// What the header points to.
    pub(in crate::convert) header: Roots,
    /// The length of the file.
    pub(in crate::convert) file_bytes: u64,
}

/// Where data goes, and the metadata that is known so far.
#[derive(Debug)]
pub(in crate::convert) struct Placement {
    geometry: Geometry,
    counts: Counts,
    /// Whether clusters are compressed, so that tables come first.
    compressing: bool,
    /// Free bytes of clusters that have compressed data.
    gaps: Gaps,
    /// Set aside, and not used so far.
    aside: Range<HostCluster>,
    /// Clusters that did not get smaller.
    plain: u64,
    /// Where the L1 table goes, where that is known from the start.
    l1_place: Option<HostOffset>,
    /// The same of a refcount table of one cluster.
    reftable_place: Option<HostOffset>,
    l1: Vec<u64>,
    /// The L2 table that is being filled: its index, its place if it has one already, its words.
    table: Option<(usize, Option<HostOffset>, Vec<u64>)>,
}

impl Placement {
    /// An empty image in a file that may have `limit` bytes, whose clusters are not compressed.
    pub(in crate::convert) fn new(geometry: Geometry, limit: u64) -> Result<Self> {
        let counts = Counts::new(geometry, limit)?;
        let aside = counts.end()..counts.end();
        Ok(Self {
            geometry,
            counts,
            compressing: false,
            gaps: Gaps::default(),
            aside,
            plain: 0,
            l1_place: None,
            reftable_place: None,
            l1: Vec::new(),
            table: None,
        })
    }

    /// The same for clusters that are compressed, of a disk of `size` bytes where that is known and
    /// all that there is.
    pub(in crate::convert) fn compressing(
        geometry: Geometry,
        limit: u64,
        size: Option<u64>,
    ) -> Result<Self> {
        let mut placement = Self::new(geometry, limit)?;
        placement.compressing = true;
        if let Some(size) = size {
            if has_short_reftable(&geometry, size) {
                placement.reftable_place = Some(placement.place_table(1)?);
            }
            placement.l1_place = Some(placement.place_l1(size)?);
            placement.aside = placement.counts.end()..placement.counts.end();
        }
        Ok(placement)
    }

    fn place_l1(&mut self, size: u64) -> Result<HostOffset> {
        match self.geometry.l1_entries_for(size) {
            0 => Ok(HostOffset::new(0)),
            entries => self.place_table(entries * 8),
        }
    }

    /// Space for `count` clusters that are stored as they are, in up to as many pieces as needed.
    pub(in crate::convert) fn place_plain(
        &mut self,
        mut count: u64,
    ) -> Result<Vec<Range<HostCluster>>> {
        let mut runs = Vec::new();
        self.plain += count;
        while count > 0 {
            let left = (self.aside.end - self.aside.start).get();
            if left == 0 {
                let aside = (self.plain / ASIDE_FOR).min(MOST_ASIDE);
                let more = if self.compressing { count.max(aside) } else { count };
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

    /// Space for compressed bytes: in or after the clusters of others where that is possible.
    pub(in crate::convert) fn place_compressed(&mut self, bytes: u64) -> Result<HostOffset> {
        let size = self.geometry.cluster_bytes();
        if let Some(at) = self.gaps.take(bytes) {
            return Ok(self.pack_at(at, bytes));
        }
        let last = self.counts.end();
        let is_last = |at| self.geometry.cluster_floor(at).next() == last;
        if let Some(at) = self.gaps.take_where(is_last) {
            let free = size - at.get() % size;
            let more = ClusterCount::new(bytes.saturating_sub(free).div_ceil(size));
            self.counts.ensure(more)?;
            if self.counts.end() == last {
                self.counts.allocate(more)?;
                return Ok(self.pack_at(at, bytes));
            }
            // A refcount block has come between.
            self.gaps.put(at, free);
        }
        let first = self.counts.allocate(ClusterCount::new(bytes.div_ceil(size)))?;
        let at = self.geometry.offset_of(first);
        self.leave_gap(at.saturating_add(bytes));
        Ok(at)
    }

    /// Puts compressed bytes into a cluster that has others, and those after it that are allocated
    /// for them.
    fn pack_at(&mut self, at: HostOffset, bytes: u64) -> HostOffset {
        self.counts.raise(self.geometry.cluster_floor(at), ClusterCount::new(1));
        self.leave_gap(at.saturating_add(bytes));
        at
    }

    /// The rest of the cluster from here on is free for other compressed data, as long as its
    /// refcount can take one more.
    fn leave_gap(&mut self, from: HostOffset) {
        let size = self.geometry.cluster_bytes();
        let used = from.get() % size;
        let cluster = self.geometry.cluster_floor(from);
        if used > 0 && self.counts.get(cluster) < self.geometry.refcount_max() {
            self.gaps.put(from, size - used);
        }
    }

    /// The entry of a cluster that is compressed.
    pub(in crate::convert) fn compressed_entry(
        &self,
        at: HostOffset,
        bytes: u64,
    ) -> Result<L2Entry> {
        let x = 62 - (self.geometry.cluster_bits() - 8);
        if at.get() >> x != 0 {
            let why = "compressed data cannot be this far into the file: choose larger clusters";
            return Err(Error::Refused(why.into()));
        }
        let additional = (at.get() % SECTOR_BYTES + bytes - 1) / SECTOR_BYTES;
        Ok(L2Entry::standard(COMPRESSED | additional << x | at.get()))
    }

    /// The entry of a cluster that is stored as it is.
    pub(in crate::convert) fn plain_entry(&self, at: HostOffset, bitmap: u64) -> L2Entry {
        L2Entry { bits: at.get() | COPIED, bitmap }
    }

    /// The entry of a cluster of zeroes.
    pub(in crate::convert) fn zero_entry(&self) -> L2Entry {
        L2Entry::all_zero(&self.geometry)
    }

    /// Makes sure that the L2 table of a guest cluster, which come in the order of the disk, is the
    /// one that is filled.
    pub(in crate::convert) fn enter(&mut self, cluster: u64, out: &mut Vec<Block>) -> Result<()> {
        let index = cluster / u64::from(self.geometry.l2_entries());
        let index = usize::try_from(index).expect("an L1 index fits into memory");
        if self.table.as_ref().is_some_and(|(open, _, _)| *open == index) {
            return Ok(());
        }
        self.close_table(out)?;
        let place = match self.compressing {
            true => Some(self.geometry.offset_of(self.counts.allocate(ClusterCount::new(1))?)),
            false => None,
        };
        self.table = Some((index, place, vec![0; self.geometry.cluster_len() / 8]));
        Ok(())
    }

    /// Maps a guest cluster.
    pub(in crate::convert) fn map(
        &mut self,
        cluster: u64,
        entry: L2Entry,
        out: &mut Vec<Block>,
    ) -> Result<()> {
        self.enter(cluster, out)?;
        let width = self.geometry.l2_entry_bytes() / 8;
        let at = cluster % u64::from(self.geometry.l2_entries());
        let at = usize::try_from(at).expect("an L2 index fits into memory") * width;
        if let Some((_, _, words)) = &mut self.table {
            words[at] = entry.bits;
            if width == 2 {
                words[at + 1] = entry.bitmap;
            }
        }
        Ok(())
    }

    fn close_table(&mut self, out: &mut Vec<Block>) -> Result<()> {
        if let Some((index, place, words)) = self.table.take() {
            let at = match place {
                Some(at) => at,
                None => self.geometry.offset_of(self.counts.allocate(ClusterCount::new(1))?),
            };
            out.push(Block { at, bytes: encode_entries(&words) });
            self.l1.resize(index, 0);
            self.l1.push(L1Entry::new(at, true).0);
        }
        Ok(())
    }

    /// The refcount blocks that are final by now.
    pub(in crate::convert) fn take_settled(&mut self, out: &mut Vec<Block>) {
        if self.counts.is_crowded() {
            // What little space is left there is not worth the memory.
            self.gaps.clear();
            self.aside.start = self.aside.end;
        }
        let mut settled = self.counts.end();
        if let Some(gap) = self.gaps.first() {
            settled = settled.min(self.geometry.cluster_floor(gap));
        }
        if self.aside.start < self.aside.end {
            settled = settled.min(self.aside.start);
        }
        self.counts.take_settled(settled, out);
    }

    /// Space for a structure of `bytes` bytes.
    pub(in crate::convert) fn place_table(&mut self, bytes: u64) -> Result<HostOffset> {
        let count = self.geometry.clusters_for(bytes);
        Ok(self.geometry.offset_of(self.counts.allocate(count)?))
    }

    /// Ends the image of a disk of `size` bytes: everything that is not written yet.
    pub(in crate::convert) fn finish(
        mut self,
        size: u64,
        out: &mut Vec<Block>,
    ) -> Result<Finished> {
        self.close_table(out)?;
        let l1_entries = self.geometry.l1_entries_for(size);
        self.l1.resize(usize::try_from(l1_entries).unwrap_or(usize::MAX), 0);
        let l1 = match self.l1_place {
            Some(place) => place,
            None => self.place_l1(size)?,
        };
        self.push_padded(l1, &self.l1, out);
        let (reftable, clusters) = match self.reftable_place {
            Some(place) => (place, ClusterCount::new(1)),
            None => self.place_reftable()?,
        };
        let places: Vec<u64> = self.counts.places().iter().map(|at| at.get()).collect();
        self.push_padded(reftable, &places, out);
        self.counts.take_all(out);
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let header = Roots {
            l1,
            l1_entries: count(l1_entries),
            reftable,
            reftable_clusters: count(clusters.get()),
            crypto: None,
            autoclear: 0,
        };
        let l1_end = l1.saturating_add(l1_entries * 8);
        Ok(Finished { header, file_bytes: self.file_bytes(l1_end) })
    }

    /// Space for the refcount table, and how many clusters it has.
    fn place_reftable(&mut self) -> Result<(HostOffset, ClusterCount)> {
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
        Ok((self.geometry.offset_of(self.counts.allocate(clusters)?), clusters))
    }

    /// The length of the file: what is set aside at its end is not needed, and where clusters are
    /// compressed the last one ends where its data does. A sector is the unit in which QEMU sees
    /// it.
    fn file_bytes(&mut self, l1_end: HostOffset) -> u64 {
        let end = self.counts.end();
        let end = if self.aside.end == end { self.aside.start } else { end };
        let is_last = |at| self.geometry.cluster_floor(at).next() == end;
        let last = self.gaps.take_where(is_last).or_else(|| {
            let is_l1 = self.compressing && l1_end.get() % self.geometry.cluster_bytes() > 0;
            Some(l1_end).filter(|&l1_end| is_l1 && is_last(l1_end))
        });
        match last {
            Some(at) => at.get().next_multiple_of(SECTOR_BYTES),
            None => self.geometry.offset_of(end).get(),
        }
    }

    /// A table in whole clusters: a device may hold anything after it.
    fn push_padded(&self, at: HostOffset, entries: &[u64], out: &mut Vec<Block>) {
        let mut bytes = encode_entries(entries);
        bytes.resize(bytes.len().next_multiple_of(self.geometry.cluster_len()), 0);
        if !bytes.is_empty() {
            out.push(Block { at, bytes });
        }
    }
}

/// Whether the refcount table of an image with a disk of this size surely fits into one cluster:
/// each guest cluster takes one cluster at most.
fn has_short_reftable(geometry: &Geometry, size: u64) -> bool {
    let geometry = geometry.with_virtual_size(size);
    let l1_entries = geometry.l1_entries_for(size);
    let l1 = geometry.clusters_for(l1_entries * 8).get();
    let most = geometry.guest_clusters().get() + l1_entries + l1 + MOST_ASIDE + 2;
    // Each block describes itself, too.
    let blocks = most.div_ceil(geometry.refblock_entries() - 1);
    geometry.clusters_for(blocks * 8).get() <= 1
}
