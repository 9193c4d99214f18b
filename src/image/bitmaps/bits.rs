//! Reading the bits of persistent bitmaps.

use crate::error::{Error, Result};
use crate::format::bitmap::{BitmapEntry, BitmapTableEntry};
use crate::format::feature::autoclear;
use crate::tables::{BitmapDirectory, HeaderArea, load_entries};

use crate::image::Image;
use crate::image::damage::damaged;

/// The bits of one bitmap, as bytes in their order.
pub struct BitmapBits<'a> {
    image: &'a Image,
    table: Vec<BitmapTableEntry>,
}

impl Image {
    /// The persistent bitmaps as stored in the file; none where they are out of date.
    pub fn stored_bitmaps(&self) -> Result<Vec<BitmapEntry>> {
        let area = HeaderArea::load(self.file.as_ref())?;
        let consistent = area.header.autoclear & autoclear::BITMAPS != 0;
        let Some(extension) = area.bitmaps().filter(|_| consistent) else {
            return Ok(Vec::new());
        };
        let directory = BitmapDirectory::load(self.file.as_ref(), &extension);
        let at = extension.directory;
        let directory =
            directory.map_err(|e| Error::io("read the bitmap directory", at.get(), e))?;
        match directory.problems.first() {
            Some(problem) => Err(damaged(at, format!("the bitmap directory: {problem}"))),
            None => Ok(directory.entries),
        }
    }

    /// The bits of a bitmap; an error where its table is damaged.
    pub fn bitmap_bits(&self, entry: &BitmapEntry) -> Result<BitmapBits<'_>> {
        let words = load_entries(self.file.as_ref(), entry.table, entry.table_entries.into());
        let words = words.map_err(|e| Error::io("read a bitmap table", entry.table.get(), e))?;
        let table: Vec<_> = words.into_iter().map(BitmapTableEntry).collect();
        if table.iter().any(|entry| entry.is_broken(&self.geometry)) {
            let name = entry.name_text();
            let reason = format!("the table of the bitmap '{}' is damaged", name.escape_debug());
            return Err(damaged(entry.table, reason));
        }
        Ok(BitmapBits { image: self, table })
    }
}

impl BitmapBits<'_> {
    /// Reads bytes of the bitmap; after its end there are zeroes.
    pub fn read(&self, mut at: u64, mut buf: &mut [u8]) -> Result<()> {
        let size = self.image.geometry.cluster_bytes();
        while !buf.is_empty() {
            let within = at % size;
            let length = usize::try_from(size - within).unwrap_or(usize::MAX).min(buf.len());
            let (part, rest) = buf.split_at_mut(length);
            let index = usize::try_from(at / size).unwrap_or(usize::MAX);
            match self.table.get(index).map(|entry| (entry.data(), entry.0)) {
                Some((Some(cluster), _)) => {
                    let from = cluster.get() + within;
                    let read = self.image.file.read_padded_at(from, part);
                    read.map_err(|e| Error::io("read a bitmap", from, e))?;
                }
                Some((None, 1)) => part.fill(0xFF),
                _ => part.fill(0),
            }
            at += length as u64;
            buf = rest;
        }
        Ok(())
    }
}
