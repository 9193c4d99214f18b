//! Whole clusters moved or freed, with all references to each: guest data, L2 tables, bitmap data.

use std::io;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::bitmap::BitmapTableEntry;
use crate::format::l1::L1Entry;
use crate::format::l2::{L2Entry, ZERO};
use crate::format::{ClusterCount, HostCluster, HostOffset};

use super::Copying;
use super::marks::Changes;
use super::references::{Content, Holder, Reference, References};
use crate::image::Image;
use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;

/// What happens to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The cluster.
    pub(crate) from: HostCluster,
    /// Where it goes, a free cluster; `None`: nothing refers to it afterwards. Guest data then
    /// reads as zeroes, an L2 table as not allocated.
    pub(crate) to: Option<HostCluster>,
    /// Its refcount.
    pub(crate) count: u64,
    /// The references to it: all of them, in [`References::plain`].
    pub(crate) references: Range<usize>,
}

/// Clusters that are copied together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CopyRun {
    from: HostCluster,
    to: HostCluster,
    count: ClusterCount,
    is_data: bool,
}

/// A pointer that is written by itself.
struct Pointer {
    owner: Owner,
    at: HostOffset,
    value: u64,
}

impl Image {
    /// Does the steps: either all is done or, after an error, clusters are leaked at worst.
    pub(crate) fn move_clusters(
        &self,
        found: &mut References,
        steps: &[Step],
        copying: Copying,
    ) -> Result<()> {
        self.meta()?.announce_moves()?;
        self.copy_ahead(&self.plan_copies(found, steps, copying)?)?;
        self.point_to_copies(found, steps)
    }

    /// What is to be copied for the steps, in order; the steps can be done.
    pub(crate) fn plan_copies(
        &self,
        found: &References,
        steps: &[Step],
        copying: Copying,
    ) -> Result<Vec<CopyRun>> {
        let meta = &mut *self.meta()?;
        meta.require_complete(found, steps)?;
        for to in steps.iter().filter_map(|step| step.to) {
            meta.require_free(to)?;
        }
        if copying == Copying::Nothing {
            return Ok(Vec::new());
        }
        let mut runs: Vec<CopyRun> = Vec::new();
        for step in steps {
            let Some(to) = step.to else { continue };
            let first = &found.plain[step.references.start];
            let is_data = first.holder.content() == Content::Data;
            match runs.last_mut() {
                Some(run)
                    if run.is_data == is_data
                        && run.from + run.count == step.from
                        && run.to + run.count == to =>
                {
                    run.count += ClusterCount::new(1);
                }
                _ => {
                    let count = ClusterCount::new(1);
                    runs.push(CopyRun { from: step.from, to, count, is_data });
                }
            }
        }
        for run in &runs {
            let at = self.geometry.offset_of(run.to);
            meta.ordering.disk.check_data(at, self.geometry.bytes_of(run.count))?;
        }
        Ok(runs)
    }

    /// Copies clusters to free ones, also while the pointers of others change. L2 tables are
    /// written again from their cache, alike.
    pub(crate) fn copy_ahead(&self, runs: &[CopyRun]) -> Result<()> {
        for run in runs {
            let bytes = self.geometry.bytes_of(run.count);
            let (from, to) = (self.geometry.offset_of(run.from), self.geometry.offset_of(run.to));
            let cipher = if run.is_data { self.encryption.as_ref() } else { None };
            self.copy_bytes(from, to, bytes, |buf| {
                if let Some(encryption) = cipher.filter(|e| e.depends_on_host()) {
                    let guest = crate::format::GuestOffset::new(0);
                    encryption.decrypt(guest, from, buf);
                    encryption.encrypt(guest, to, buf);
                }
            })?;
        }
        Ok(())
    }

    /// Brings what was copied to stable storage.
    pub(crate) fn sync_copies(&self) -> Result<()> {
        self.file.sync().map_err(|e| Error::file("flush the image", e))
    }

    /// Does steps for which everything is copied.
    pub(crate) fn point_to_copies(&self, found: &mut References, steps: &[Step]) -> Result<()> {
        let meta = &mut *self.meta()?;
        let mut changes = Changes::default();
        for step in steps {
            changes.take(meta, step.from, step.count, step.count);
            if let Some(to) = step.to {
                changes.add(meta, to, 0, step.count);
            }
        }
        // What was in a free cluster before is gone when its refcount gets higher.
        meta.ordering.disk.note_data();
        meta.ordering.disk.sync()?;
        meta.raise_for(&changes)?;
        meta.redirect(found, steps, &changes, self.backing.is_some())
    }

    /// Copies bytes of the file. Holes stay holes, except where data are changed on the way: were
    /// they copied, they would take space.
    fn copy_bytes(
        &self,
        from: HostOffset,
        to: HostOffset,
        bytes: u64,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let failed = |e| Error::io("copy clusters", from.get(), e);
        if self.encryption.is_some() {
            let mut buf = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
            self.file.read_padded_at(from.get(), &mut buf).map_err(failed)?;
            change(&mut buf);
            return self.file.write_at(to.get(), &buf).map_err(failed);
        }
        let (mut at, end) = (from.get(), from.get() + bytes);
        while at < end {
            let data = self.file.next_data(at).map_err(failed)?.unwrap_or(end..end);
            let (start, stop) = (data.start.clamp(at, end), data.end.min(end));
            let target = to.get() + (at - from.get());
            if at < start {
                self.file.write_zeroes(target, start - at).map_err(failed)?;
            }
            if start < stop {
                self.copy_data(start, target + (start - at), stop - start).map_err(failed)?;
            }
            at = stop.max(start);
        }
        Ok(())
    }

    fn copy_data(&self, from: u64, to: u64, bytes: u64) -> io::Result<()> {
        if self.file.copy_from(to, &self.file, from, bytes)? {
            return Ok(());
        }
        let mut buf = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.file.read_padded_at(from, &mut buf)?;
        self.file.write_at(to, &buf)
    }
}

impl Meta {
    /// An error unless the references of each step are as many as its refcount: one that is not
    /// known would be left pointing to a free cluster.
    pub(super) fn require_complete(&self, found: &References, steps: &[Step]) -> Result<()> {
        for step in steps {
            let references = &found.plain[step.references.clone()];
            let alike = references.iter().all(|r| r.cluster == step.from);
            let sum = found.count(&step.references);
            if !alike || sum != step.count || references.is_empty() {
                let at = self.geometry.offset_of(step.from);
                let why = format!("{sum} references are found, and the refcount is {}", step.count);
                return Err(damaged(at, why));
            }
        }
        Ok(())
    }

    /// An error unless a cluster is free. What was a table there may still be in memory.
    pub(super) fn require_free(&mut self, cluster: HostCluster) -> Result<()> {
        let at = self.geometry.offset_of(cluster);
        if !self.is_free(cluster)? {
            return Err(damaged(at, "a cluster that was free is in use"));
        }
        self.ordering.forget(Side::Mappings, at);
        self.ordering.forget(Side::Refcounts, at);
        Ok(())
    }

    /// Changes the pointers, and then lowers the refcounts of what they pointed to.
    fn redirect(
        &mut self,
        found: &mut References,
        steps: &[Step],
        changes: &Changes,
        hides: bool,
    ) -> Result<()> {
        for step in steps {
            for reference in &found.plain[step.references.clone()] {
                if let Holder::Table(id) = reference.holder {
                    self.change_entry(
                        found.tables[id as usize].at,
                        reference.index,
                        |geometry, old| match step.to {
                            Some(to) => old.moved(geometry, geometry.offset_of(to)),
                            None => zeroed(old, geometry.extended_l2(), hides),
                        },
                    )?;
                }
            }
        }
        let mut pointers = Vec::new();
        for step in steps {
            let references = &found.plain[step.references.clone()];
            if references[0].holder.content() == Content::Table {
                self.move_table(step.from, step.to)?;
                let to = step.to.map(|to| self.geometry.offset_of(to));
                found.relocate(self.geometry.offset_of(step.from), to);
            }
            for &reference in &found.plain[step.references.clone()] {
                pointers.extend(self.pointer(reference, step.to)?);
            }
        }
        // Data and refcounts, then L2 tables, then the active L1 table.
        self.ordering.flush(true)?;
        for pointer in pointers {
            let bytes = pointer.value.to_be_bytes();
            self.ordering.disk.write(pointer.owner, pointer.at, &bytes, "a pointer")?;
        }
        self.ordering.disk.sync()?;
        self.lower_for(changes)
    }

    /// Changes an entry of any L2 table, also of one that only snapshots have.
    pub(super) fn change_entry(
        &mut self,
        table: HostOffset,
        index: u32,
        change: impl FnOnce(&crate::format::Geometry, L2Entry) -> L2Entry,
    ) -> Result<()> {
        let (geometry, width) = (self.geometry, self.geometry.l2_entry_bytes());
        let range = index as usize * width..(index as usize + 1) * width;
        let bytes = self.ordering.change(Side::Mappings, table, range.clone())?;
        let new = change(&geometry, L2Entry::decode(&bytes[range.clone()]));
        bytes[range].copy_from_slice(&new.encode(&geometry));
        Ok(())
    }

    /// Gives an L2 table its new place in memory, or forgets it.
    fn move_table(&mut self, from: HostCluster, to: Option<HostCluster>) -> Result<()> {
        let at = self.geometry.offset_of(from);
        let regions = &mut self.ordering.disk.regions;
        if regions.is_owned(from) {
            regions.remove(ClusterRun::one(from), Owner::L2);
            if let Some(to) = to {
                regions.add(ClusterRun::one(to), Owner::L2);
            }
        }
        match to {
            Some(to) => {
                let to = self.geometry.offset_of(to);
                self.ordering.relocate(Side::Mappings, at, to)
            }
            None => {
                self.ordering.forget(Side::Mappings, at);
                Ok(())
            }
        }
    }

    /// The pointer that a reference becomes, where it is written by itself. One of the active L1
    /// table is changed in memory.
    fn pointer(
        &mut self,
        reference: Reference,
        to: Option<HostCluster>,
    ) -> Result<Option<Pointer>> {
        let index = reference.index as usize;
        let to = to.map_or(0, |to| self.geometry.offset_of(to).get());
        let place = |table: HostOffset| table.saturating_add(u64::from(reference.index) * 8);
        let moved = |bits: u64| match to {
            0 => 0,
            to => L1Entry::new(HostOffset::new(to), L1Entry(bits).copied()).0,
        };
        match reference.holder {
            Holder::Table(_) => Ok(None),
            Holder::Active => {
                let value = moved(self.ordering.root(Side::Mappings).get(index));
                self.ordering.set_root_entry(Side::Mappings, index, value);
                Ok(None)
            }
            Holder::Snapshot(n) => {
                let at = place(self.snapshots[n as usize].header.l1_table);
                let mut old = [0; 8];
                self.ordering.disk.read(at, &mut old, "a snapshot's L1 table")?;
                let value = moved(u64::from_be_bytes(old));
                Ok(Some(Pointer { owner: Owner::SnapshotL1, at, value }))
            }
            Holder::Bitmap(n) => {
                let bitmaps = self.bitmaps.as_ref();
                let table = bitmaps.map(|bitmaps| bitmaps.entries[n as usize].table);
                let at = place(table.unwrap_or_default());
                debug_assert!(BitmapTableEntry(to).data().is_some(), "bitmap data only moves");
                Ok(Some(Pointer { owner: Owner::BitmapDirectory, at, value: to }))
            }
        }
    }
}

/// The entry of a cluster whose data are zeroes, without the cluster. With `hides` there is a
/// backing file, which must not be read in its place.
pub(super) const fn zeroed(old: L2Entry, extended: bool, hides: bool) -> L2Entry {
    match (hides, extended) {
        (false, _) => L2Entry { bits: 0, bitmap: 0 },
        (true, false) => L2Entry { bits: ZERO, bitmap: 0 },
        (true, true) if old.is_compressed() => L2Entry { bits: 0, bitmap: !0 << 32 },
        (true, true) => L2Entry { bits: 0, bitmap: (old.zero() | old.allocated()) << 32 },
    }
}
