//! A change of the whole image that one write to the header makes true.
//!
//! What the change replaces is built aside, in clusters that nothing in the file uses: copies of
//! the L2 tables and refcount blocks that differ, the L1 table, the refcount table, whatever else
//! there is. The disk refuses every other write meanwhile. Then one write to the header points to
//! all of it at once. Before that write a crash, a failure or an interruption leaves the image as
//! it was, to the refcount; after it the image is as it is meant to be.
//!
//! This needs free space for the copies. A change that must also work without
//! ([`Meta::change_or_in_place`]) is made in place then, under the dirty bit where the version has
//! one.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::l1::L1Entry;
use crate::format::refcount::{MAX_REFTABLE_BYTES, ReftableEntry, get_refcount};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::storage::Capacity;

use crate::image::meta::Meta;
use crate::image::meta::switch::{Before, Switch};
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;

impl Meta {
    /// Makes a change as a whole or, with an error, not at all.
    pub(in crate::image) fn change_at_once(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.begin_switch()?;
        match change(self).and_then(|()| self.build_roots()) {
            Ok(()) => self.switch_over(),
            Err(error) => {
                self.give_up_switch();
                Err(error)
            }
        }
    }

    /// [`Meta::change_at_once`]; where there is no free space for that, the change is made in
    /// place.
    pub(in crate::image) fn change_or_in_place(
        &mut self,
        change: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<()> {
        match self.change_at_once(&change) {
            Err(error) if is_no_space(&error) => self.change_in_place(change),
            outcome => outcome,
        }
    }

    /// Makes a change in place. In version 3 the dirty bit is set until it is done, and stays
    /// where it breaks off.
    fn change_in_place(&mut self, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let roots = |meta: &Self| (meta.header().l1_table, meta.header().snapshot_table);
        let before = roots(self);
        self.require_not_cancelled()?;
        self.in_place = true;
        let outcome = change(self).and_then(|()| self.flush(true));
        self.in_place = false;
        let is_whole = outcome.is_ok() || before == roots(self) && self.flush(true).is_ok();
        if !is_whole {
            // What it left in memory would make the file worse.
            self.ordering.disk.stop();
        } else if !self.ordering.is_deferred() && self.header().version >= 3 {
            return outcome.and(self.set_dirty(false));
        }
        outcome
    }

    /// An error where the change that is built aside is to be given up.
    pub(in crate::image) fn go_on(&self) -> Result<()> {
        if self.switch.is_some() { self.require_not_cancelled() } else { Ok(()) }
    }

    /// An error where no change is to begin any more.
    pub(in crate::image) fn require_not_cancelled(&self) -> Result<()> {
        let cancelled = self.cancel.as_ref().is_some_and(|cancel| cancel.load(Relaxed));
        if cancelled { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn begin_switch(&mut self) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        let file = &self.ordering.disk.file;
        let file_bytes = file.len().map_err(|e| Error::file("get the length", e))?;
        let before = Before {
            l1: self.ordering.root(Side::Mappings).clone(),
            reftable: self.ordering.root(Side::Refcounts).clone(),
            regions: self.ordering.disk.regions.clone(),
            geometry: self.geometry,
            snapshots: self.snapshots.clone(),
            bitmaps: self.bitmaps.clone(),
            search_start: self.search_start,
            packed_end: self.packed_end,
            gives_back: self.gives_back,
            file_bytes,
        };
        self.switch = Some(Switch {
            freed_from: before.search_start,
            before,
            fields: Vec::new(),
            directory: None,
            free_after: Vec::new(),
            uncounted: Vec::new(),
            old_block: (HostOffset::new(0), Vec::new()),
        });
        self.gives_back = true;
        self.ordering.begin_aside();
        Ok(())
    }

    /// What the header gets with the switch; `false` where nothing is built aside.
    pub(in crate::image) fn add_to_switch(
        &mut self,
        fields: &[(HeaderField, u64)],
        directory: Option<HostOffset>,
    ) -> bool {
        let Some(switch) = &mut self.switch else { return false };
        switch.fields.extend(fields);
        switch.directory = directory.or(switch.directory);
        true
    }

    /// Whether a cluster without a reference may be used: for a change that is built aside it must
    /// have been free before, and not be allocated already.
    pub(in crate::image) fn is_usable(&mut self, cluster: HostCluster) -> Result<bool> {
        let Some(switch) = &mut self.switch else { return Ok(true) };
        let is_allocated = !self.ordering.disk.is_fixed(self.geometry.offset_of(cluster));
        if is_allocated || switch.before.regions.is_owned(cluster) {
            return Ok(false);
        }
        let (index, entry) = self.geometry.refcount_place(cluster);
        let slot = usize::try_from(index.get()).unwrap_or(usize::MAX);
        let at = ReftableEntry(switch.before.reftable.get(slot)).offset();
        if at.get() == 0 {
            return Ok(true);
        }
        if switch.old_block.0 != at {
            let mut bytes = vec![0; self.geometry.cluster_len()];
            self.ordering.disk.read(at, &mut bytes, "a refcount block")?;
            switch.old_block = (at, bytes);
        }
        let order = self.geometry.refcount_order();
        Ok(get_refcount(&switch.old_block.1, order, entry.get() as usize) == 0)
    }

    /// The refcount block at this place of the table, to be changed: while a change is built aside,
    /// a copy.
    pub(in crate::image) fn block_to_change(&mut self, index: ReftableIndex) -> Result<HostOffset> {
        let at = self.refblock(index)?.expect("a changed refcount has a block");
        if !self.ordering.disk.is_fixed(at) {
            return Ok(at);
        }
        let run = self.find_free(self.search_start, ClusterCount::new(1), false)?;
        let new = self.geometry.offset_of(run.first);
        self.search_start = run.end();
        self.ordering.disk.note_fresh(run);
        // From here on the cluster is not free, though it is counted later: that may move further
        // blocks.
        self.ordering.disk.regions.add(run, Owner::Refblock);
        self.ordering.relocate(Side::Refcounts, at, new)?;
        let slot = usize::try_from(index.get()).unwrap_or(usize::MAX);
        self.ordering.set_root_entry(Side::Refcounts, slot, new.get());
        let old_run = ClusterRun::one(self.geometry.cluster_floor(at));
        self.ordering.disk.regions.remove(old_run, Owner::Refblock);
        self.free_later(old_run);
        if let Some(switch) = &mut self.switch {
            switch.uncounted.push(run);
        }
        Ok(new)
    }

    /// The L2 table of an L1 entry, to be changed: while a change is built aside, a copy.
    pub(in crate::image) fn table_to_change(&mut self, index: usize) -> Result<HostOffset> {
        let entry = L1Entry(self.ordering.root(Side::Mappings).get(index));
        let at = entry.offset();
        if !self.ordering.disk.is_fixed(at) {
            return Ok(at);
        }
        let run = self.allocate(ClusterCount::new(1))?.commit();
        let new = self.geometry.offset_of(run.first);
        self.ordering.relocate(Side::Mappings, at, new)?;
        self.ordering.set_root_entry(Side::Mappings, index, L1Entry::new(new, true).0);
        let old_run = ClusterRun::one(self.geometry.cluster_floor(at));
        self.ordering.disk.regions.remove(old_run, Owner::L2);
        self.ordering.disk.regions.add(run, Owner::L2);
        self.free_later(old_run);
        Ok(new)
    }

    /// Gives the L1 table and the refcount table their new places, where they changed, and brings
    /// all to the disk.
    fn build_roots(&mut self) -> Result<()> {
        if self.ordering.root(Side::Mappings).is_dirty() {
            let entries = self.l1_entries().len() as u64;
            let run = self.allocate_contiguous(self.geometry.clusters_for(entries * 8))?.commit();
            let fields = [HeaderField::L1Offset, HeaderField::L1Entries];
            self.place_root(Side::Mappings, run, fields, entries);
        }
        self.count_everything()?;
        if self.ordering.root(Side::Refcounts).is_dirty() {
            self.place_reftable()?;
        }
        self.go_on()?;
        self.ordering.flush(true)
    }

    /// Makes the refcounts those of the image after the change, of all new places and without the
    /// old ones.
    fn count_everything(&mut self) -> Result<()> {
        loop {
            let next = self.switch.as_mut().and_then(|switch| switch.uncounted.pop());
            match next {
                Some(run) => self.raise(run, 1)?,
                None if self.pending.is_empty() => return Ok(()),
                None => self.free_pending()?,
            }
        }
    }

    /// Finds a place for the refcount table. Counting its clusters may make it longer, and then it
    /// needs another.
    fn place_reftable(&mut self) -> Result<()> {
        let old = self.ordering.root(Side::Refcounts);
        let old_run = ClusterRun::of(&self.geometry, old.offset(), self.old_reftable_bytes());
        self.free_later(old_run);
        loop {
            let clusters = self.reftable_clusters(old_run.count);
            let run = self.allocate_contiguous(clusters)?.commit();
            self.count_everything()?;
            if self.reftable_clusters(old_run.count) > clusters {
                self.free_later(run);
                continue;
            }
            let entries = self.geometry.bytes_of(clusters) / 8;
            let entries = usize::try_from(entries).unwrap_or(usize::MAX);
            self.ordering.root_mut(Side::Refcounts).lengthen(entries);
            let fields = [HeaderField::ReftableOffset, HeaderField::ReftableClusters];
            self.place_root(Side::Refcounts, run, fields, clusters.get());
            return Ok(());
        }
    }

    fn old_reftable_bytes(&self) -> u64 {
        self.switch.as_ref().map_or(0, |switch| switch.before.reftable.entries().len() as u64 * 8)
    }

    /// As many clusters as the refcount table has; where it got longer, half as much again.
    fn reftable_clusters(&self, old: ClusterCount) -> ClusterCount {
        let entries = self.ordering.root(Side::Refcounts).entries().len() as u64;
        let needed = self.geometry.clusters_for(entries * 8);
        if needed <= old {
            return old;
        }
        let most = MAX_REFTABLE_BYTES / self.geometry.cluster_bytes();
        needed.max(ClusterCount::new((old.get() + old.get().div_ceil(2)).min(most)))
    }

    fn place_root(
        &mut self,
        side: Side,
        run: ClusterRun,
        [offset, length]: [HeaderField; 2],
        count: u64,
    ) {
        let at = self.geometry.offset_of(run.first);
        let Some(switch) = &mut self.switch else { return };
        switch.fields.extend([(offset, at.get()), (length, count)]);
        let (old, owner) = match side {
            Side::Mappings => (&switch.before.l1, Owner::L1),
            Side::Refcounts => (&switch.before.reftable, Owner::Reftable),
        };
        let old = ClusterRun::of(&self.geometry, old.offset(), old.entries().len() as u64 * 8);
        let regions = &mut self.ordering.disk.regions;
        regions.remove(old, owner);
        regions.add(run, owner);
        self.ordering.root_mut(side).relocate(at);
        if side == Side::Mappings {
            self.free_later(old);
        }
    }

    /// The switch itself. A failure from here on leaves it open which of the two states the file
    /// holds.
    fn switch_over(&mut self) -> Result<()> {
        self.ordering.end_aside();
        let Some(switch) = self.switch.take() else { return Ok(()) };
        let bitmaps = switch.before.bitmaps.as_ref().zip(switch.directory);
        self.patch_header_and_bitmaps(&switch.fields, bitmaps)?;
        self.ordering.disk.sync()?;
        self.search_start = switch.before.search_start.min(switch.freed_from);
        switch.free_after.into_iter().for_each(|run| self.free_later(run));
        let outcome = self.flush(true);
        self.gives_back = switch.before.gives_back;
        outcome
    }

    /// Goes back to what the file has, and gives back the space that the change took.
    fn give_up_switch(&mut self) {
        let fresh = self.ordering.end_aside();
        let Some(Switch { before, .. }) = self.switch.take() else { return };
        self.ordering.reset(before.l1, before.reftable);
        self.ordering.disk.regions = before.regions;
        self.ordering.disk.geometry = before.geometry;
        self.geometry = before.geometry;
        self.snapshots = before.snapshots;
        self.bitmaps = before.bitmaps;
        self.search_start = before.search_start;
        self.packed_end = before.packed_end;
        self.gives_back = before.gives_back;
        self.pending.clear();
        self.discarded.clear();
        let file = &self.ordering.disk.file;
        // Only hints: nothing refers to any of this.
        for range in fresh.iter().filter(|range| range.start < before.file_bytes) {
            let length = range.end.min(before.file_bytes) - range.start;
            let _ = file.discard(range.start, length);
        }
        if file.capacity() == Capacity::Growable
            && file.len().is_ok_and(|bytes| bytes > before.file_bytes)
        {
            let _ = file.set_len(before.file_bytes);
        }
    }
}

/// Whether an error means that the file, the device or the file system is full.
fn is_no_space(error: &Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error {
        Error::NoRoom { .. } => true,
        Error::Io { source, .. } => {
            matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::{open, small};
    use crate::storage::ReadAt;

    fn run(first: u64, count: u64) -> ClusterRun {
        ClusterRun::new(HostCluster::new(first), ClusterCount::new(count))
    }

    #[test]
    #[should_panic(expected = "writes to its own clusters only")]
    fn what_the_file_uses_is_not_written_while_a_change_is_built_aside() {
        let mut image = open(small(4));
        let _ = image.meta_mut().unwrap().change_at_once(|meta| {
            let l1 = meta.ordering.root(Side::Mappings).offset();
            meta.ordering.disk.write(Owner::L1, l1, &[1; 8], "the L1 table")
        });
    }

    #[test]
    fn a_change_that_fails_leaves_the_file_to_the_byte() {
        let file = small(4);
        let before = file.to_vec();
        let mut image = open(file.clone());
        let outcome = image.meta_mut().unwrap().change_at_once(|meta| {
            meta.write_aside(Owner::L2, &[7; 512], "an L2 table")?.commit();
            meta.raise(run(2, 1), 1)?;
            Err(Error::Refused("enough".into()))
        });
        assert_eq!(outcome.unwrap_err().to_string(), "enough");
        image.close().unwrap();
        assert!(file.to_vec() == before);
    }

    #[test]
    fn a_cluster_that_the_change_frees_is_used_only_after_it() {
        let mut image = open(small(4));
        let meta = image.meta_mut().unwrap();
        let old = meta.allocate(ClusterCount::new(3)).unwrap().commit();
        meta.change_at_once(|meta| {
            meta.lower(old, 1)?;
            let new = meta.allocate(ClusterCount::new(1))?.commit();
            assert!(new.first >= old.end(), "{:?}", new.first);
            meta.free_later(new);
            Ok(())
        })
        .unwrap();
        // The old refcount table and block, and what was freed.
        assert_eq!(meta.allocate(ClusterCount::new(1)).unwrap().commit(), run(1, 1));
    }

    #[test]
    fn moved_blocks_are_counted_where_that_makes_the_refcount_table_longer() {
        // 64 refcounts in a block and 64 entries in the table: it ends at cluster 4096.
        let file = small(6);
        let mut image = open(file.clone());
        let meta = image.meta_mut().unwrap();
        meta.raise(run(4, 4096 - 64), 1).unwrap();
        let blocks = |meta: &mut Meta| {
            let blocks = 0..meta.ordering.root(Side::Refcounts).entries().len() as u64;
            let at = |index| meta.refblock(ReftableIndex::new(index)).unwrap();
            blocks.filter_map(at).collect::<Vec<_>>()
        };
        let old = blocks(meta);
        meta.change_at_once(|meta| meta.raise(run(4, 4096 - 64), 1)).unwrap();
        assert!(meta.header().reftable_clusters > 1);
        let new = blocks(meta);
        assert!(new.len() > old.len() && new.iter().all(|at| !old.contains(at)));
        for at in new {
            let cluster = meta.geometry.cluster_floor(at);
            assert_eq!(meta.refcount(cluster).unwrap(), 1, "{cluster}");
        }
        assert_eq!(meta.refcounts(run(4, 2)).unwrap(), [2, 2]);
        image.close().unwrap();
        let mut again = open(file.clone());
        assert_eq!(again.meta_mut().unwrap().refcounts(run(4, 2)).unwrap(), [2, 2]);
        let head = crate::tables::HeaderArea::load(file.as_ref()).unwrap().header;
        assert!(file.len().unwrap() >= head.reftable.get());
    }
}
