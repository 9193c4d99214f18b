//! Adding persistent bitmaps to an image.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::bitmap::{BitmapEntry, BitmapTableEntry};
use crate::format::encode_entries;

use super::Rebuilt;
use super::bits::BitmapBits;
use super::directory::require_data_limit;
use crate::image::Image;
use crate::image::meta::Meta;

impl Image {
    /// Refuses bitmaps that this image cannot take: of a name that it has already, or without space
    /// in its header.
    pub fn require_room_for_bitmaps(&self, added: &[BitmapEntry]) -> Result<()> {
        self.meta()?.require_room_for_bitmaps(added)
    }

    /// Adds bitmaps, each with its bits; those after their ends are clear. Names, flags and
    /// granularities are those of the entries, tables are made new. A failure leaves the bitmaps
    /// that there were.
    pub fn add_bitmaps(&self, added: &[(BitmapEntry, BitmapBits<'_>)]) -> Result<()> {
        if added.is_empty() { Ok(()) } else { self.meta()?.add_bitmaps(added) }
    }
}

impl Meta {
    fn require_room_for_bitmaps(&self, added: &[BitmapEntry]) -> Result<()> {
        let there = self.bitmap_entries();
        let mut names: BTreeSet<&[u8]> = there.iter().map(|entry| &*entry.name).collect();
        for entry in added {
            if !names.insert(&entry.name) {
                return Err(Error::Refused(format!(
                    "there is a bitmap '{}' in the target already",
                    entry.name_text().escape_debug()
                )));
            }
            require_data_limit(entry, &self.geometry)?;
        }
        self.require_directory(&[there, added].concat())
    }

    fn add_bitmaps(&mut self, added: &[(BitmapEntry, BitmapBits<'_>)]) -> Result<()> {
        let entries: Vec<_> = added.iter().map(|(entry, _)| entry.clone()).collect();
        self.require_room_for_bitmaps(&entries)?;
        self.replace_bitmaps(|meta, rebuilt| {
            added.iter().try_for_each(|(entry, bits)| meta.build_bitmap(entry, bits, rebuilt))
        })
    }

    fn build_bitmap(
        &mut self,
        entry: &BitmapEntry,
        bits: &BitmapBits<'_>,
        rebuilt: &mut Rebuilt,
    ) -> Result<()> {
        let mut cluster = vec![0; self.geometry.cluster_len()];
        let mut table = Vec::new();
        for index in 0..entry.table_entries_for(&self.geometry) {
            bits.read(index * self.geometry.cluster_bytes(), &mut cluster)?;
            table.push(match BitmapTableEntry::of_alike(&cluster) {
                Some(entry) => entry.0,
                None => self.write_bitmap_part(&cluster, &mut rebuilt.allocations)?.get(),
            });
        }
        let at = self.write_bitmap_part(&encode_entries(&table), &mut rebuilt.allocations)?;
        let table_entries = u32::try_from(table.len()).unwrap_or(u32::MAX);
        rebuilt.entries.push(BitmapEntry { table: at, table_entries, ..entry.clone() });
        Ok(())
    }
}
