//! Where compressed data go: as many extents into a cluster as there is space and refcounts for.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::format::l2::{CompressedExtent, SECTOR_BYTES};
use crate::format::{Geometry, HostCluster, HostOffset};

/// Most clusters with free space that are remembered.
const MAX_BINS: usize = 16;

/// Finds space for compressed extents in free clusters.
pub(super) struct Packer {
    geometry: Geometry,
    /// Clusters that are free, in order.
    free: VecDeque<HostCluster>,
    /// Space in clusters that are in use already; the last one is where the next extent goes.
    bins: Vec<Range<u64>>,
    /// References to the clusters so far.
    counts: HashMap<HostCluster, u64>,
    /// The extent placed last, and where.
    last: Option<(CompressedExtent, u64)>,
    /// The cluster after the last one that was taken.
    pub(super) end: Option<HostCluster>,
}

impl Packer {
    /// A packer that may use these clusters, which are in order.
    pub(super) fn new(geometry: Geometry, free: Vec<HostCluster>) -> Self {
        let (bins, counts) = (Vec::new(), HashMap::new());
        Self { geometry, free: free.into(), bins, counts, last: None, end: None }
    }

    /// From here on these clusters are the free ones, with what is left of those in use.
    pub(super) fn refill(&mut self, free: Vec<HostCluster>) {
        self.free = free.into();
    }

    /// Where bytes with so many references go, wherever in a sector; they take it in their order.
    pub(super) fn place_bytes(&mut self, bytes: u64, references: u64) -> Option<HostOffset> {
        self.begin();
        let extent = CompressedExtent { offset: HostOffset::new(0), bytes };
        self.place(extent, references, HostCluster::new(u64::MAX))
    }

    /// The next extent does not follow the one placed last.
    pub(super) fn begin(&mut self) {
        self.last = None;
    }

    /// Where an extent with so many references goes, before `limit`, and at the same position in a
    /// sector; `None` where there is no space. Extents come in order: those that share a sector do
    /// so afterwards.
    pub(super) fn place(
        &mut self,
        extent: CompressedExtent,
        references: u64,
        limit: HostCluster,
    ) -> Option<HostOffset> {
        let at = self.beside_last(extent, references, limit).or_else(|| {
            let bins = (0..self.bins.len()).rev();
            bins.into_iter().find_map(|bin| self.in_bin(bin, extent, references, limit))
        });
        let at = at.or_else(|| self.in_new(extent, references, limit))?;
        let clusters = self.touched(at, extent.bytes);
        for cluster in clusters {
            *self.counts.entry(HostCluster::new(cluster)).or_default() += references;
        }
        self.last = Some((extent, at));
        Some(HostOffset::new(at))
    }

    fn touched(&self, at: u64, bytes: u64) -> Range<u64> {
        let bits = self.geometry.cluster_bits();
        at >> bits..((at + bytes - 1) >> bits) + 1
    }

    /// Whether the refcounts of all clusters have space for these references.
    fn fits(&self, at: u64, bytes: u64, references: u64, limit: HostCluster) -> bool {
        let most = self.geometry.refcount_max();
        self.touched(at, bytes).all(|cluster| {
            let count = self.counts.get(&HostCluster::new(cluster)).copied().unwrap_or(0);
            cluster < limit.get() && count.checked_add(references).is_some_and(|sum| sum <= most)
        })
    }

    /// After the extent placed last, if the two share a sector now.
    fn beside_last(
        &mut self,
        extent: CompressedExtent,
        references: u64,
        limit: HostCluster,
    ) -> Option<u64> {
        let (last, at) = self.last?;
        let distance = extent.offset.get().checked_sub(last.offset.get())?;
        if distance >= last.bytes {
            return None;
        }
        let at = at + distance;
        let bin = self.bins.len().checked_sub(1)?;
        self.take(bin, at, extent.bytes, references, limit).then_some(at)
    }

    fn in_bin(
        &mut self,
        bin: usize,
        extent: CompressedExtent,
        references: u64,
        limit: HostCluster,
    ) -> Option<u64> {
        let at = self.bins[bin].start + extent.offset.get() % SECTOR_BYTES;
        if !self.take(bin, at, extent.bytes, references, limit) {
            return None;
        }
        // Whatever shares a sector with this extent goes on here.
        let bin = self.bins.remove(bin);
        self.bins.push(bin);
        Some(at)
    }

    /// A cluster that was free, with the one after it where that is needed.
    fn in_new(
        &mut self,
        extent: CompressedExtent,
        references: u64,
        limit: HostCluster,
    ) -> Option<u64> {
        let bits = self.geometry.cluster_bits();
        let within = extent.offset.get() % SECTOR_BYTES;
        let needed = (within + extent.bytes).div_ceil(1 << bits);
        let follow = |at: usize| {
            let first = self.free[at].get();
            (1..needed).all(|n| {
                let next = usize::try_from(n).ok().and_then(|n| self.free.get(at + n));
                next.is_some_and(|next| next.get() == first + n)
            })
        };
        let at = (0..self.free.len()).find(|&at| follow(at))?;
        let first = self.free[at].get() << bits;
        if !self.fits(first + within, extent.bytes, references, limit) {
            return None;
        }
        // Isolated clusters before it are left to others.
        self.free.drain(..at);
        if self.bins.len() >= MAX_BINS {
            let smallest = (0..self.bins.len()).min_by_key(|&n| {
                let bin = &self.bins[n];
                bin.end - bin.start
            });
            smallest.map(|n| self.bins.remove(n));
        }
        self.bins.push(first..first);
        let bin = self.bins.len() - 1;
        let taken = self.take(bin, first + within, extent.bytes, references, limit);
        debug_assert!(taken, "the clusters were looked at");
        taken.then_some(first + within)
    }

    /// Takes space of a bin, and for the last one also of the free clusters that follow.
    fn take(
        &mut self,
        bin: usize,
        at: u64,
        bytes: u64,
        references: u64,
        limit: HostCluster,
    ) -> bool {
        if !self.fits(at, bytes, references, limit) {
            return false;
        }
        let size = self.geometry.cluster_bytes();
        let (end, mut limit_of_bin) = (at + bytes, self.bins[bin].end);
        let mut extra = 0;
        while limit_of_bin < end {
            let next = self.free.get(extra).filter(|next| next.get() * size == limit_of_bin);
            if next.is_none() {
                return false;
            }
            limit_of_bin += size;
            extra += 1;
        }
        for cluster in self.free.drain(..extra) {
            self.end = Some(cluster.next());
        }
        self.bins[bin] = end.max(self.bins[bin].start)..limit_of_bin;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, bytes: u64) -> CompressedExtent {
        CompressedExtent { offset: HostOffset::new(offset), bytes }
    }

    fn packer(refcount_order: u32, free: &[u64]) -> Packer {
        let geometry = Geometry::new(12, refcount_order, false, 0).unwrap();
        Packer::new(geometry, free.iter().copied().map(HostCluster::new).collect())
    }

    const LIMIT: HostCluster = HostCluster::new(1000);

    fn place(packer: &mut Packer, offset: u64, bytes: u64) -> Option<u64> {
        packer.place(extent(offset, bytes), 1, LIMIT).map(HostOffset::get)
    }

    #[test]
    fn extents_that_share_a_sector_do_so_afterwards() {
        let mut packer = packer(4, &[2, 3]);
        // The first ends in the sector in which the second begins.
        assert_eq!(place(&mut packer, 0x5_0010, 0x3f0), Some(0x2010));
        assert_eq!(place(&mut packer, 0x5_0390, 0x270), Some(0x2390));
        // A gap is closed, to the sector.
        assert_eq!(place(&mut packer, 0x5_1004, 0x1fc), Some(0x2604));
        assert_eq!(packer.end, Some(HostCluster::new(3)));
    }

    #[test]
    fn an_extent_reaches_only_into_a_cluster_that_follows() {
        let mut packer = packer(4, &[2, 5, 6]);
        assert_eq!(place(&mut packer, 0x5_0000, 0xc00), Some(0x2000));
        assert_eq!(place(&mut packer, 0x5_2000, 0xc00), Some(0x5000));
        assert_eq!(place(&mut packer, 0x5_4000, 0xc00), Some(0x5c00));
        // The rest of the first cluster is not forgotten.
        assert_eq!(place(&mut packer, 0x5_6000, 0x400), Some(0x6800));
        assert_eq!(place(&mut packer, 0x5_8000, 0x400), Some(0x6c00));
        assert_eq!(place(&mut packer, 0x5_a000, 0x400), Some(0x2c00));
        assert_eq!(place(&mut packer, 0x5_c000, 0x400), None);
    }

    #[test]
    fn no_cluster_gets_more_references_than_its_refcount_holds() {
        let mut packer = packer(0, &[2, 3, 4]);
        assert_eq!(place(&mut packer, 0x5_0000, 0x200), Some(0x2000));
        assert_eq!(place(&mut packer, 0x5_0200, 0x200), Some(0x3000));
        assert_eq!(packer.place(extent(0x6_0000, 0x200), 2, LIMIT), None);
    }

    #[test]
    fn nothing_is_placed_at_or_after_the_limit() {
        let mut packer = packer(4, &[7, 9]);
        let limit = HostCluster::new(8);
        assert_eq!(
            packer.place(extent(0x8_0000, 0x800), 1, limit).map(HostOffset::get),
            Some(0x7000)
        );
        assert_eq!(packer.place(extent(0x8_0800, 0x1000), 1, limit), None);
    }
}
