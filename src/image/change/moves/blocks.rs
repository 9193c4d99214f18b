//! Refcount blocks moved, and a refcount table that is no longer than needed.

use crate::error::Result;
use crate::format::header::HeaderField;
use crate::format::{ClusterCount, HostCluster, ReftableIndex};

use super::marks::Changes;
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;

impl Image {
    /// The refcount blocks at or after `first`, the last one first: which, and where.
    pub(crate) fn refblocks_from(
        &self,
        first: HostCluster,
    ) -> Result<Vec<(ReftableIndex, HostCluster)>> {
        let meta = self.meta()?;
        let blocks = meta.ordering.root(Side::Refcounts).entries().len() as u64;
        let mut found = Vec::new();
        for index in (0..blocks).map(ReftableIndex::new) {
            if let Some(at) = meta.refblock(index)? {
                found.push((index, meta.geometry.cluster_floor(at)));
            }
        }
        found.retain(|&(_, cluster)| cluster >= first);
        found.sort_unstable_by_key(|&(_, cluster)| std::cmp::Reverse(cluster));
        Ok(found)
    }

    /// Moves refcount blocks to free clusters. All refcounts are on disk before the blocks are
    /// copied, so that old and new are alike whichever of them the table points to.
    pub(crate) fn move_refblocks(
        &self,
        moves: &[(ReftableIndex, HostCluster, HostCluster)],
    ) -> Result<()> {
        let meta = &mut *self.meta()?;
        meta.announce_moves()?;
        meta.prepare_write()?;
        meta.flush(true)?;
        let mut changes = Changes::default();
        for &(_, from, to) in moves {
            meta.require_free(to)?;
            changes.add(meta, to, 0, 1);
            changes.take(meta, from, 1, 1);
            let (at, new) = (meta.geometry.offset_of(from), meta.geometry.offset_of(to));
            let bytes = meta.ordering.table(Side::Refcounts, at)?.to_vec();
            meta.ordering.disk.write_unreferenced(
                Owner::Refblock,
                new,
                &bytes,
                "a refcount block",
            )?;
        }
        // What was in a free cluster before is gone when its refcount gets higher.
        meta.ordering.disk.sync()?;
        meta.raise_for(&changes)?;
        meta.flush(true)?;
        for &(index, from, to) in moves {
            let (at, new) = (meta.geometry.offset_of(from), meta.geometry.offset_of(to));
            meta.ordering.relocate(Side::Refcounts, at, new)?;
            let slot = usize::try_from(index.get()).unwrap_or(usize::MAX);
            meta.ordering.set_root_entry(Side::Refcounts, slot, new.get());
            let regions = &mut meta.ordering.disk.regions;
            regions.remove(ClusterRun::one(from), Owner::Refblock);
            regions.add(ClusterRun::one(to), Owner::Refblock);
        }
        meta.ordering.flush(true)?;
        meta.lower_for(&changes)
    }

    /// Makes the refcount table as short as its entries allow.
    pub(crate) fn shorten_reftable(&self) -> Result<()> {
        self.meta()?.shorten_reftable()
    }
}

impl Meta {
    fn shorten_reftable(&mut self) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        let root = self.ordering.root(Side::Refcounts);
        let (at, old) = (root.offset(), root.entries().len() as u64);
        let used = root.entries().iter().rposition(|&bits| bits != 0).map_or(0, |last| last + 1);
        let clusters = self.geometry.clusters_for(used.max(1) as u64 * 8);
        let before = self.geometry.clusters_for(old * 8);
        if clusters >= before {
            return Ok(());
        }
        let first = self.geometry.cluster_floor(at);
        let rest =
            ClusterRun::new(first + clusters, ClusterCount::new(before.get() - clusters.get()));
        if self.refcounts(rest)?.iter().any(|&count| count != 1) {
            return Ok(());
        }
        self.announce_moves()?;
        let kept = usize::try_from(self.geometry.bytes_of(clusters) / 8).unwrap_or(usize::MAX);
        let entries = self.ordering.root(Side::Refcounts).entries()[..kept].to_vec();
        self.ordering.disk.patch_header(&[(HeaderField::ReftableClusters, clusters.get())])?;
        self.ordering.disk.sync()?;
        self.ordering.replace_root(Side::Refcounts, RootTable::new(at, entries));
        self.ordering.disk.regions.remove(rest, Owner::Reftable);
        self.lower(rest, 1)?;
        self.flush(true)
    }
}
