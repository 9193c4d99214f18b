//! The refcounts of an image that is being written from its beginning to its end.
//!
//! Clusters are handed out in order, refcount blocks among them. A block is written
//! once nothing in its range can change any more, so that only a few are in memory.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::format::refcount::{MAX_REFTABLE_BYTES, get_refcount, set_refcount};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset};

/// Blocks that may stay open after the one that is being filled.
const MOST_OPEN: usize = 4;
/// Host offsets in mappings have 56 bits.
const MAX_HOST_BYTES: u64 = 1 << 56;

/// Metadata on its way to the file.
#[derive(Debug)]
pub(in crate::convert) struct Block {
    /// Where it goes.
    pub(in crate::convert) at: HostOffset,
    /// Its bytes.
    pub(in crate::convert) bytes: Vec<u8>,
}

/// Which clusters are in use.
#[derive(Debug)]
pub(in crate::convert) struct Counts {
    geometry: Geometry,
    limit: u64,
    next: HostCluster,
    /// The position of each refcount block.
    places: Vec<HostOffset>,
    /// Blocks that are not yet written; the first is that of this index.
    open: VecDeque<Vec<u8>>,
    first_open: usize,
}

impl Counts {
    /// A file with its header cluster; it may have `limit` bytes.
    pub(in crate::convert) fn new(geometry: Geometry, limit: u64) -> Result<Self> {
        let mut counts = Self {
            geometry,
            limit: limit.min(MAX_HOST_BYTES) >> geometry.cluster_bits(),
            next: HostCluster::new(0),
            places: Vec::new(),
            open: VecDeque::new(),
            first_open: 0,
        };
        counts.next = HostCluster::new(1);
        counts.ensure(ClusterCount::new(0))?;
        counts.raise(HostCluster::new(0), ClusterCount::new(1));
        Ok(counts)
    }

    /// The cluster after the last one in use.
    pub(in crate::convert) const fn end(&self) -> HostCluster {
        self.next
    }

    /// The positions of the refcount blocks, in order.
    pub(in crate::convert) fn places(&self) -> &[HostOffset] {
        &self.places
    }

    /// Neighbouring clusters that are counted once.
    pub(in crate::convert) fn allocate(&mut self, count: ClusterCount) -> Result<HostCluster> {
        let first = self.reserve(count)?;
        self.raise(first, count);
        Ok(first)
    }

    /// Neighbouring clusters that are not counted yet.
    pub(in crate::convert) fn reserve(&mut self, count: ClusterCount) -> Result<HostCluster> {
        self.ensure(count)?;
        let first = self.next;
        self.next = first + count;
        Ok(first)
    }

    /// Makes sure that there are blocks for what is in use and `count` clusters more.
    pub(in crate::convert) fn ensure(&mut self, count: ClusterCount) -> Result<()> {
        let per_block = self.geometry.refblock_entries();
        loop {
            let end = self.next + count;
            if end.get() > self.limit {
                let needed = self.geometry.bytes_of(count);
                return Err(Error::NoRoom { needed, purpose: "the new image".into() });
            }
            if end.get() <= self.places.len() as u64 * per_block {
                return Ok(());
            }
            if self.places.len() as u64 * 8 >= MAX_REFTABLE_BYTES.max(self.geometry.cluster_bytes())
            {
                let why = "the refcount table would be over QEMU's limit: choose larger clusters";
                return Err(Error::Refused(why.into()));
            }
            let own = self.next;
            self.next = own.next();
            self.places.push(self.geometry.offset_of(own));
            self.open.push_back(vec![0; self.geometry.cluster_len()]);
            self.raise(own, ClusterCount::new(1));
        }
    }

    /// One more reference to each of these clusters.
    pub(in crate::convert) fn raise(&mut self, first: HostCluster, count: ClusterCount) {
        let order = self.geometry.refcount_order();
        for n in 0..count.get() {
            let (block, index) = self.place(first + ClusterCount::new(n));
            let bytes = &mut self.open[block];
            let old = get_refcount(bytes, order, index);
            set_refcount(bytes, order, index, old + 1);
        }
    }

    /// How often a cluster is referenced.
    pub(in crate::convert) fn get(&self, cluster: HostCluster) -> u64 {
        let (block, index) = self.place(cluster);
        get_refcount(&self.open[block], self.geometry.refcount_order(), index)
    }

    fn place(&self, cluster: HostCluster) -> (usize, usize) {
        let (block, index) = self.geometry.refcount_place(cluster);
        let block = usize::try_from(block.get()).expect("a block that is open");
        (block - self.first_open, index.get() as usize)
    }

    /// Whether so many blocks wait for a distant cluster that it should be given up.
    pub(in crate::convert) fn is_crowded(&self) -> bool {
        self.open.len() > MOST_OPEN
    }

    /// The blocks in whose range nothing changes any more: no cluster before `settled` does.
    pub(in crate::convert) fn take_settled(&mut self, settled: HostCluster, out: &mut Vec<Block>) {
        let (block, _) = self.geometry.refcount_place(settled);
        while self.open.len() > 1 && (self.first_open as u64) < block.get() {
            self.take_first(out);
        }
    }

    /// All blocks that are left.
    pub(in crate::convert) fn take_all(&mut self, out: &mut Vec<Block>) {
        while !self.open.is_empty() {
            self.take_first(out);
        }
    }

    fn take_first(&mut self, out: &mut Vec<Block>) {
        if let Some(bytes) = self.open.pop_front() {
            out.push(Block { at: self.places[self.first_open], bytes });
            self.first_open += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cluster_in_use_is_counted_at_every_width() {
        for (bits, order) in [(9, 0), (9, 4), (9, 6), (12, 4), (16, 3), (16, 6)] {
            let geometry = Geometry::new(bits, order, false, 0).unwrap();
            let mut counts = Counts::new(geometry, u64::MAX).unwrap();
            let mut blocks = Vec::new();
            let mut used = vec![HostCluster::new(0)];
            for n in 1..200 {
                let first = counts.allocate(ClusterCount::new(n)).unwrap();
                used.extend((0..n).map(|k| first + ClusterCount::new(k)));
                let end = counts.end();
                counts.take_settled(end, &mut blocks);
            }
            counts.take_all(&mut blocks);
            used.extend(counts.places().iter().map(|&at| geometry.cluster_floor(at)));
            assert_eq!(blocks.len(), counts.places().len());
            used.sort_unstable();
            let all: Vec<_> = (0..counts.end().get()).map(HostCluster::new).collect();
            assert_eq!(used, all);
            for cluster in used {
                let (block, index) = geometry.refcount_place(cluster);
                let bytes = &blocks[block.get() as usize].bytes;
                assert_eq!(get_refcount(bytes, order, index.get() as usize), 1);
            }
        }
    }

    #[test]
    fn a_device_that_is_full_is_reported_before_anything_is_allocated() {
        let geometry = Geometry::new(16, 4, false, 0).unwrap();
        let mut counts = Counts::new(geometry, 10 << 16).unwrap();
        let free = 10 - counts.end().get();
        assert!(counts.allocate(ClusterCount::new(free + 1)).is_err());
        assert!(counts.allocate(ClusterCount::new(free)).is_ok());
    }
}
