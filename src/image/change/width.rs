//! Refcounts of another width: all blocks and their table are built beside the old ones, and
//! one write to the header switches to them.
//!
//! The new structure counts itself, and not the old one: with the switch the clusters of the old
//! structure are free. Before it a crash leaks the new ones.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::refcount::{MAX_REFTABLE_BYTES, counted, set_refcount};
use crate::format::{
    ClusterCount, Geometry, HostCluster, HostOffset, ReftableIndex, encode_entries,
};

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;
use crate::image::space::alloc::Allocation;

/// Refcounts that are converted at once.
const PIECE: u64 = 1 << 16;

impl Image {
    /// Gives refcounts a width of 2^`order` bits. Fails with [`Error::Refused`], and writes
    /// nothing, if a refcount is too high for it.
    pub(crate) fn set_refcount_order(&mut self, order: u32) -> Result<()> {
        let meta = self.meta_mut()?;
        meta.set_refcount_order(order)?;
        self.geometry = meta.geometry;
        Ok(())
    }
}

impl Meta {
    fn set_refcount_order(&mut self, order: u32) -> Result<()> {
        let old = self.geometry;
        let new = old.with_refcount_order(order);
        if new == old {
            return Ok(());
        }
        self.prepare_write()?;
        self.flush(true)?;
        self.require_fitting(&new)?;
        self.require_not_cancelled()?;
        let (allocation, blocks) = self.space_for_refcounts(&new)?;
        let run = allocation.run();
        let built = self.build_refcounts(&new, run, &blocks);
        let (root, old_runs) = allocation.settle(self, built)?;
        let table = ClusterCount::new(run.count.get() - blocks.len() as u64);
        self.ordering.disk.patch_header(&[
            (HeaderField::ReftableOffset, root.offset().get()),
            (HeaderField::ReftableClusters, table.get()),
            (HeaderField::RefcountOrder, u64::from(order)),
        ])?;
        self.ordering.disk.sync()?;
        self.adopt_refcounts(new, root, ClusterRun::new(run.first, table), run, &old_runs);
        self.flush(true)
    }

    /// An error where a refcount does not fit into the new width.
    fn require_fitting(&mut self, new: &Geometry) -> Result<()> {
        let most = new.refcount_max();
        let mut over = None;
        self.each_counted(|cluster, count| {
            if count > most && over.is_none() {
                over = Some((cluster, count));
            }
        })?;
        let Some((cluster, count)) = over else { return Ok(()) };
        // qemu-img's words.
        Err(Error::Refused(format!(
            "Cannot decrease refcount entry width to {} bits: Cluster at offset {:#x} has a \
             refcount of {count}",
            new.refcount_bits(),
            self.geometry.offset_of(cluster).get()
        )))
    }

    /// Hands out every cluster in use with its refcount, in the order of the refcount table.
    fn each_counted(&mut self, mut take: impl FnMut(HostCluster, u64)) -> Result<()> {
        let blocks = self.ordering.root(Side::Refcounts).entries().len() as u64;
        for index in (0..blocks).map(ReftableIndex::new) {
            let Some(at) = self.refblock(index)? else { continue };
            let (order, entries) =
                (self.geometry.refcount_order(), 0..self.geometry.refblock_len());
            let base = self.geometry.first_cluster_of_block(index);
            let block = self.ordering.glance(Side::Refcounts, at)?;
            for (n, count) in counted(block, order, entries) {
                take(base + ClusterCount::new(n as u64), count);
            }
        }
        Ok(())
    }

    /// Allocates neighbouring clusters for the new table and after it the new blocks; returns them
    /// with the indexes of these blocks, which count what is allocated too.
    fn space_for_refcounts(&mut self, new: &Geometry) -> Result<(Allocation, Vec<ReftableIndex>)> {
        let mut clusters = ClusterCount::new(2);
        loop {
            let allocation = self.allocate_contiguous(clusters)?;
            let mut blocks = BTreeSet::new();
            self.each_counted(|cluster, _| {
                blocks.insert(new.refcount_place(cluster).0.get());
            })?;
            let entries = blocks.last().map_or(0, |last| last + 1);
            if entries * 8 > MAX_REFTABLE_BYTES {
                let why = "the refcount table would be over the limit of 8 MiB";
                return allocation.settle(self, Err(Error::Refused(why.into())));
            }
            let needed = new.clusters_for(entries * 8) + ClusterCount::new(blocks.len() as u64);
            if needed <= clusters {
                let blocks = blocks.into_iter().map(ReftableIndex::new).collect();
                return Ok((allocation, blocks));
            }
            allocation.release(self)?;
            clusters = needed;
        }
    }

    /// The clusters of the present refcount table and blocks.
    fn refcount_structures(&self) -> Result<Vec<(ClusterRun, Owner)>> {
        let root = self.ordering.root(Side::Refcounts);
        let entries = root.entries().len() as u64;
        let table = ClusterRun::of(&self.geometry, root.offset(), entries * 8);
        let mut runs = vec![(table, Owner::Reftable)];
        for index in (0..entries).map(ReftableIndex::new) {
            if let Some(at) = self.refblock(index)? {
                let run = ClusterRun::one(self.geometry.cluster_floor(at));
                runs.push((run, Owner::Refblock));
            }
        }
        Ok(runs)
    }

    /// Writes the new table and blocks into `run`, and brings them to stable storage.
    fn build_refcounts(
        &mut self,
        new: &Geometry,
        run: ClusterRun,
        blocks: &[ReftableIndex],
    ) -> Result<(RootTable, Vec<(ClusterRun, Owner)>)> {
        self.flush(true)?;
        let old_runs = self.refcount_structures()?;
        let table = ClusterCount::new(run.count.get() - blocks.len() as u64);
        let entries = new.bytes_of(table) / 8;
        let mut entries = vec![0; usize::try_from(entries).unwrap_or(usize::MAX)];
        for (n, &index) in blocks.iter().enumerate() {
            self.require_not_cancelled()?;
            let at = new.offset_of(run.first + table + ClusterCount::new(n as u64));
            let bytes = self.converted_block(new, index, &old_runs)?;
            self.write_structure(Owner::Refblock, at, &bytes)?;
            entries[usize::try_from(index.get()).unwrap_or(usize::MAX)] = at.get();
        }
        let at = new.offset_of(run.first);
        self.write_structure(Owner::Reftable, at, &encode_entries(&entries))?;
        self.ordering.disk.sync()?;
        Ok((RootTable::new(at, entries), old_runs))
    }

    fn write_structure(&mut self, owner: Owner, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.ordering.disk.write_unreferenced(owner, at, bytes, "refcounts of another width")
    }

    /// A block of the new width with the present refcounts, without those of `left_out`.
    fn converted_block(
        &mut self,
        new: &Geometry,
        index: ReftableIndex,
        left_out: &[(ClusterRun, Owner)],
    ) -> Result<Vec<u8>> {
        let mut block = vec![0; new.cluster_len()];
        let order = new.refcount_order();
        let (first, entries) = (new.first_cluster_of_block(index), new.refblock_entries());
        let mut done = 0;
        while done < entries {
            let count = ClusterCount::new(PIECE.min(entries - done));
            let piece = ClusterRun::new(first + ClusterCount::new(done), count);
            for (n, refcount) in (done..).zip(self.refcounts(piece)?) {
                if refcount > 0 {
                    set_refcount(&mut block, order, usize::try_from(n).unwrap_or(0), refcount);
                }
            }
            done += count.get();
        }
        for cluster in left_out.iter().flat_map(|(run, _)| run.clusters()) {
            let (block_of, entry) = new.refcount_place(cluster);
            if block_of == index {
                set_refcount(&mut block, order, entry.get() as usize, 0);
            }
        }
        Ok(block)
    }

    /// The header points to the new structure: so does everything in memory.
    fn adopt_refcounts(
        &mut self,
        new: Geometry,
        root: RootTable,
        table: ClusterRun,
        whole: ClusterRun,
        old_runs: &[(ClusterRun, Owner)],
    ) {
        let blocks = ClusterRun::new(table.end(), whole.end() - table.end());
        let regions = &mut self.ordering.disk.regions;
        for &(run, owner) in old_runs {
            regions.remove(run, owner);
        }
        regions.add(table, Owner::Reftable);
        regions.add(blocks, Owner::Refblock);
        let l1 = self.ordering.root(Side::Mappings).clone();
        self.ordering.reset(l1, root);
        self.geometry = new;
        self.ordering.disk.geometry = new;
        self.search_start = HostCluster::new(0);
        self.discarded.extend(old_runs.iter().map(|&(run, _)| run));
    }
}
