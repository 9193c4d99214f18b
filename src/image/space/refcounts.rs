//! Reference counts: raised and lowered over runs of clusters, each block touched once per run.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::refcount::{ReftableEntry, get_refcount, set_refcount};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};

use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::order::ordering::{Direction, Side};
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;

/// The part of a run that one refcount block describes.
#[derive(Clone)]
pub(in crate::image) struct Chunk {
    pub(in crate::image) index: ReftableIndex,
    pub(in crate::image) entries: Range<usize>,
}

/// Whether references are added or taken away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Change {
    Raise,
    Lower,
}

impl Meta {
    /// The block at this place of the refcount table, or `None` where all its refcounts are 0.
    pub(in crate::image) fn refblock(&self, index: ReftableIndex) -> Result<Option<HostOffset>> {
        let reftable = self.ordering.root(Side::Refcounts);
        let slot = usize::try_from(index.get()).unwrap_or(usize::MAX);
        let entry = ReftableEntry(reftable.get(slot));
        let at = entry.offset();
        if entry.has_reserved_bits() || !self.geometry.is_aligned(at) {
            let place = reftable.offset().saturating_add(index.get() * 8);
            return Err(damaged(place, format!("refcount table entry {index} is not valid")));
        }
        Ok((at.get() != 0).then_some(at))
    }

    /// How many references a cluster has.
    pub(in crate::image) fn refcount(&mut self, cluster: HostCluster) -> Result<u64> {
        let (index, entry) = self.geometry.refcount_place(cluster);
        let Some(at) = self.refblock(index)? else { return Ok(0) };
        let order = self.geometry.refcount_order();
        let block = self.ordering.table(Side::Refcounts, at)?;
        Ok(get_refcount(block, order, entry.get() as usize))
    }

    /// How many references each cluster of a run has.
    pub(in crate::image) fn refcounts(&mut self, run: ClusterRun) -> Result<Vec<u64>> {
        let order = self.geometry.refcount_order();
        let mut counts = Vec::new();
        for chunk in self.chunks(run) {
            match self.refblock(chunk.index)? {
                None => counts.resize(counts.len() + chunk.entries.len(), 0),
                Some(at) => {
                    let block = self.ordering.table(Side::Refcounts, at)?;
                    counts.extend(chunk.entries.map(|n| get_refcount(block, order, n)));
                }
            }
        }
        Ok(counts)
    }

    /// Adds `by` references to each cluster of `run`. Nothing is changed where one of them would
    /// not fit.
    pub(in crate::image) fn raise(&mut self, run: ClusterRun, by: u64) -> Result<()> {
        if run.is_empty() || by == 0 {
            return Ok(());
        }
        self.prepare_refcounts()?;
        self.ordering.begin(Direction::RefcountsFirst)?;
        self.check_counts(run, by, Change::Raise)?;
        self.ensure_blocks(run)?;
        self.change_counts(run, by, Change::Raise)
    }

    /// Takes `by` references from each cluster of `run`, once no mapping refers to them any more.
    pub(in crate::image) fn lower(&mut self, run: ClusterRun, by: u64) -> Result<()> {
        if run.is_empty() || by == 0 {
            return Ok(());
        }
        self.prepare_refcounts()?;
        self.ordering.begin(Direction::MappingsFirst)?;
        self.lower_unreferenced(run, by)
    }

    /// Takes references from clusters that nothing on disk has ever referred to: no order to keep.
    pub(in crate::image) fn lower_unreferenced(&mut self, run: ClusterRun, by: u64) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        self.check_counts(run, by, Change::Lower)?;
        self.change_counts(run, by, Change::Lower)
    }

    pub(in crate::image) fn chunks(&self, run: ClusterRun) -> Vec<Chunk> {
        let (first, last) = (run.first.get(), run.end().get());
        let per_block = self.geometry.refblock_entries();
        let mut chunks = Vec::new();
        let mut at = first;
        while at < last {
            let end = (at / per_block + 1).saturating_mul(per_block).min(last);
            let (index, entry) = self.geometry.refcount_place(HostCluster::new(at));
            let start = entry.get() as usize;
            let length = usize::try_from(end - at).expect("at most 2^24 counts in a block");
            chunks.push(Chunk { index, entries: start..start + length });
            at = end;
        }
        chunks
    }

    fn check_counts(&mut self, run: ClusterRun, by: u64, change: Change) -> Result<()> {
        let (order, max) = (self.geometry.refcount_order(), self.geometry.refcount_max());
        for chunk in self.chunks(run) {
            let sound = match self.refblock(chunk.index)? {
                None => change == Change::Raise && by <= max,
                Some(at) => {
                    let block = self.ordering.table(Side::Refcounts, at)?;
                    chunk.entries.clone().all(|n| {
                        let count = get_refcount(block, order, n);
                        match change {
                            Change::Raise => count.checked_add(by).is_some_and(|sum| sum <= max),
                            Change::Lower => count >= by,
                        }
                    })
                }
            };
            if !sound {
                return Err(self.count_error(run, change));
            }
        }
        Ok(())
    }

    fn count_error(&self, run: ClusterRun, change: Change) -> Error {
        let at = self.geometry.offset_of(run.first);
        match change {
            Change::Raise => Error::Refused(format!(
                "a cluster would have more references than the {} bits of its refcount can hold",
                self.geometry.refcount_bits()
            )),
            Change::Lower => {
                damaged(at, "a cluster that is in use is counted as free; the image needs a repair")
            }
        }
    }

    /// Does something to each item; a failure part-way undoes what was done to those before it.
    pub(in crate::image) fn all_or_none<T>(
        &mut self,
        items: &[T],
        change: impl Fn(&mut Self, &T) -> Result<()>,
        undo: impl Fn(&mut Self, &T) -> Result<()>,
    ) -> Result<()> {
        for (done, item) in items.iter().enumerate() {
            if let Err(first) = change(self, item) {
                // What cannot be undone leaks, at worst; the first error is the one to report.
                items[..done].iter().for_each(|item| drop(undo(self, item)));
                return Err(first);
            }
        }
        Ok(())
    }

    /// Applies a change that was checked; a failure part-way undoes what was done.
    fn change_counts(&mut self, run: ClusterRun, by: u64, change: Change) -> Result<()> {
        let undo = if change == Change::Raise { Change::Lower } else { Change::Raise };
        self.all_or_none(
            &self.chunks(run),
            |meta, chunk| meta.change_chunk(chunk, by, change),
            |meta, chunk| meta.change_chunk(chunk, by, undo),
        )
    }

    fn change_chunk(&mut self, chunk: &Chunk, by: u64, change: Change) -> Result<()> {
        let order = self.geometry.refcount_order();
        let at = self.block_to_change(chunk.index)?;
        let bytes = (chunk.entries.start << order) / 8..(chunk.entries.end << order).div_ceil(8);
        let block = self.ordering.change(Side::Refcounts, at, bytes)?;
        let mut freed: Vec<Range<usize>> = Vec::new();
        for n in chunk.entries.clone() {
            let count = get_refcount(block, order, n);
            let count = if change == Change::Raise { count + by } else { count - by };
            set_refcount(block, order, n, count);
            if count == 0 {
                match freed.last_mut() {
                    Some(last) if last.end == n => last.end = n + 1,
                    _ => freed.push(n..n + 1),
                }
            }
        }
        if let Some(first) = freed.first() {
            self.note_freed(chunk, first.start);
        }
        let base = self.geometry.first_cluster_of_block(chunk.index);
        for range in freed {
            let first = base + ClusterCount::new(range.start as u64);
            self.note_room(ClusterRun::new(first, ClusterCount::new(range.len() as u64)));
        }
        Ok(())
    }

    /// Free space begins no later than here, and freed space takes no more compressed data.
    fn note_freed(&mut self, chunk: &Chunk, entry: usize) {
        let base = self.geometry.first_cluster_of_block(chunk.index);
        let freed = base + ClusterCount::new(entry as u64);
        let end = base + ClusterCount::new(chunk.entries.end as u64);
        match &mut self.switch {
            // The file still uses what a change frees that is built aside.
            Some(switch) => switch.freed_from = switch.freed_from.min(freed),
            None => self.search_start = self.search_start.min(freed),
        }
        if let Some(packed) = self.packed_end {
            let cluster = self.geometry.cluster_floor(packed);
            if freed <= cluster && cluster < end {
                self.packed_end = None;
            }
        }
    }

    /// Makes sure that every cluster of `run`, itself not yet counted, has a refcount block.
    pub(in crate::image) fn ensure_blocks(&mut self, run: ClusterRun) -> Result<()> {
        for chunk in self.chunks(run) {
            if self.refblock(chunk.index)?.is_none() {
                if chunk.index.get() >= self.ordering.root(Side::Refcounts).entries().len() as u64 {
                    self.grow_reftable(chunk.index, run)?;
                }
                if self.refblock(chunk.index)?.is_none() {
                    self.add_block(chunk.index, run)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a refcount block, outside `avoid`: among the clusters that it describes where one of
    /// them is free, and then it counts itself; otherwise where another block describes it.
    fn add_block(&mut self, index: ReftableIndex, avoid: ClusterRun) -> Result<()> {
        let order = self.geometry.refcount_order();
        let mut block = vec![0; self.geometry.cluster_len()];
        let cluster = match self.place_in_own_range(index, avoid) {
            Some(own) => {
                let (_, entry) = self.geometry.refcount_place(own);
                set_refcount(&mut block, order, entry.get() as usize, 1);
                own
            }
            None => self.place_elsewhere(avoid)?,
        };
        let at = self.geometry.offset_of(cluster);
        self.ordering.disk.regions.add(ClusterRun::one(cluster), Owner::Refblock);
        self.ordering.disk.note_fresh(ClusterRun::one(cluster));
        self.ordering.add(Side::Refcounts, at, block)?;
        let slot = usize::try_from(index.get()).expect("a refcount table fits into memory");
        self.ordering.set_root_entry(Side::Refcounts, slot, at.get());
        Ok(())
    }

    /// A cluster for the block that describes it; the block does not exist, so all are free.
    fn place_in_own_range(&self, index: ReftableIndex, avoid: ClusterRun) -> Option<HostCluster> {
        let first = self.geometry.first_cluster_of_block(index);
        let end = first + ClusterCount::new(self.geometry.refblock_entries());
        let inside = |cluster: HostCluster| avoid.first <= cluster && cluster < avoid.end();
        let mut cluster = if inside(first) { avoid.end() } else { first };
        while cluster < end {
            if inside(cluster) {
                cluster = avoid.end();
            } else if self.ordering.disk.regions.is_owned(cluster) {
                cluster = cluster.next();
            } else {
                return self.fits(ClusterRun::one(cluster)).then_some(cluster);
            }
        }
        None
    }

    /// A cluster outside `avoid` that a block describes, counted there.
    fn place_elsewhere(&mut self, avoid: ClusterRun) -> Result<HostCluster> {
        let mut from = self.search_start;
        loop {
            let free = self.find_free(from, ClusterCount::new(1), false)?.first;
            if avoid.first <= free && free < avoid.end() {
                from = avoid.end();
                continue;
            }
            let (index, _) = self.geometry.refcount_place(free);
            if index.get() >= self.ordering.root(Side::Refcounts).entries().len() as u64 {
                self.grow_reftable(index, avoid)?;
            }
            if self.refblock(index)?.is_some() {
                let run = ClusterRun::one(free);
                if self.refcount(free)? == 0 {
                    self.change_counts(run, 1, Change::Raise)?;
                    return Ok(free);
                }
            } else if self.place_in_own_range(index, avoid).is_some() {
                self.add_block(index, avoid)?;
            } else {
                let next = ReftableIndex::new(index.get() + 1);
                from = self.geometry.first_cluster_of_block(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::{open, small};

    fn run(first: u64, count: u64) -> ClusterRun {
        ClusterRun::new(HostCluster::new(first), ClusterCount::new(count))
    }

    #[test]
    fn counts_of_every_width_go_up_to_their_greatest_value_and_no_further() {
        for order in 0..=6 {
            let file = small(order);
            let image = open(file.clone());
            let mut meta = image.meta().unwrap();
            let max = meta.geometry.refcount_max();
            meta.raise(run(10, 3), max).unwrap();
            assert_eq!(meta.refcounts(run(9, 5)).unwrap(), [0, max, max, max, 0], "order {order}");
            assert!(meta.raise(run(8, 4), 1).is_err(), "order {order}");
            assert_eq!(meta.refcount(HostCluster::new(8)).unwrap(), 0, "nothing is changed");
            meta.lower(run(10, 3), max).unwrap();
            assert_eq!(meta.refcounts(run(10, 3)).unwrap(), [0, 0, 0]);
            assert_eq!(meta.search_start, HostCluster::new(1));
        }
    }

    #[test]
    fn a_run_of_no_clusters_changes_nothing_and_writes_nothing() {
        let file = small(4);
        let before = file.to_vec();
        let image = open(file.clone());
        image.meta().unwrap().raise(run(1 << 40, 0), 1).unwrap();
        image.meta().unwrap().lower(run(1 << 40, 0), 1).unwrap();
        image.close().unwrap();
        assert_eq!(file.to_vec(), before);
    }

    #[test]
    fn a_cluster_that_is_not_counted_cannot_be_freed() {
        let image = open(small(4));
        let mut meta = image.meta().unwrap();
        assert!(meta.lower(run(3, 2), 1).is_err());
        assert_eq!(meta.refcount(HostCluster::new(3)).unwrap(), 1, "nothing is changed");
    }

    #[test]
    fn a_new_block_counts_itself_where_its_own_cluster_falls_into_it() {
        let image = open(small(6)); // 64 counts in a block
        let mut meta = image.meta().unwrap();
        meta.raise(run(64, 1), 1).unwrap();
        let block = meta.refblock(ReftableIndex::new(1)).unwrap().unwrap();
        assert_eq!(block.get(), 65 * 512);
        assert_eq!(meta.refcounts(run(64, 3)).unwrap(), [1, 1, 0]);
    }

    #[test]
    fn blocks_of_a_run_that_leaves_them_no_space_come_after_it() {
        let image = open(small(6));
        let mut meta = image.meta().unwrap();
        meta.raise(run(64, 256), 1).unwrap();
        assert!(meta.refcounts(run(64, 256)).unwrap().iter().all(|&count| count == 1));
        for index in 1..5 {
            let block = meta.refblock(ReftableIndex::new(index)).unwrap().unwrap();
            let cluster = meta.geometry.cluster_floor(block);
            assert!(cluster.get() < 64 || cluster.get() >= 320, "{cluster}");
            assert_eq!(meta.refcount(cluster).unwrap(), 1);
        }
    }

    #[test]
    fn a_table_that_is_too_short_grows_by_half_and_describes_itself() {
        let file = small(6);
        let image = open(file.clone());
        // 64 entries of 64 counts.
        image.meta().unwrap().raise(run(64 * 64 - 1, 2), 1).unwrap();
        {
            let mut meta = image.meta().unwrap();
            assert_eq!(meta.header().reftable_clusters, 2);
            let table = meta.geometry.cluster_floor(meta.header().reftable);
            assert_eq!(
                meta.refcounts(ClusterRun::new(table, ClusterCount::new(2))).unwrap(),
                [1, 1]
            );
            meta.free_pending().unwrap();
            assert_eq!(meta.refcount(HostCluster::new(1)).unwrap(), 0, "the old table is free");
        }
        image.close().unwrap();
        open(file).meta().unwrap().lower(run(64 * 64 - 1, 2), 1).unwrap();
    }

    #[test]
    fn a_table_over_the_limit_is_refused_before_anything_is_written() {
        let file = small(6);
        let before = file.to_vec();
        let image = open(file.clone());
        assert!(image.meta().unwrap().raise(run(1 << 36, 1), 1).is_err());
        image.close().unwrap();
        assert_eq!(file.to_vec(), before);
    }
}
