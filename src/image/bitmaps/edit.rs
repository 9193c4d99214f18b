//! Changing one persistent bitmap: new, cleared, merged with others, recording or not, removed.

use crate::error::{Error, Result};
use crate::format::bitmap::{BitmapEntry, BitmapTableEntry, TYPE_DIRTY_TRACKING, flag};
use crate::format::{HostOffset, encode_entries};

use super::bits::BitmapBits;
use super::directory::require_data_limit;
use super::{Rebuilt, clear_bits};
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::run::ClusterRun;

/// A change of one bitmap, made as a whole.
pub(crate) struct BitmapEdit<'a> {
    /// The name of the bitmap.
    pub(crate) name: &'a [u8],
    /// What it is to be; `None`: it is removed.
    pub(crate) result: Option<BitmapResult<'a>>,
}

/// What a bitmap is to be.
pub(crate) struct BitmapResult<'a> {
    /// What its bits are before others are merged.
    pub(crate) start: BitmapStart,
    /// Whether it records writes.
    pub(crate) records: bool,
    /// Whose bits are set in it too; all are bitmaps of disks of the same size.
    pub(crate) merged: Vec<BitmapBits<'a>>,
}

/// What a bitmap starts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitmapStart {
    /// Its stored bits.
    Stored,
    /// All bits clear.
    Cleared,
    /// A new bitmap of this granularity, as log2 of the guest bytes for each bit. One of the same
    /// name is removed.
    New(u8),
}

impl Image {
    /// Changes a bitmap: after a crash or a failure the image has the bitmaps that it had before,
    /// or those after. What is not possible is refused before the first write. `advance` receives
    /// the guest bytes that are done, and gives the change up by an error.
    pub(crate) fn edit_bitmap(
        &self,
        edit: &BitmapEdit<'_>,
        advance: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let mut meta = self.meta()?;
        meta.require_edit(edit)?;
        meta.replace_bitmaps(|meta, rebuilt| meta.build_edit(edit, rebuilt, advance))
    }
}

impl Meta {
    /// Refuses an edit whose result has no space in the image's header or directory.
    fn require_edit(&self, edit: &BitmapEdit<'_>) -> Result<()> {
        let Some(BitmapResult { start: BitmapStart::New(bits), .. }) = edit.result else {
            return self.require_writable();
        };
        let new = new_entry(edit.name, bits);
        require_data_limit(&new, &self.geometry)?;
        let kept = self.bitmap_entries().iter().filter(|entry| entry.name != edit.name);
        self.require_directory(&kept.cloned().chain([new]).collect::<Vec<_>>())
    }

    fn build_edit(
        &mut self,
        edit: &BitmapEdit<'_>,
        rebuilt: &mut Rebuilt,
        advance: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let found = rebuilt.entries.iter().position(|entry| entry.name == edit.name);
        let start = edit.result.as_ref().map(|result| result.start);
        if let (Some(index), None | Some(BitmapStart::New(_))) = (found, start) {
            let old = rebuilt.entries.remove(index);
            let table = self.bitmap_table(&old)?;
            self.free_after_switch(&old, &table, rebuilt);
        }
        let Some(result) = &edit.result else { return advance(self.geometry.virtual_size()) };
        let index = match (result.start, found) {
            (BitmapStart::New(bits), _) => {
                rebuilt.entries.push(new_entry(edit.name, bits));
                rebuilt.entries.len() - 1
            }
            (_, Some(index)) => index,
            (_, None) => return Err(Error::Refused("there is no bitmap to change".into())),
        };
        let mut entry = rebuilt.entries[index].clone();
        let recording = if result.records { flag::AUTO } else { 0 };
        entry.flags = entry.flags & !flag::AUTO | recording;
        self.build_bits(&mut entry, result, rebuilt, advance)?;
        rebuilt.entries[index] = entry;
        Ok(())
    }

    /// Gives a bitmap the bits that it is to have, and a table for them where they change.
    fn build_bits(
        &mut self,
        entry: &mut BitmapEntry,
        result: &BitmapResult<'_>,
        rebuilt: &mut Rebuilt,
        advance: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let wanted = usize::try_from(entry.table_entries_for(&self.geometry)).unwrap_or(usize::MAX);
        let is_new = entry.table.get() == 0;
        let mut table = if is_new { vec![0; wanted] } else { self.bitmap_table(entry)? };
        let mut changed = is_new;
        if result.start == BitmapStart::Cleared && table.iter().any(|&bits| bits != 0) {
            self.free_after_switch(entry, &table, rebuilt);
            (entry.table, table) = (HostOffset::new(0), vec![0; wanted]);
            changed = true;
        }
        changed |= self.merge_sources(entry, &mut table, &result.merged, rebuilt, advance)?;
        match (changed, entry.table.get()) {
            (false, _) => Ok(()),
            (true, 0) => {
                let bytes = encode_entries(&table);
                entry.table = self.write_bitmap_part(&bytes, &mut rebuilt.allocations)?;
                entry.table_entries = u32::try_from(table.len()).unwrap_or(u32::MAX);
                Ok(())
            }
            _ => self.replace_table(entry, &table, rebuilt),
        }
    }

    /// Sets the bits of other bitmaps, one cluster of bits after the other; whether any was clear.
    fn merge_sources(
        &mut self,
        entry: &BitmapEntry,
        table: &mut [u64],
        sources: &[BitmapBits<'_>],
        rebuilt: &mut Rebuilt,
        advance: &dyn Fn(u64) -> Result<()>,
    ) -> Result<bool> {
        let size = self.geometry.virtual_size();
        if sources.is_empty() {
            return advance(size).map(|()| false);
        }
        let per_cluster = self.geometry.cluster_bytes() * 8;
        let all = entry.bits_for(size);
        let mut added = vec![0; self.geometry.cluster_len()];
        let mut buffer = added.clone();
        let (mut changed, mut done) = (false, 0);
        for (index, slot) in (0..all.div_ceil(per_cluster)).zip(table) {
            let first = index * per_cluster;
            let mut any = false;
            for source in sources {
                let granularity = entry.granularity_bits;
                any |= source.merge_into(granularity, first, &mut added, &mut buffer)?;
            }
            if any {
                if all - first < per_cluster {
                    clear_bits(&mut added, all - first);
                }
                changed |= self.merge_part(slot, &added, rebuilt)?;
                added.fill(0);
            }
            let end = ((first + per_cluster) << entry.granularity_bits).min(size);
            advance(end - done)?;
            done = end;
        }
        Ok(changed)
    }

    /// What only this bitmap uses is freed once the header no longer points to it.
    fn free_after_switch(&self, entry: &BitmapEntry, table: &[u64], rebuilt: &mut Rebuilt) {
        let data = table.iter().filter_map(|&bits| BitmapTableEntry(bits).data());
        rebuilt.replaced.extend(data.map(|at| ClusterRun::of(&self.geometry, at, 1)));
        let bytes = u64::from(entry.table_entries) * 8;
        rebuilt.replaced.push(ClusterRun::of(&self.geometry, entry.table, bytes));
    }
}

/// A bitmap without a table.
fn new_entry(name: &[u8], granularity_bits: u8) -> BitmapEntry {
    BitmapEntry {
        table: HostOffset::new(0),
        table_entries: 0,
        flags: 0,
        kind: TYPE_DIRTY_TRACKING,
        granularity_bits,
        extra: Vec::new(),
        name: name.to_vec(),
    }
}
