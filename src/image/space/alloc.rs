//! Finding free clusters, and giving back what was never used.

use crate::error::{Error, Result};
use crate::format::refcount::get_refcount;
use crate::format::{ClusterCount, HostCluster, HostOffset};

use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::run::ClusterRun;

/// Host offsets in mappings have 56 bits.
const MAX_HOST_BYTES: u64 = 1 << 56;

/// Clusters that are counted but that nothing refers to yet. Ends in [`Allocation::commit`], once
/// something refers to them, or in [`Allocation::release`]; being dropped otherwise is a bug, as
/// that leaks.
#[must_use]
#[derive(Debug)]
pub(in crate::image) struct Allocation {
    run: ClusterRun,
    settled: bool,
}

impl Allocation {
    /// The clusters.
    pub(in crate::image) const fn run(&self) -> ClusterRun {
        self.run
    }

    /// Something refers to them now.
    pub(in crate::image) fn commit(mut self) -> ClusterRun {
        self.settled = true;
        self.run
    }

    /// Nothing will refer to them: they are free again.
    pub(in crate::image) fn release(mut self, meta: &mut Meta) -> Result<()> {
        self.settled = true;
        meta.lower_unreferenced(self.run, 1)
    }

    /// Commits after a success and releases after a failure, whose error is passed on.
    pub(in crate::image) fn settle<T>(self, meta: &mut Meta, outcome: Result<T>) -> Result<T> {
        match outcome {
            Ok(value) => {
                self.commit();
                Ok(value)
            }
            Err(error) => {
                // Failing to give back leaks, at worst; the first error is the one to report.
                let _ = self.release(meta);
                Err(error)
            }
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        debug_assert!(
            self.settled || std::thread::panicking(),
            "an allocation is committed or released"
        );
    }
}

/// Where compressed data goes: bytes in one or two clusters, each counted once more for it.
#[must_use]
pub(in crate::image) struct PackedAllocation {
    /// Host offset of the first byte.
    pub(in crate::image) at: HostOffset,
    /// The clusters counted for it.
    pub(in crate::image) clusters: Allocation,
}

impl Meta {
    /// Whether a run is within what the file can hold and mappings can address.
    pub(in crate::image) fn fits(&self, run: ClusterRun) -> bool {
        let limit = self.ordering.disk.limit().min(MAX_HOST_BYTES);
        run.end().get() <= limit >> self.geometry.cluster_bits()
    }

    /// Allocates up to `most` neighbouring clusters, at least one.
    pub(in crate::image) fn allocate(&mut self, most: ClusterCount) -> Result<Allocation> {
        self.allocate_with(most, false)
    }

    /// Allocates exactly `count` neighbouring clusters.
    pub(in crate::image) fn allocate_contiguous(
        &mut self,
        count: ClusterCount,
    ) -> Result<Allocation> {
        self.allocate_with(count, true)
    }

    fn allocate_with(&mut self, most: ClusterCount, all: bool) -> Result<Allocation> {
        debug_assert!(most.get() > 0, "an allocation of nothing");
        let found = match self.find_free(self.search_start, most, all) {
            Err(Error::NoRoom { .. }) if !self.pending.is_empty() => {
                self.free_pending()?;
                self.find_free(self.search_start, most, all)
            }
            found => found,
        };
        let run = found?;
        self.ordering.disk.note_fresh(run);
        self.raise(run, 1)?;
        if !all || most.get() == 1 {
            self.search_start = self.search_start.max(run.end());
        }
        Ok(Allocation { run, settled: false })
    }

    /// Allocates up to `most` clusters from `first` on, as far as they are free; `None` where the
    /// first is not.
    pub(in crate::image) fn allocate_at(
        &mut self,
        first: HostCluster,
        most: ClusterCount,
    ) -> Result<Option<Allocation>> {
        let mut count = ClusterCount::default();
        while count < most {
            let cluster = first + count;
            let run = ClusterRun::one(cluster);
            if !self.fits(run) || !self.is_free(cluster)? {
                break;
            }
            count += run.count;
        }
        if count.get() == 0 {
            return Ok(None);
        }
        let run = ClusterRun::new(first, count);
        self.ordering.disk.note_fresh(run);
        self.raise(run, 1)?;
        Ok(Some(Allocation { run, settled: false }))
    }

    /// Allocates space for `bytes` bytes of compressed data, at most a cluster: after the data
    /// compressed last where that leaves space, if need be with the cluster that follows, otherwise
    /// in a new cluster.
    pub(in crate::image) fn allocate_packed(&mut self, bytes: u64) -> Result<PackedAllocation> {
        let size = self.geometry.cluster_bytes();
        debug_assert!(0 < bytes && bytes <= size, "compressed data fits into a cluster");
        if let Some(at) = self.packed_end {
            if let Some(packed) = self.continue_packing(at, bytes)? {
                return Ok(packed);
            }
        }
        let clusters = self.allocate(ClusterCount::new(1))?;
        let at = self.geometry.offset_of(clusters.run().first);
        self.packed_end = (bytes < size).then(|| at.saturating_add(bytes));
        Ok(PackedAllocation { at, clusters })
    }

    fn continue_packing(&mut self, at: HostOffset, bytes: u64) -> Result<Option<PackedAllocation>> {
        let size = self.geometry.cluster_bytes();
        let cluster = self.geometry.cluster_floor(at);
        let rest = size - at.get() % size;
        // One more sharer must fit into the refcount; else a new cluster begins.
        let count = self.refcount(cluster)?;
        if count == 0 || count >= self.geometry.refcount_max() {
            return Ok(None);
        }
        let shared = ClusterRun::one(cluster);
        if bytes > rest {
            let Some(next) = self.allocate_at(cluster.next(), ClusterCount::new(1))? else {
                return Ok(None);
            };
            let outcome = self.raise(shared, 1);
            next.settle(self, outcome)?;
            let clusters = ClusterRun::new(cluster, ClusterCount::new(2));
            self.packed_end = Some(at.saturating_add(bytes));
            return Ok(Some(PackedAllocation {
                at,
                clusters: Allocation { run: clusters, settled: false },
            }));
        }
        self.raise(shared, 1)?;
        self.packed_end = (bytes < rest).then(|| at.saturating_add(bytes));
        Ok(Some(PackedAllocation { at, clusters: Allocation { run: shared, settled: false } }))
    }

    /// Whether nothing refers to a cluster, and no metadata is in it.
    pub(in crate::image) fn is_free(&mut self, cluster: HostCluster) -> Result<bool> {
        Ok(!self.ordering.disk.regions.is_owned(cluster) && self.refcount(cluster)? == 0)
    }

    /// The first free run at or after `from`: exactly `want` clusters, or (not `all`) 1 to `want`.
    pub(in crate::image) fn find_free(
        &mut self,
        from: HostCluster,
        want: ClusterCount,
        all: bool,
    ) -> Result<ClusterRun> {
        let mut run = ClusterRun::new(from, ClusterCount::default());
        let mut at = from;
        while run.count < want {
            let free = self.next_uncounted(at)?;
            if free != at && !run.is_empty() {
                if !all {
                    return Ok(run);
                }
                run.count = ClusterCount::default();
            }
            if !self.fits(ClusterRun::one(free)) {
                if run.is_empty() || all {
                    let needed = self.geometry.bytes_of(want);
                    return Err(Error::NoRoom { needed, purpose: "new clusters".into() });
                }
                return Ok(run);
            }
            if run.is_empty() {
                run.first = free;
            }
            run.count += ClusterCount::new(1);
            at = free.next();
        }
        Ok(run)
    }

    /// The first cluster at or after `from` that has no references and holds no metadata.
    fn next_uncounted(&mut self, from: HostCluster) -> Result<HostCluster> {
        let order = self.geometry.refcount_order();
        let mut at = from;
        loop {
            let (index, entry) = self.geometry.refcount_place(at);
            let base = self.geometry.first_cluster_of_block(index);
            let entries = self.geometry.refblock_entries();
            let free = match self.refblock(index)? {
                None => Some(u64::from(entry.get())),
                Some(block) => {
                    let block = self.ordering.glance(Side::Refcounts, block)?;
                    (u64::from(entry.get())..entries).find(|&n| {
                        usize::try_from(n).is_ok_and(|n| get_refcount(block, order, n) == 0)
                    })
                }
            };
            let Some(free) = free else {
                at = base + ClusterCount::new(entries);
                continue;
            };
            at = base + ClusterCount::new(free);
            if !self.ordering.disk.regions.is_owned(at) && self.is_usable(at)? {
                return Ok(at);
            }
            at = at.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::{open, small};

    fn count(count: u64) -> ClusterCount {
        ClusterCount::new(count)
    }

    #[test]
    fn space_that_was_freed_is_found_again_and_a_long_run_skips_short_holes() {
        let image = open(small(4));
        let mut meta = image.meta().unwrap();
        let first = meta.allocate(count(10)).unwrap().commit();
        assert_eq!((first.first, first.count), (HostCluster::new(4), count(10)));
        meta.lower(ClusterRun::new(HostCluster::new(6), count(2)), 1).unwrap();
        let long = meta.allocate_contiguous(count(3)).unwrap().commit();
        assert_eq!(long.first, HostCluster::new(14));
        let short = meta.allocate(count(3)).unwrap().commit();
        assert_eq!((short.first, short.count), (HostCluster::new(6), count(2)));
    }

    #[test]
    fn a_run_is_extended_as_far_as_there_is_space() {
        let image = open(small(4));
        let mut meta = image.meta().unwrap();
        let blocker = meta.allocate_at(HostCluster::new(20), count(1)).unwrap().unwrap();
        let run = meta.allocate_at(HostCluster::new(17), count(8)).unwrap().unwrap();
        assert_eq!(run.run().count, count(3));
        assert!(meta.allocate_at(HostCluster::new(3), count(1)).unwrap().is_none());
        run.release(&mut meta).unwrap();
        blocker.release(&mut meta).unwrap();
        assert_eq!(
            meta.refcounts(ClusterRun::new(HostCluster::new(17), count(4))).unwrap(),
            [0; 4]
        );
    }

    #[test]
    fn compressed_data_shares_clusters_and_each_sharer_counts() {
        let image = open(small(4));
        let mut meta = image.meta().unwrap();
        let mut places = Vec::new();
        for bytes in [200, 200, 200, 300] {
            let packed = meta.allocate_packed(bytes).unwrap();
            places.push(packed.at.get());
            packed.clusters.commit();
        }
        // The third reaches into the next cluster.
        assert_eq!(places, [2048, 2248, 2448, 2648]);
        assert_eq!(meta.refcount(HostCluster::new(4)).unwrap(), 3);
        assert_eq!(meta.refcount(HostCluster::new(5)).unwrap(), 2);
    }

    #[test]
    fn counts_of_one_bit_let_nothing_share_a_cluster() {
        let image = open(small(0));
        let mut meta = image.meta().unwrap();
        for cluster in [4, 5] {
            let packed = meta.allocate_packed(100).unwrap();
            assert_eq!(packed.at.get(), cluster * 512);
            packed.clusters.commit();
        }
    }

    #[test]
    fn clusters_that_hold_metadata_are_never_handed_out_whatever_is_counted() {
        let file = small(4);
        crate::storage::Storage::write_at(file.as_ref(), 1024, &[0; 8]).unwrap();
        let image = open(file);
        let mut meta = image.meta().unwrap();
        assert_eq!(meta.allocate(count(1)).unwrap().commit().first, HostCluster::new(4));
    }
}
