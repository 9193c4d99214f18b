//! Several states of the disk in one image: another active L1 table, snapshots taken, deleted and gone back to.
//!
//! Each change is built beside what is there, brought to stable storage, and made true by one write to the header;
//! what it replaced is freed after that. A crash on the way leaves the old state or the new one, and at worst leaks.

use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::snapshot::{MAX_SNAPSHOTS, MAX_TABLE_BYTES, SnapshotEntry, encode_table};
use crate::format::{ClusterCount, HostOffset, decode_entries, encode_entries};
use crate::tables::load_entries;

use super::alloc::Allocation;
use super::bitmaps::Rebuilt;
use super::meta::Meta;
use super::ordering::Side;
use super::regions::Owner;
use super::root::RootTable;
use super::{ClusterRun, Image, damaged};

/// Most entries that are looked at together.
const MAX_RUN: usize = 1024;

/// Whether the references of a tree are added or taken away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Raise,
    Lower,
}

impl Image {
    pub(super) fn meta_mut(&mut self) -> Result<&mut Meta> {
        self.meta.get_mut().map_err(|_| super::panicked())
    }

    /// Takes a snapshot: `entry` tells everything but where its L1 table lies.
    pub(crate) fn take_snapshot(&mut self, entry: SnapshotEntry) -> Result<()> {
        self.meta_mut()?.take_snapshot(entry)
    }

    /// Deletes the snapshot at a position of the table.
    pub(crate) fn delete_snapshot(&mut self, index: usize) -> Result<()> {
        self.meta_mut()?.delete_snapshot(index)
    }

    /// Makes the state of a snapshot the active one, with a disk of `size` bytes.
    pub(crate) fn apply_snapshot(&mut self, index: usize, size: u64) -> Result<()> {
        self.meta_mut()?.apply_snapshot(index, size)?;
        self.geometry = self.geometry.with_virtual_size(size);
        Ok(())
    }
}

impl Meta {
    fn take_snapshot(&mut self, mut entry: SnapshotEntry) -> Result<()> {
        self.prepare_write()?;
        let l1 = self.l1_entries().to_vec();
        self.change_tree(&l1, Change::Raise)?;
        let outcome = self.store_snapshot(&l1, &mut entry);
        if outcome.is_err() {
            // The counts are too high then, which leaks; the first error is the one to tell.
            let _ = self.change_tree(&l1, Change::Lower);
        }
        outcome
    }

    fn store_snapshot(&mut self, l1: &[u64], entry: &mut SnapshotEntry) -> Result<()> {
        self.clear_copied()?;
        self.flush(true)?;
        let bare: Vec<u64> = l1.iter().map(|bits| bits & !COPIED).collect();
        let mut list = self.snapshots.clone();
        if bare.is_empty() {
            // An empty disk has no L1 table at all.
            list.push(entry.clone());
            return self.switch_snapshots(list);
        }
        let table = self.write_aside(Owner::SnapshotL1, &encode_entries(&bare), "an L1 table")?;
        entry.header.l1_table = self.geometry.offset_of(table.run().first);
        entry.header.l1_entries = u32::try_from(l1.len()).unwrap_or(u32::MAX);
        list.push(entry.clone());
        let outcome = self.switch_snapshots(list);
        let run = table.run();
        table.settle(self, outcome)?;
        self.ordering.disk.regions.add(run, Owner::SnapshotL1);
        Ok(())
    }

    fn delete_snapshot(&mut self, index: usize) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        self.give_back_room();
        let snapshot = self.snapshot(index)?;
        let l1 = self.snapshot_l1(&snapshot)?;
        let mut list = self.snapshots.clone();
        list.remove(index);
        self.switch_snapshots(list)?;
        let bytes = l1.len() as u64 * 8;
        let l1_run = ClusterRun::of(&self.geometry, snapshot.header.l1_table, bytes);
        self.ordering.disk.regions.remove(l1_run, Owner::SnapshotL1);
        self.free_later(l1_run);
        self.change_tree(&l1, Change::Lower)?;
        self.free_pending()?;
        self.set_copied()?;
        self.flush(true)
    }

    fn apply_snapshot(&mut self, index: usize, size: u64) -> Result<()> {
        self.prepare_write()?;
        self.flush(true)?;
        let snapshot = self.snapshot(index)?;
        let mut l1 = self.snapshot_l1(&snapshot)?;
        l1.iter_mut().for_each(|bits| *bits &= !COPIED);
        if l1.is_empty() {
            l1.push(0);
        }
        let needed = usize::try_from(self.geometry.l1_entries_for(size)).unwrap_or(usize::MAX);
        if l1.len() < needed {
            let why = "the snapshot's L1 table is too short for its disk";
            return Err(damaged(snapshot.header.l1_table, why));
        }
        self.change_tree(&l1, Change::Raise)?;
        let old = self.l1_entries().to_vec();
        let outcome =
            self.clear_copied_of(&l1).and_then(|()| self.switch_active(l1.clone(), size, None));
        if let Err(error) = outcome {
            let _ = self.change_tree(&l1, Change::Lower);
            return Err(error);
        }
        self.give_back_room();
        self.change_tree(&old, Change::Lower)?;
        self.free_pending()?;
        self.set_copied()?;
        self.flush(true)
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.geometry = self.geometry.with_virtual_size(size);
        self.ordering.disk.geometry = self.geometry;
    }

    fn snapshot(&self, index: usize) -> Result<SnapshotEntry> {
        let missing = || Error::Refused(format!("there is no snapshot at position {index}"));
        self.snapshots.get(index).cloned().ok_or_else(missing)
    }

    fn snapshot_l1(&self, snapshot: &SnapshotEntry) -> Result<Vec<u64>> {
        let (at, entries) = (snapshot.header.l1_table, snapshot.header.l1_entries);
        load_entries(self.ordering.disk.file.as_ref(), at, u64::from(entries))
            .map_err(|source| Error::io("read a snapshot's L1 table", at.get(), source))
    }

    /// Writes a structure into new clusters.
    pub(super) fn write_aside(
        &mut self,
        owner: Owner,
        bytes: &[u8],
        what: &str,
    ) -> Result<Allocation> {
        let count = self.geometry.clusters_for(bytes.len().max(1) as u64);
        let allocation = self.allocate_contiguous(count)?;
        let at = self.geometry.offset_of(allocation.run().first);
        for cluster in allocation.run().clusters() {
            // What was an L2 table before it was freed may still be in memory.
            self.ordering.forget(Side::Mappings, self.geometry.offset_of(cluster));
        }
        match self.ordering.disk.write(owner, at, bytes, what) {
            Ok(()) => Ok(allocation),
            Err(error) => allocation.settle(self, Err(error)),
        }
    }

    /// Makes `l1` the active L1 table of a disk of `size` bytes, and `bitmaps` its bitmaps if they change. The old table
    /// is freed, not what it refers to.
    pub(super) fn switch_active(
        &mut self,
        l1: Vec<u64>,
        size: u64,
        bitmaps: Option<Rebuilt>,
    ) -> Result<()> {
        let table = match self.write_aside(Owner::L1, &encode_entries(&l1), "the L1 table") {
            Ok(table) => table,
            Err(error) => return self.finish_bitmaps(bitmaps, Err(error)),
        };
        let at = self.geometry.offset_of(table.run().first);
        let fields = [
            (HeaderField::Size, size),
            (HeaderField::L1Entries, l1.len() as u64),
            (HeaderField::L1Offset, at.get()),
        ];
        let outcome = self.switch_header(&fields, bitmaps.as_ref());
        let outcome = self.finish_bitmaps(bitmaps, outcome);
        let run = table.run();
        table.settle(self, outcome)?;
        self.ordering.disk.sync()?;
        let old = self.ordering.root(Side::Mappings);
        let old_run = ClusterRun::of(&self.geometry, old.offset(), old.entries().len() as u64 * 8);
        let tables_of = |entries: &[u64]| -> Vec<HostOffset> {
            entries.iter().map(|&bits| L1Entry(bits).offset()).filter(|at| at.get() != 0).collect()
        };
        let (old_tables, new_tables) = (tables_of(old.entries()), tables_of(&l1));
        let geometry = self.geometry;
        let regions = &mut self.ordering.disk.regions;
        let table_run = |at| ClusterRun::of(&geometry, at, 1);
        old_tables.into_iter().for_each(|at| regions.remove(table_run(at), Owner::L2));
        new_tables.into_iter().for_each(|at| regions.add(table_run(at), Owner::L2));
        regions.remove(old_run, Owner::L1);
        regions.add(run, Owner::L1);
        self.ordering.replace_root(Side::Mappings, RootTable::new(at, l1));
        self.free_later(old_run);
        self.set_size(size);
        Ok(())
    }

    /// Makes `list` the snapshot table.
    fn switch_snapshots(&mut self, list: Vec<SnapshotEntry>) -> Result<()> {
        let bytes = encode_table(&list);
        if list.len() as u64 > u64::from(MAX_SNAPSHOTS) || bytes.len() as u64 > MAX_TABLE_BYTES {
            return Err(Error::Refused("there are too many snapshots".into()));
        }
        let old_bytes = encode_table(&self.snapshots).len() as u64;
        let old_at = self.header().snapshot_table;
        let old_run = ClusterRun::of(&self.geometry, old_at, old_bytes);
        let table = match list.is_empty() {
            true => None,
            false => Some(self.write_aside(Owner::SnapshotTable, &bytes, "the snapshot table")?),
        };
        let run = table.as_ref().map(Allocation::run);
        let at = run.map_or(0, |run| self.geometry.offset_of(run.first).get());
        let fields = [
            (HeaderField::SnapshotCount, list.len() as u64),
            (HeaderField::SnapshotTableOffset, at),
        ];
        let outcome = self.flush(true).and_then(|()| self.ordering.disk.patch_header(&fields));
        match table {
            Some(table) => table.settle(self, outcome)?,
            None => outcome?,
        }
        self.ordering.disk.sync()?;
        self.ordering.disk.regions.remove(old_run, Owner::SnapshotTable);
        if let Some(run) = run {
            self.ordering.disk.regions.add(run, Owner::SnapshotTable);
        }
        if !old_run.is_empty() {
            self.free_later(old_run);
        }
        self.snapshots = list;
        Ok(())
    }

    /// Adds or takes away one reference from all that an L1 table refers to: L2 tables and what they refer to. A failure
    /// to add undoes what was added.
    pub(super) fn change_tree(&mut self, l1: &[u64], change: Change) -> Result<()> {
        let mut done = Vec::new();
        for &bits in l1 {
            let table = L1Entry(bits).offset();
            if table.get() == 0 {
                continue;
            }
            if !self.geometry.is_aligned(table) {
                return Err(damaged(table, "an L2 table that does not begin at a cluster"));
            }
            let outcome = self.change_table(table, change);
            if outcome.is_err() && change == Change::Raise {
                for &table in &done {
                    let _ = self.change_table(table, Change::Lower);
                }
            }
            outcome?;
            done.push(table);
        }
        Ok(())
    }

    fn change_table(&mut self, table: HostOffset, change: Change) -> Result<()> {
        let mut runs = self.references(table, 0)?;
        runs.push(ClusterRun::one(self.geometry.cluster_floor(table)));
        for (n, &run) in runs.iter().enumerate() {
            let outcome = match change {
                Change::Raise => self.raise(run, 1),
                Change::Lower => self.lower(run, 1),
            };
            if outcome.is_err() && change == Change::Raise {
                for &run in &runs[..n] {
                    let _ = self.lower_unreferenced(run, 1);
                }
            }
            outcome?;
        }
        if change == Change::Lower && self.refcount(self.geometry.cluster_floor(table))? == 0 {
            self.ordering.forget(Side::Mappings, table);
        }
        Ok(())
    }

    /// What the entries of an L2 table refer to, from byte `start` of the table on.
    pub(super) fn references(
        &mut self,
        table: HostOffset,
        start: usize,
    ) -> Result<Vec<ClusterRun>> {
        let words = decode_entries(&self.ordering.table(Side::Mappings, table)?[start..]);
        let per_entry = self.geometry.l2_entry_bytes() / 8;
        let mut runs: Vec<ClusterRun> = Vec::new();
        for words in words.chunks(per_entry) {
            let entry = L2Entry { bits: words[0], bitmap: 0 };
            let Some(run) = self.referred(entry) else { continue };
            if !entry.is_compressed() && !self.geometry.is_aligned(entry.offset()) {
                return Err(damaged(table, "an L2 table with a cluster that is not aligned"));
            }
            match runs.last_mut() {
                Some(last) if last.end() == run.first => last.count += run.count,
                _ => runs.push(run),
            }
        }
        Ok(runs)
    }

    /// Takes the COPIED flag from everything active.
    fn clear_copied(&mut self) -> Result<()> {
        let l1 = self.l1_entries().to_vec();
        self.clear_copied_of(&l1)?;
        for (index, bits) in l1.into_iter().enumerate().filter(|(_, bits)| bits & COPIED != 0) {
            self.ordering.set_root_entry(Side::Mappings, index, bits & !COPIED);
        }
        Ok(())
    }

    /// Takes the COPIED flag from the entries of all L2 tables that an L1 table refers to.
    fn clear_copied_of(&mut self, l1: &[u64]) -> Result<()> {
        for &bits in l1 {
            let table = L1Entry(bits).offset();
            if table.get() != 0 {
                for run in self.entry_runs(table)? {
                    self.set_flags(table, run.entries.into_iter().map(|entry| (entry, false)))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the COPIED flag to everything active that has one reference, and takes it from the rest.
    fn set_copied(&mut self) -> Result<()> {
        for (index, bits) in self.l1_entries().to_vec().into_iter().enumerate() {
            let entry = L1Entry(bits);
            let table = entry.offset();
            if table.get() == 0 {
                continue;
            }
            for run in self.entry_runs(table)? {
                let counts = self.refcounts(run.clusters)?;
                let alone = counts.into_iter().map(|count| count == 1);
                self.set_flags(table, run.entries.into_iter().zip(alone))?;
            }
            let alone = self.refcount(self.geometry.cluster_floor(table))? == 1;
            if entry.copied() != alone {
                self.ordering.set_root_entry(Side::Mappings, index, entry.with_copied(alone).0);
            }
        }
        Ok(())
    }

    /// The entries of an L2 table that have a cluster and may have the flag, gathered where their
    /// clusters are neighbours.
    fn entry_runs(&mut self, table: HostOffset) -> Result<Vec<EntryRun>> {
        let words = decode_entries(self.ordering.table(Side::Mappings, table)?);
        let per_entry = self.geometry.l2_entry_bytes() / 8;
        let mut runs: Vec<EntryRun> = Vec::new();
        for (at, bits) in words.into_iter().enumerate().step_by(per_entry) {
            let entry = L2Entry::standard(bits);
            if entry.is_compressed() || entry.offset().get() == 0 {
                continue;
            }
            let cluster = self.geometry.cluster_floor(entry.offset());
            match runs.last_mut() {
                Some(run) if run.clusters.end() == cluster && run.entries.len() < MAX_RUN => {
                    run.clusters.count += ClusterCount::new(1);
                    run.entries.push((at, bits));
                }
                _ => runs.push(EntryRun {
                    clusters: ClusterRun::one(cluster),
                    entries: vec![(at, bits)],
                }),
            }
        }
        Ok(runs)
    }

    /// Sets the COPIED flag of entries (place and bits, flag); writes nothing where none changes.
    fn set_flags(
        &mut self,
        table: HostOffset,
        flags: impl Iterator<Item = ((usize, u64), bool)>,
    ) -> Result<()> {
        let changed: Vec<(usize, u64)> = flags
            .map(|((at, old), flag)| (at, old, if flag { old | COPIED } else { old & !COPIED }))
            .filter_map(|(at, old, new)| (old != new).then_some((at, new)))
            .collect();
        let (Some(first), Some(last)) = (changed.first(), changed.last()) else { return Ok(()) };
        let range = first.0 * 8..(last.0 + 1) * 8;
        let bytes = self.ordering.change(Side::Mappings, table, range)?;
        for (at, new) in changed {
            bytes[at * 8..(at + 1) * 8].copy_from_slice(&new.to_be_bytes());
        }
        Ok(())
    }
}

/// Entries of an L2 table whose clusters are neighbours.
struct EntryRun {
    clusters: ClusterRun,
    /// Place in the table, in 64-bit words, and bits of each.
    entries: Vec<(usize, u64)>,
}
