//! Space that nothing uses any more, given back to the file system: holes, and a shorter file.
//!
//! Nothing is given back before the mappings that let go of it and the lowered refcounts are on
//! stable storage.

use crate::error::{Error, Result};
use crate::format::refcount::counted;
use crate::format::{ClusterCount, HostCluster, ReftableIndex};
use crate::storage::Capacity;

use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;

/// Most runs of clusters that are remembered; above that their space stays with the image, for
/// later use.
const MAX_RUNS: usize = 1 << 16;

impl Meta {
    /// From here on the space of every cluster that becomes free goes back to the file system.
    pub(in crate::image) const fn give_back_room(&mut self) {
        self.gives_back = true;
    }

    /// Remembers clusters that became free, if their space is to be given back.
    pub(in crate::image) fn note_room(&mut self, run: ClusterRun) {
        if !self.gives_back || run.end() <= self.moves.kept_before {
            return;
        }
        let is_room = self.discarded.len() < MAX_RUNS;
        match self.discarded.last_mut() {
            Some(last) if last.end() == run.first => last.count += run.count,
            _ if is_room => self.discarded.push(run),
            _ => {}
        }
    }

    /// Punches holes where clusters were freed and are free still.
    pub(in crate::image) fn punch_discarded(&mut self) -> Result<()> {
        let mut runs = std::mem::take(&mut self.discarded);
        runs.sort_unstable_by_key(|run| run.first);
        for run in runs {
            let per_piece = ClusterCount::new(self.geometry.refblock_entries());
            let mut first = run.first;
            while first < run.end() {
                let end = (first + per_piece).min(run.end());
                self.punch(ClusterRun::new(first, end - first))?;
                first = end;
            }
        }
        Ok(())
    }

    fn punch(&mut self, run: ClusterRun) -> Result<()> {
        let counts = self.refcounts(run)?;
        let mut hole = ClusterRun::new(run.first, ClusterCount::default());
        for (cluster, count) in run.clusters().zip(counts) {
            if count == 0 && !self.ordering.disk.regions.is_owned(cluster) {
                if hole.is_empty() {
                    hole.first = cluster;
                }
                hole.count += ClusterCount::new(1);
            } else {
                self.punch_hole(hole);
                hole.count = ClusterCount::default();
            }
        }
        self.punch_hole(hole);
        Ok(())
    }

    fn punch_hole(&self, hole: ClusterRun) {
        if !hole.is_empty() {
            let at = self.geometry.offset_of(hole.first).get();
            // Only a hint: a file system that cannot do it keeps the old bytes.
            let _ = self.ordering.disk.file.discard(at, self.geometry.bytes_of(hole.count));
        }
    }

    /// Gives up refcount blocks that count nothing, or only themselves: without a block all
    /// refcounts are 0. Everything must be on stable storage.
    pub(in crate::image) fn release_empty_blocks(&mut self) -> Result<()> {
        let blocks = self.ordering.root(Side::Refcounts).entries().len();
        let mut counted_elsewhere = Vec::new();
        for slot in (0..blocks).rev() {
            let index = ReftableIndex::new(slot as u64);
            let Some(at) = self.refblock(index)? else { continue };
            let own = self.geometry.cluster_floor(at);
            let (order, base) =
                (self.geometry.refcount_order(), self.geometry.first_cluster_of_block(index));
            let entries = 0..self.geometry.refblock_len();
            let block = self.ordering.glance(Side::Refcounts, at)?;
            let used: Vec<(usize, u64)> = counted(block, order, entries).take(2).collect();
            let is_own = |n: usize| base + ClusterCount::new(n as u64) == own;
            let run = ClusterRun::one(own);
            match used[..] {
                [] => counted_elsewhere.push(run),
                [(n, 1)] if is_own(n) => self.note_room(run),
                _ => continue,
            }
            if self.moves.is_eager {
                self.announce_moves()?;
            }
            self.ordering.set_root_entry(Side::Refcounts, slot, 0);
            self.ordering.forget(Side::Refcounts, at);
            self.ordering.disk.regions.remove(run, Owner::Refblock);
        }
        // The table lets go of the blocks before their refcounts are lowered.
        self.flush(true)?;
        counted_elsewhere.into_iter().for_each(|run| self.free_later(run));
        self.flush(true)
    }

    /// Makes the file end after the last cluster in use.
    pub(in crate::image) fn cut_free_end(&mut self) -> Result<()> {
        let used = self.used_end()?;
        let disk = &mut self.ordering.disk;
        if disk.file.capacity() != Capacity::Growable {
            return Ok(());
        }
        let bytes = self.geometry.offset_of(used).get();
        let failed = |e| Error::io("shorten the file", bytes, e);
        if bytes < disk.file.len().map_err(failed)? {
            disk.usable()?;
            disk.file.set_len(bytes).map_err(failed)?;
            disk.note_data();
        }
        Ok(())
    }

    /// The cluster after the last that has a refcount or holds metadata.
    pub(in crate::image) fn used_end(&mut self) -> Result<HostCluster> {
        let owned = self.ordering.disk.regions.end();
        let order = self.geometry.refcount_order();
        let blocks = self.ordering.root(Side::Refcounts).entries().len() as u64;
        for index in (0..blocks).rev().map(ReftableIndex::new) {
            let Some(at) = self.refblock(index)? else { continue };
            let entries = 0..self.geometry.refblock_len();
            let block = self.ordering.glance(Side::Refcounts, at)?;
            if let Some((n, _)) = counted(block, order, entries).next_back() {
                let base = self.geometry.first_cluster_of_block(index);
                return Ok((base + ClusterCount::new(n as u64 + 1)).max(owned));
            }
        }
        Ok(owned)
    }
}
