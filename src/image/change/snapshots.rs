//! Several states of the disk in one image: another active L1 table, snapshots taken, deleted and
//! applied.
//!
//! Each of them is built aside and switched to at once (see `switch`). Where there is no free space
//! for that, a snapshot is still deleted and applied, in place.

use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::l1::{COPIED, L1Entry};
use crate::format::l2::L2Entry;
use crate::format::snapshot::{MAX_SNAPSHOTS, MAX_TABLE_BYTES, SnapshotEntry, encode_table};
use crate::format::{ClusterCount, HostOffset, decode_entries, encode_entries};
use crate::tables::load_entries;

use crate::image::Image;
use crate::image::bitmaps::Rebuilt;
use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::order::regions::Owner;
use crate::image::order::root::RootTable;
use crate::image::run::ClusterRun;
use crate::image::space::alloc::Allocation;
use crate::image::space::refcounts::Change;

/// Most entries that are looked at together.
const MAX_RUN: usize = 1024;

impl Image {
    pub(in crate::image) fn meta_mut(&mut self) -> Result<&mut Meta> {
        self.meta.get_mut().map_err(|_| crate::image::panicked())
    }

    /// Takes a snapshot: `entry` has everything but the offset and length of its L1 table.
    pub(crate) fn take_snapshot(&mut self, entry: SnapshotEntry) -> Result<()> {
        self.meta_mut()?.change_at_once(|meta| meta.add_snapshot(entry))
    }

    /// Deletes the snapshot at a position of the table.
    pub(crate) fn delete_snapshot(&mut self, index: usize) -> Result<()> {
        self.meta_mut()?.change_or_in_place(|meta| meta.remove_snapshot(index))
    }

    /// Makes the state of a snapshot the active one, with a disk of `size` bytes.
    pub(crate) fn apply_snapshot(&mut self, index: usize, size: u64) -> Result<()> {
        self.meta_mut()?.change_or_in_place(|meta| meta.go_back(index, size))?;
        self.geometry = self.geometry.with_virtual_size(size);
        Ok(())
    }
}

impl Meta {
    fn add_snapshot(&mut self, mut entry: SnapshotEntry) -> Result<()> {
        self.clear_copied()?;
        let l1 = self.l1_entries().to_vec();
        self.change_tree(&l1, Change::Raise)?;
        let mut list = self.snapshots.clone();
        // An empty disk has no L1 table at all.
        if !l1.is_empty() {
            let bytes = encode_entries(&l1);
            let run = self.write_aside(Owner::SnapshotL1, &bytes, "an L1 table")?.commit();
            self.ordering.disk.regions.add(run, Owner::SnapshotL1);
            entry.header.l1_table = self.geometry.offset_of(run.first);
            entry.header.l1_entries = u32::try_from(l1.len()).unwrap_or(u32::MAX);
        }
        list.push(entry);
        self.switch_snapshots(list)
    }

    /// Takes a snapshot out of the table first, so that in place a crash leaves refcounts that are
    /// too high.
    fn remove_snapshot(&mut self, index: usize) -> Result<()> {
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
        self.set_copied()
    }

    fn go_back(&mut self, index: usize, size: u64) -> Result<()> {
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
        let old = self.l1_entries().to_vec();
        self.change_tree(&l1, Change::Raise)?;
        let flags = if self.switch.is_none() { self.clear_copied_of(&l1) } else { Ok(()) };
        let outcome = flags.and_then(|()| self.switch_active(l1.clone(), size, None));
        if outcome.is_err() && self.switch.is_none() {
            // The first error is the one to report.
            let _ = self.change_tree(&l1, Change::Lower);
        }
        outcome?;
        self.give_back_room();
        self.change_tree(&old, Change::Lower)?;
        self.free_pending()?;
        self.set_copied()
    }

    pub(in crate::image) fn set_size(&mut self, size: u64) {
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
    pub(in crate::image) fn write_aside(
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
        match self.ordering.disk.write_unreferenced(owner, at, bytes, what) {
            Ok(()) => Ok(allocation),
            Err(error) => allocation.settle(self, Err(error)),
        }
    }

    /// Makes `l1` the active L1 table of a disk of `size` bytes, and `bitmaps` its bitmaps if they
    /// change. The old table is freed, not what it refers to.
    pub(in crate::image) fn switch_active(
        &mut self,
        l1: Vec<u64>,
        size: u64,
        bitmaps: Option<Rebuilt>,
    ) -> Result<()> {
        if self.switch.is_some() {
            return self.adopt_active(l1, size, bitmaps);
        }
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
        self.note_tables(&l1);
        let regions = &mut self.ordering.disk.regions;
        regions.remove(old_run, Owner::L1);
        regions.add(run, Owner::L1);
        self.ordering.replace_root(Side::Mappings, RootTable::new(at, l1));
        self.free_later(old_run);
        self.set_size(size);
        Ok(())
    }

    /// [`Meta::switch_active`] in a change that is built aside, which gives the L1 table its place
    /// at the end.
    fn adopt_active(&mut self, l1: Vec<u64>, size: u64, bitmaps: Option<Rebuilt>) -> Result<()> {
        let outcome = self.switch_header(&[(HeaderField::Size, size)], bitmaps.as_ref());
        self.finish_bitmaps(bitmaps, outcome)?;
        if l1 != self.l1_entries() {
            self.note_tables(&l1);
            self.ordering.root_mut(Side::Mappings).replace(l1);
        }
        self.set_size(size);
        Ok(())
    }

    /// The L2 tables are those of `l1` now, and no longer those of the present L1 table.
    fn note_tables(&mut self, l1: &[u64]) {
        let geometry = self.geometry;
        let runs_of = |entries: &[u64]| -> Vec<ClusterRun> {
            let tables = entries.iter().map(|&bits| L1Entry(bits).offset());
            tables.filter(|at| at.get() != 0).map(|at| ClusterRun::of(&geometry, at, 1)).collect()
        };
        let old = runs_of(self.l1_entries());
        let regions = &mut self.ordering.disk.regions;
        old.into_iter().for_each(|run| regions.remove(run, Owner::L2));
        runs_of(l1).into_iter().for_each(|run| regions.add(run, Owner::L2));
    }

    /// Makes `list` the snapshot table, with complete entries, as QEMU writes them.
    pub(super) fn switch_snapshots(&mut self, list: Vec<SnapshotEntry>) -> Result<()> {
        let size = self.geometry.virtual_size();
        let list: Vec<_> = list.into_iter().map(|entry| entry.completed(size)).collect();
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
        let outcome = self.switch_header(&fields, None);
        match table {
            Some(table) => table.settle(self, outcome)?,
            None => outcome?,
        }
        if self.switch.is_none() {
            self.ordering.disk.sync()?;
        }
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

    /// Adds or takes away one reference from all that an L1 table refers to: L2 tables and what
    /// they refer to. A failure to add undoes what was added.
    pub(in crate::image) fn change_tree(&mut self, l1: &[u64], change: Change) -> Result<()> {
        let tables = l1.iter().map(|&bits| L1Entry(bits).offset());
        let tables: Vec<HostOffset> = tables.filter(|table| table.get() > 0).collect();
        self.all_or_none(
            &tables,
            |meta, &table| {
                meta.go_on()?;
                if !meta.geometry.is_aligned(table) {
                    return Err(damaged(table, "an L2 table that does not begin at a cluster"));
                }
                meta.change_table(table, change)
            },
            |meta, &table| match change {
                Change::Raise => meta.change_table(table, Change::Lower),
                Change::Lower => Ok(()),
            },
        )
    }

    fn change_table(&mut self, table: HostOffset, change: Change) -> Result<()> {
        let mut runs = self.references(table, 0)?;
        runs.push(ClusterRun::one(self.geometry.cluster_floor(table)));
        self.all_or_none(
            &runs,
            |meta, &run| match change {
                Change::Raise => meta.raise(run, 1),
                Change::Lower => meta.lower(run, 1),
            },
            |meta, &run| match change {
                Change::Raise => meta.lower_unreferenced(run, 1),
                Change::Lower => Ok(()),
            },
        )?;
        if change == Change::Lower && self.refcount(self.geometry.cluster_floor(table))? == 0 {
            self.ordering.forget(Side::Mappings, table);
        }
        Ok(())
    }

    /// What the entries of an L2 table refer to, from byte `start` of the table on.
    pub(in crate::image) fn references(
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
        for index in 0..self.l1_entries().len() {
            let table = L1Entry(self.l1_entries()[index]).offset();
            if table.get() == 0 {
                continue;
            }
            self.go_on()?;
            let runs = self.entry_runs(table)?;
            let flags = runs.into_iter().flat_map(|run| run.entries).map(|entry| (entry, false));
            self.set_flags(index, flags.collect())?;
            self.set_l1_flag(index, false);
        }
        Ok(())
    }

    /// Takes the COPIED flag, in place, from the entries of all L2 tables that an L1 table refers
    /// to.
    fn clear_copied_of(&mut self, l1: &[u64]) -> Result<()> {
        for &bits in l1 {
            let table = L1Entry(bits).offset();
            if table.get() != 0 {
                for run in self.entry_runs(table)? {
                    let flags = run.entries.into_iter().map(|entry| (entry, false)).collect();
                    self.set_flags_of(table, changed(flags))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the COPIED flag to everything active that has one reference, and takes it from the
    /// rest.
    fn set_copied(&mut self) -> Result<()> {
        for index in 0..self.l1_entries().len() {
            let table = L1Entry(self.l1_entries()[index]).offset();
            if table.get() == 0 {
                continue;
            }
            self.go_on()?;
            let mut flags = Vec::new();
            for run in self.entry_runs(table)? {
                let counts = self.refcounts(run.clusters)?;
                let alone = counts.into_iter().map(|count| count == 1);
                flags.extend(run.entries.into_iter().zip(alone));
            }
            let table = self.set_flags(index, flags)?;
            let alone = self.refcount(self.geometry.cluster_floor(table))? == 1;
            self.set_l1_flag(index, alone);
        }
        Ok(())
    }

    fn set_l1_flag(&mut self, index: usize, flag: bool) {
        let entry = L1Entry(self.l1_entries()[index]);
        if entry.copied() != flag {
            self.ordering.set_root_entry(Side::Mappings, index, entry.with_copied(flag).0);
        }
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

    /// Sets the COPIED flag of entries of an active L2 table. Returns the table, which may be a
    /// copy now.
    fn set_flags(&mut self, index: usize, flags: Vec<((usize, u64), bool)>) -> Result<HostOffset> {
        let changed = changed(flags);
        if changed.is_empty() {
            return Ok(L1Entry(self.l1_entries()[index]).offset());
        }
        let table = self.table_to_change(index)?;
        self.set_flags_of(table, changed)?;
        Ok(table)
    }

    fn set_flags_of(&mut self, table: HostOffset, changed: Vec<(usize, u64)>) -> Result<()> {
        let (Some(first), Some(last)) = (changed.first(), changed.last()) else { return Ok(()) };
        let range = first.0 * 8..(last.0 + 1) * 8;
        let bytes = self.ordering.change(Side::Mappings, table, range)?;
        for (at, new) in changed {
            bytes[at * 8..(at + 1) * 8].copy_from_slice(&new.to_be_bytes());
        }
        Ok(())
    }
}

/// Entries (place and bits) with the flag that each is to have, in the order of the table: those
/// that change, with their new bits.
fn changed(flags: Vec<((usize, u64), bool)>) -> Vec<(usize, u64)> {
    flags
        .into_iter()
        .map(|((at, old), flag)| (at, old, if flag { old | COPIED } else { old & !COPIED }))
        .filter_map(|(at, old, new)| (old != new).then_some((at, new)))
        .collect()
}

/// Entries of an L2 table whose clusters are neighbours.
struct EntryRun {
    clusters: ClusterRun,
    /// Place in the table, in 64-bit words, and bits of each.
    entries: Vec<(usize, u64)>,
}
