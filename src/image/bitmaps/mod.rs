//! Persistent bitmaps: cut or lengthened with the disk, and those that record receive what the
//! guest wrote.
//!
//! New tables and a new directory are built beside the old ones; one write of eight bytes in the
//! header extension switches to them. Where that cannot be part of the write that changes the
//! disk's size, the bitmaps are marked as in use from before that write until after the switch: a
//! crash between the two costs them, and never leaves one that is wrong or that keeps the image
//! from being opened.

mod add;
mod bits;
mod directory;
mod edit;
mod scale;

pub use bits::BitmapBits;
pub(crate) use edit::{BitmapEdit, BitmapResult, BitmapStart};

use crate::error::{Error, Result};
use crate::format::bitmap::{BitmapEntry, BitmapTableEntry, flag};
use crate::format::header::HeaderField;
use crate::format::{Geometry, GuestOffset, HostOffset, encode_entries};
use crate::tables::load_entries;

use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::meta::bitmaps::{Bitmaps, Recorded};
use crate::image::order::regions::Owner;
use crate::image::run::ClusterRun;
use crate::image::space::alloc::Allocation;

/// A directory and what belongs to it, on disk but not switched to.
pub(in crate::image) struct Rebuilt {
    pub(in crate::image) directory: HostOffset,
    pub(in crate::image) entries: Vec<BitmapEntry>,
    pub(in crate::image) allocations: Vec<Allocation>,
    replaced: Vec<ClusterRun>,
}

impl Rebuilt {
    /// The same bitmaps, of which only the directory is replaced.
    pub(in crate::image) fn beside(bitmaps: Option<&Bitmaps>, geometry: &Geometry) -> Self {
        let entries = bitmaps.map_or(Vec::new(), |bitmaps| bitmaps.entries.clone());
        let old_run = bitmaps.map(|bitmaps| bitmaps.run(bitmaps.directory, geometry));
        let (directory, allocations) = (HostOffset::new(0), Vec::new());
        Self { directory, entries, allocations, replaced: old_run.into_iter().collect() }
    }
}

/// Clears the bits from `first` on; whether any was set.
fn clear_bits(bytes: &mut [u8], first: u64) -> bool {
    let place = usize::try_from(first / 8).unwrap_or(usize::MAX);
    let kept = bytes[place] & ((1 << (first % 8)) - 1);
    let any = bytes[place] != kept || bytes[place + 1..].iter().any(|&byte| byte != 0);
    bytes[place] = kept;
    bytes[place + 1..].fill(0);
    any
}

impl Meta {
    /// Before guest data changes in this range: marks the bitmaps that record as in use, which is
    /// which in the format means that their stored bits are no longer valid, and notes what they
    /// have to record.
    pub(in crate::image) fn begin_data_write(
        &mut self,
        at: GuestOffset,
        length: u64,
    ) -> Result<()> {
        self.prepare_write()?;
        let Some(bitmaps) = &mut self.bitmaps else { return Ok(()) };
        let records = |entry: &BitmapEntry| entry.flags & flag::AUTO != 0 && !entry.is_in_use();
        if bitmaps.recorded.is_empty() && bitmaps.entries.iter().any(records) {
            let recording: Vec<usize> =
                (0..bitmaps.entries.len()).filter(|&n| records(&bitmaps.entries[n])).collect();
            self.mark_in_use(&recording)?;
        }
        let cluster_bytes = self.geometry.cluster_len();
        if let Some(bitmaps) = self.bitmaps.as_mut().filter(|_| length > 0) {
            bitmaps.record(at, length, cluster_bytes);
        }
        Ok(())
    }

    fn mark_in_use(&mut self, recording: &[usize]) -> Result<()> {
        let Some(mut bitmaps) = self.bitmaps.take() else { return Ok(()) };
        let outcome = self.write_flags(&bitmaps, recording, flag::IN_USE);
        if outcome.is_ok() {
            bitmaps.recorded = recording.iter().map(|&n| (n, Recorded::new())).collect();
        }
        self.bitmaps = Some(bitmaps);
        outcome
    }

    /// Adds flags to those of some bitmaps, on disk and not in memory.
    fn write_flags(&mut self, bitmaps: &Bitmaps, which: &[usize], added: u32) -> Result<()> {
        let places = bitmaps.flag_places();
        for &n in which {
            let flags = (bitmaps.entries[n].flags | added).to_be_bytes();
            self.ordering.disk.write(Owner::BitmapDirectory, places[n], &flags, "bitmap flags")?;
        }
        self.ordering.disk.sync()
    }

    /// Stores what the bitmaps recorded, after which they are no longer in use.
    pub(in crate::image) fn store_bitmaps(&mut self) -> Result<()> {
        let Some(bitmaps) = &mut self.bitmaps else { return Ok(()) };
        if bitmaps.recorded.is_empty() {
            return Ok(());
        }
        let recorded = std::mem::take(&mut bitmaps.recorded);
        let bitmaps = bitmaps.clone();
        let rebuilt = self.rebuild(|meta, index, entry, rebuilt| match recorded.get(&index) {
            Some(recorded) => meta.merge_bits(entry, recorded, rebuilt),
            None => Ok(false),
        })?;
        let Some(rebuilt) = rebuilt else {
            return self.write_flags(&bitmaps, &recorded.into_keys().collect::<Vec<_>>(), 0);
        };
        let outcome = self.switch_header(&[], Some(&rebuilt));
        let outcome = outcome.and_then(|()| self.ordering.disk.sync());
        self.finish_bitmaps(Some(rebuilt), outcome)?;
        self.flush(true)
    }

    /// Builds bitmaps for a disk of `size` bytes; `None` where those that there are will do.
    pub(in crate::image) fn resized_bitmaps(&mut self, size: u64) -> Result<Option<Rebuilt>> {
        self.rebuild(|meta, _, entry, rebuilt| meta.resize_bitmap(entry, size, rebuilt))
    }

    /// Changes header fields and switches to rebuilt bitmaps, in one write where that is possible.
    pub(in crate::image) fn switch_header(
        &mut self,
        fields: &[(HeaderField, u64)],
        rebuilt: Option<&Rebuilt>,
    ) -> Result<()> {
        let directory = rebuilt.map(|rebuilt| rebuilt.directory);
        if self.add_to_switch(fields, directory) {
            return Ok(());
        }
        self.flush(true)?;
        let bitmaps = self.bitmaps.take();
        let outcome = self.patch_header_and_bitmaps(fields, bitmaps.as_ref().zip(directory));
        self.bitmaps = bitmaps;
        outcome
    }

    /// Changes header fields and makes these bitmaps, as the file has them, those of another
    /// directory.
    pub(in crate::image) fn patch_header_and_bitmaps(
        &mut self,
        fields: &[(HeaderField, u64)],
        bitmaps: Option<(&Bitmaps, HostOffset)>,
    ) -> Result<()> {
        let Some((bitmaps, directory)) = bitmaps else {
            return self.ordering.disk.patch_header(fields);
        };
        if bitmaps.switches_with_header() {
            let pointer = (bitmaps.pointer, directory.get());
            return self.ordering.disk.patch_header_and(fields, pointer);
        }
        if !fields.is_empty() {
            let all: Vec<usize> = (0..bitmaps.entries.len()).collect();
            self.write_flags(bitmaps, &all, flag::IN_USE)?;
            self.ordering.disk.patch_header(fields)?;
            self.ordering.disk.sync()?;
        }
        let bytes = directory.get().to_be_bytes();
        self.ordering.disk.write(Owner::Header, bitmaps.pointer, &bytes, "the header")
    }

    /// After the switch: what is replaced is freed. After a failure: what was built is.
    pub(in crate::image) fn finish_bitmaps<T>(
        &mut self,
        rebuilt: Option<Rebuilt>,
        outcome: Result<T>,
    ) -> Result<T> {
        let Some(rebuilt) = rebuilt else { return outcome };
        if outcome.is_err() {
            self.drop_rebuilt(rebuilt);
            return outcome;
        }
        for allocation in rebuilt.allocations {
            allocation.commit();
        }
        let after = self.bitmaps.as_ref().is_some_and(|bitmaps| !bitmaps.switches_with_header());
        match &mut self.switch {
            // The header points to the old directory for a moment longer.
            Some(switch) if after => switch.free_after.extend(rebuilt.replaced),
            _ => rebuilt.replaced.into_iter().for_each(|run| self.free_later(run)),
        }
        if let Some(bitmaps) = &mut self.bitmaps {
            let regions = &mut self.ordering.disk.regions;
            regions.remove(bitmaps.run(bitmaps.directory, &self.geometry), Owner::BitmapDirectory);
            bitmaps.directory = rebuilt.directory;
            bitmaps.entries = rebuilt.entries;
            match bitmaps.entries.is_empty() {
                true => self.bitmaps = None,
                false => {
                    let run = bitmaps.run(bitmaps.directory, &self.geometry);
                    regions.add(run, Owner::BitmapDirectory);
                }
            }
        }
        outcome
    }

    fn drop_rebuilt(&mut self, rebuilt: Rebuilt) {
        for allocation in rebuilt.allocations {
            // Failing to give back leaks, at worst; the first error is the one to report.
            let _ = allocation.release(self);
        }
    }

    /// Changes bitmaps with `change`, which returns whether it did, and writes a directory for
    /// them.
    fn rebuild(
        &mut self,
        change: impl Fn(&mut Self, usize, &mut BitmapEntry, &mut Rebuilt) -> Result<bool>,
    ) -> Result<Option<Rebuilt>> {
        let Some(bitmaps) = &self.bitmaps else { return Ok(None) };
        let mut rebuilt = Rebuilt::beside(Some(bitmaps), &self.geometry);
        let mut entries = std::mem::take(&mut rebuilt.entries);
        let mut changed = Ok(false);
        for (index, entry) in entries.iter_mut().enumerate() {
            changed = changed.and_then(|any| Ok(change(self, index, entry, &mut rebuilt)? | any));
        }
        rebuilt.entries = entries;
        let outcome = changed.and_then(|any| {
            if any {
                self.build_directory(&mut rebuilt)?;
            }
            Ok(any)
        });
        match outcome {
            Ok(true) => Ok(Some(rebuilt)),
            outcome => {
                self.drop_rebuilt(rebuilt);
                outcome.map(|_| None)
            }
        }
    }

    /// Writes the directory of what was built.
    pub(in crate::image) fn build_directory(&mut self, rebuilt: &mut Rebuilt) -> Result<()> {
        let bytes = Bitmaps::encode(&rebuilt.entries);
        rebuilt.directory = self.write_bitmap_part(&bytes, &mut rebuilt.allocations)?;
        Ok(())
    }

    /// Writes a part of a bitmap, or their directory, to a new place.
    pub(in crate::image) fn write_bitmap_part(
        &mut self,
        bytes: &[u8],
        allocations: &mut Vec<Allocation>,
    ) -> Result<HostOffset> {
        let allocation = self.write_aside(Owner::BitmapDirectory, bytes, "a bitmap")?;
        let at = self.geometry.offset_of(allocation.run().first);
        allocations.push(allocation);
        Ok(at)
    }

    fn bitmap_table(&self, entry: &BitmapEntry) -> Result<Vec<u64>> {
        let (at, count) = (entry.table, u64::from(entry.table_entries));
        let table = load_entries(self.ordering.disk.file.as_ref(), at, count);
        let table = table.map_err(|e| Error::io("read a bitmap table", at.get(), e))?;
        match table.iter().find(|&&bits| BitmapTableEntry(bits).is_broken(&self.geometry)) {
            Some(_) => Err(damaged(at, "a bitmap table with an entry that is not valid")),
            None => Ok(table),
        }
    }

    /// The bits that an entry of a bitmap table points to.
    fn bitmap_bits(&self, entry: BitmapTableEntry) -> Result<Vec<u8>> {
        let mut bytes =
            vec![if entry.is_all_ones() { 0xff } else { 0 }; self.geometry.cluster_len()];
        if let Some(at) = entry.data() {
            self.ordering.disk.read(at, &mut bytes, "a bitmap")?;
        }
        Ok(bytes)
    }

    /// Puts new bits in the place of those of an entry of a bitmap table.
    fn replace_bits(&mut self, slot: &mut u64, bytes: &[u8], rebuilt: &mut Rebuilt) -> Result<()> {
        let old = BitmapTableEntry(*slot).data();
        *slot = match BitmapTableEntry::of_alike(bytes) {
            Some(entry) => entry.0,
            None => self.write_bitmap_part(bytes, &mut rebuilt.allocations)?.get(),
        };
        rebuilt.replaced.extend(old.map(|at| ClusterRun::of(&self.geometry, at, 1)));
        Ok(())
    }

    fn replace_table(
        &mut self,
        entry: &mut BitmapEntry,
        table: &[u64],
        rebuilt: &mut Rebuilt,
    ) -> Result<()> {
        let old_bytes = u64::from(entry.table_entries) * 8;
        rebuilt.replaced.push(ClusterRun::of(&self.geometry, entry.table, old_bytes));
        entry.table = self.write_bitmap_part(&encode_entries(table), &mut rebuilt.allocations)?;
        entry.table_entries = u32::try_from(table.len()).unwrap_or(u32::MAX);
        Ok(())
    }

    fn merge_bits(
        &mut self,
        entry: &mut BitmapEntry,
        recorded: &Recorded,
        rebuilt: &mut Rebuilt,
    ) -> Result<bool> {
        let mut table = self.bitmap_table(entry)?;
        let mut changed = false;
        for (&part, added) in recorded {
            let Some(slot) = table.get_mut(part) else { continue };
            changed |= self.merge_part(slot, added, rebuilt)?;
        }
        if changed {
            self.replace_table(entry, &table, rebuilt)?;
        }
        Ok(changed)
    }

    /// Sets more bits of those that an entry of a bitmap table points to; whether any was clear.
    fn merge_part(&mut self, slot: &mut u64, added: &[u8], rebuilt: &mut Rebuilt) -> Result<bool> {
        let mut bytes = self.bitmap_bits(BitmapTableEntry(*slot))?;
        if bytes.iter().zip(added).all(|(old, added)| old & added == *added) {
            return Ok(false);
        }
        bytes.iter_mut().zip(added).for_each(|(old, added)| *old |= added);
        self.replace_bits(slot, &bytes, rebuilt)?;
        Ok(true)
    }

    /// Gives a bitmap the length for a disk of `size` bytes: what is new of it is clear, also in
    /// its last cluster.
    fn resize_bitmap(
        &mut self,
        entry: &mut BitmapEntry,
        size: u64,
        rebuilt: &mut Rebuilt,
    ) -> Result<bool> {
        let mut table = self.bitmap_table(entry)?;
        let per_cluster = self.geometry.cluster_bytes() * 8;
        let wanted = entry.table_entries_for(&self.geometry.with_virtual_size(size));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut changed = wanted != table.len();
        for &bits in table.iter().skip(wanted) {
            let data = BitmapTableEntry(bits).data();
            rebuilt.replaced.extend(data.map(|at| ClusterRun::of(&self.geometry, at, 1)));
        }
        table.resize(wanted, 0);
        let kept = entry.bits_for(size.min(self.geometry.virtual_size()));
        let last = usize::try_from(kept / per_cluster).unwrap_or(usize::MAX);
        if let Some(slot) = table.get_mut(last).filter(|bits| **bits != 0) {
            let mut bytes = self.bitmap_bits(BitmapTableEntry(*slot))?;
            if clear_bits(&mut bytes, kept % per_cluster) {
                self.replace_bits(slot, &bytes, rebuilt)?;
                changed = true;
            }
        }
        if changed {
            self.replace_table(entry, &table, rebuilt)?;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_cleared_within_and_across_bytes() {
        let mut bytes = [0b1011_1000, 0xff, 0xff, 1];
        assert!(clear_bits(&mut bytes, 12));
        assert_eq!(bytes, [0b1011_1000, 0x0f, 0, 0]);
        assert!(!clear_bits(&mut bytes, 12));
    }
}
