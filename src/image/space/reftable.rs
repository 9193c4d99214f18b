//! A longer refcount table.

use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::refcount::{MAX_REFTABLE_BYTES, count_once};
use crate::format::{ClusterCount, HostCluster, ReftableIndex, encode_entries};

use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;

impl Meta {
    /// Makes the refcount table long enough for `needed` and longer by half. The new table and the
    /// blocks that describe it are after everything that the old one describes and after `avoid`.
    /// They are on stable storage before one write to the header switches to them.
    pub(in crate::image) fn grow_reftable(
        &mut self,
        needed: ReftableIndex,
        avoid: ClusterRun,
    ) -> Result<()> {
        if self.switch.is_some() {
            return self.lengthen_reftable(needed);
        }
        let old = self.ordering.root(Side::Refcounts);
        let old_entries = old.entries().len() as u64;
        let old_run = ClusterRun::of(&self.geometry, old.offset(), old_entries * 8);
        let described = self.geometry.first_cluster_of_block(ReftableIndex::new(old_entries));
        let first = avoid.end().max(described);
        let (clusters, blocks) = self.size_reftable(needed, first)?;
        let table_run = ClusterRun::new(first, clusters);
        let whole = ClusterRun::new(first, clusters + ClusterCount::new(blocks.len() as u64));
        if !self.fits(whole) {
            let needed = self.geometry.bytes_of(whole.count);
            return Err(Error::NoRoom { needed, purpose: "the refcount table".into() });
        }

        let mut entries = old.entries().to_vec();
        let table_bytes = self.geometry.bytes_of(clusters);
        entries.resize(usize::try_from(table_bytes / 8).unwrap_or(usize::MAX), 0);
        self.ordering.flush(true)?;
        for (n, &index) in blocks.iter().enumerate() {
            let at = self.geometry.offset_of(table_run.end() + ClusterCount::new(n as u64));
            let bytes = self.counted_block(index, whole);
            self.ordering.disk.write(Owner::Refblock, at, &bytes, "a refcount block")?;
            entries[usize::try_from(index.get()).unwrap_or(usize::MAX)] = at.get();
        }
        let at = self.geometry.offset_of(first);
        let bytes = encode_entries(&entries);
        self.ordering.disk.write(Owner::Reftable, at, &bytes, "the refcount table")?;
        self.ordering.disk.sync()?;
        self.ordering.disk.patch_header(&[
            (HeaderField::ReftableOffset, at.get()),
            (HeaderField::ReftableClusters, clusters.get()),
        ])?;
        self.ordering.disk.sync()?;

        let regions = &mut self.ordering.disk.regions;
        regions.remove(old_run, Owner::Reftable);
        regions.add(table_run, Owner::Reftable);
        let blocks_run = ClusterRun::new(table_run.end(), ClusterCount::new(blocks.len() as u64));
        regions.add(blocks_run, Owner::Refblock);
        self.ordering.replace_root(Side::Refcounts, RootTable::new(at, entries));
        self.free_later(old_run);
        Ok(())
    }

    /// The same in memory: a change that is built aside gives the table its place at the end.
    fn lengthen_reftable(&mut self, needed: ReftableIndex) -> Result<()> {
        let entries = needed.get().saturating_add(1);
        if entries > MAX_REFTABLE_BYTES / 8 {
            return Err(self.too_long());
        }
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        self.ordering.root_mut(Side::Refcounts).lengthen(entries);
        Ok(())
    }

    /// How many clusters a new refcount table at `first` has, and which blocks describe it and
    /// themselves.
    fn size_reftable(
        &self,
        needed: ReftableIndex,
        first: HostCluster,
    ) -> Result<(ClusterCount, Vec<ReftableIndex>)> {
        let old = self
            .geometry
            .clusters_for(self.ordering.root(Side::Refcounts).entries().len() as u64 * 8);
        let most = MAX_REFTABLE_BYTES / self.geometry.cluster_bytes();
        let mut clusters = ClusterCount::new((old.get() + old.get().div_ceil(2)).min(most));
        let mut blocks = 1;
        loop {
            let end = first + clusters + ClusterCount::new(blocks);
            let (low, _) = self.geometry.refcount_place(first);
            let (high, _) = self.geometry.refcount_place(HostCluster::new(end.get() - 1));
            let wanted_blocks = high.get() - low.get() + 1;
            let entries = high.get().max(needed.get()).saturating_add(1);
            let wanted = self.geometry.clusters_for(entries.saturating_mul(8));
            if wanted_blocks <= blocks && wanted <= clusters {
                let list = (low.get()..low.get() + blocks).map(ReftableIndex::new).collect();
                return if clusters.get() > most {
                    Err(self.too_long())
                } else {
                    Ok((clusters, list))
                };
            }
            if wanted.get() > most {
                return Err(self.too_long());
            }
            blocks = blocks.max(wanted_blocks);
            clusters = clusters.max(wanted);
        }
    }

    fn too_long(&self) -> Error {
        Error::Refused(format!(
            "the image would need a refcount table of more than {MAX_REFTABLE_BYTES} bytes"
        ))
    }

    /// A new block in which the clusters of `run` count 1 and all others 0.
    fn counted_block(&self, index: ReftableIndex, run: ClusterRun) -> Vec<u8> {
        let mut block = vec![0; self.geometry.cluster_len()];
        let order = self.geometry.refcount_order();
        for chunk in self.chunks(run).into_iter().filter(|chunk| chunk.index == index) {
            count_once(&mut block, order, chunk.entries);
        }
        block
    }
}
