//! Adding persistent bitmaps to an image.
//!
//! Their bits, tables and a directory for all bitmaps are complete on disk before the header
//! extension points to them. While the extension is written, the autoclear bit marks that the
//! bitmaps are out of date, so a crash costs the existing ones and never leaves one that is wrong.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::HostOffset;
use crate::format::bitmap::{
    BITMAPS_EXTENSION_BYTES, BitmapEntry, BitmapTableEntry, BitmapsExtension, MAX_BITMAPS,
    MAX_DIRECTORY_BYTES, MAX_TABLE_ENTRIES,
};
use crate::format::encode_entries;
use crate::format::extension::{BITMAPS, END, EXTENSION_HEADER_BYTES, encode_extension};
use crate::format::feature::autoclear;
use crate::format::header::HeaderField;
use crate::tables::HeaderArea;

use super::Rebuilt;
use super::bits::BitmapBits;
use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::meta::bitmaps::{Bitmaps, POINTER_PLACE};

/// Bytes of the bitmaps extension with its type and length.
const WHOLE_EXTENSION_BYTES: u64 = (EXTENSION_HEADER_BYTES + BITMAPS_EXTENSION_BYTES) as u64;
/// Bytes of the mark that ends the list of extensions.
const END_BYTES: u64 = EXTENSION_HEADER_BYTES as u64;

/// Where the extension's data goes, and what has to be moved out of its way.
enum Place {
    /// Over that of the existing extension.
    Over(HostOffset),
    /// After the other extensions; the backing file's name goes to the second offset if it is
    /// there.
    Behind(HostOffset, Option<HostOffset>),
}

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
    fn require_room_for_bitmaps(&mut self, added: &[BitmapEntry]) -> Result<()> {
        self.require_writable()?;
        let refuse = |why: String| Err(Error::Refused(why));
        if self.header().version < 3 {
            return refuse("bitmaps need compat=1.1 (version 3)".into());
        }
        let there = self.bitmaps.as_ref().map_or(&[][..], Bitmaps::entries);
        let mut names: BTreeSet<&[u8]> = there.iter().map(|entry| &*entry.name).collect();
        for entry in added {
            let name = entry.name_text();
            if !names.insert(&entry.name) {
                return refuse(format!(
                    "there is a bitmap '{}' in the target already",
                    name.escape_debug()
                ));
            }
            if entry.table_entries_for(&self.geometry) > u64::from(MAX_TABLE_ENTRIES) {
                return refuse(format!(
                    "the bitmap '{}' is too fine for a disk of {} bytes",
                    name.escape_debug(),
                    self.geometry.virtual_size()
                ));
            }
        }
        let bytes = Bitmaps::encode(there).len() + Bitmaps::encode(added).len();
        if names.len() > MAX_BITMAPS as usize || bytes as u64 > MAX_DIRECTORY_BYTES {
            return refuse("there are too many bitmaps".into());
        }
        self.extension_place(&self.header_area()?).map(|_| ())
    }

    fn header_area(&self) -> Result<HeaderArea> {
        HeaderArea::load(self.ordering.disk.file.as_ref())
    }

    fn add_bitmaps(&mut self, added: &[(BitmapEntry, BitmapBits<'_>)]) -> Result<()> {
        let entries: Vec<_> = added.iter().map(|(entry, _)| entry.clone()).collect();
        self.require_room_for_bitmaps(&entries)?;
        self.prepare_write()?;
        self.store_bitmaps()?;
        let mut rebuilt = Rebuilt::beside(self.bitmaps.as_ref(), &self.geometry);
        let built = added
            .iter()
            .try_for_each(|(entry, bits)| self.build_bitmap(entry, bits, &mut rebuilt))
            .and_then(|()| self.build_directory(&mut rebuilt));
        let outcome = built.and_then(|()| self.lead_to(&rebuilt));
        self.finish_bitmaps(Some(rebuilt), outcome)?;
        self.flush(true)
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

    /// Makes the header point to a directory that is complete on disk.
    fn lead_to(&mut self, rebuilt: &Rebuilt) -> Result<()> {
        self.flush(true)?;
        let current = self.header().autoclear;
        self.set_autoclear(current & !autoclear::BITMAPS)?;
        let fields = BitmapsExtension {
            count: u32::try_from(rebuilt.entries.len()).unwrap_or(u32::MAX),
            reserved: 0,
            directory_bytes: Bitmaps::encode(&rebuilt.entries).len() as u64,
            directory: rebuilt.directory,
        };
        let area = self.header_area()?;
        let data = match self.extension_place(&area)? {
            Place::Over(data) => {
                self.write_header_part(data, &fields.encode())?;
                data
            }
            Place::Behind(at, name_to) => {
                self.move_name(&area, name_to)?;
                self.append_extension(at, &fields)?
            }
        };
        self.set_autoclear(current | autoclear::BITMAPS)?;
        if self.bitmaps.is_none() {
            let pointer = data.saturating_add(POINTER_PLACE);
            self.bitmaps = Some(Bitmaps::new(pointer, rebuilt.directory, Vec::new()));
        }
        Ok(())
    }

    fn set_autoclear(&mut self, bits: u64) -> Result<()> {
        if bits == self.header().autoclear {
            return Ok(());
        }
        self.ordering.disk.patch_header(&[(HeaderField::Autoclear, bits)])?;
        self.ordering.disk.sync()
    }

    fn write_header_part(&mut self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.ordering.disk.write_header_part(at, bytes)?;
        self.ordering.disk.sync()
    }

    /// Where an extension can go, as the header stands.
    fn extension_place(&self, area: &HeaderArea) -> Result<Place> {
        if let Some(there) = area.whole_extension(BITMAPS) {
            return match there.data.len() {
                BITMAPS_EXTENSION_BYTES => Ok(Place::Over(HostOffset::new(there.offset))),
                _ => no_room("its bitmaps extension has a wrong length"),
            };
        }
        let at = area.extensions_end();
        let mut mark = [0xff; EXTENSION_HEADER_BYTES];
        self.ordering.disk.read(HostOffset::new(at), &mut mark, "the header's extensions")?;
        if mark != [0; EXTENSION_HEADER_BYTES] || mark[..4] != END.to_be_bytes() {
            return no_room("the list of its extensions has no end mark");
        }
        let mut end = at + WHOLE_EXTENSION_BYTES + END_BYTES;
        let (name, name_bytes) =
            (area.header.backing_name_offset, u64::from(area.header.backing_name_len));
        let in_the_way = name != 0 && name_bytes != 0 && name < end;
        let name_to = in_the_way.then(|| end.max(name + name_bytes));
        end = name_to.map_or(end, |to| to + name_bytes);
        match end <= self.geometry.cluster_bytes() {
            true => Ok(Place::Behind(HostOffset::new(at), name_to.map(HostOffset::new))),
            false => no_room("its first cluster is full"),
        }
    }

    /// Puts the backing file's name elsewhere. Both places hold it while the header changes from
    /// one to the other.
    fn move_name(&mut self, area: &HeaderArea, to: Option<HostOffset>) -> Result<()> {
        let (Some(to), Some(name)) = (to, &area.backing_name) else { return Ok(()) };
        self.write_header_part(to, name)?;
        self.ordering.disk.patch_header(&[(HeaderField::BackingNameOffset, to.get())])?;
        self.ordering.disk.sync()
    }

    /// Writes an extension and a new end mark after it, over the old end mark last; returns where
    /// its data is.
    fn append_extension(
        &mut self,
        at: HostOffset,
        fields: &BitmapsExtension,
    ) -> Result<HostOffset> {
        let mut bytes = Vec::new();
        encode_extension(&mut bytes, BITMAPS, &fields.encode());
        encode_extension(&mut bytes, END, &[]);
        let (head, rest) = bytes.split_at(EXTENSION_HEADER_BYTES);
        let data = at.saturating_add(EXTENSION_HEADER_BYTES as u64);
        self.write_header_part(data, rest)?;
        self.write_header_part(at, head)?;
        Ok(data)
    }
}

fn no_room(why: &str) -> Result<Place> {
    Err(Error::Refused(format!("the image's header has no space for bitmaps: {why}")))
}
