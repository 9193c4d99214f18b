//! Reading the bits of persistent bitmaps.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::format::bitmap::{BitmapEntry, BitmapTableEntry};
use crate::format::feature::autoclear;
use crate::tables::{BitmapDirectory, HeaderArea, load_entries};

use super::scale;
use crate::image::Image;
use crate::image::damage::damaged;

/// The bits of one bitmap, as bytes in their order.
pub struct BitmapBits<'a> {
    image: &'a Image,
    granularity_bits: u8,
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
        Ok(BitmapBits { image: self, granularity_bits: entry.granularity_bits, table })
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

    /// Sets in `out`, the bits from `first` on of a bitmap of another granularity, each bit of
    /// which this bitmap has a bit set for any guest byte; returns whether there may be one. Past
    /// this bitmap's end nothing is set. `buffer` is as long as `out`, at least 512 bytes.
    pub(super) fn merge_into(
        &self,
        granularity_bits: u8,
        first: u64,
        out: &mut [u8],
        buffer: &mut [u8],
    ) -> Result<bool> {
        let shift = u32::from(self.granularity_bits.abs_diff(granularity_bits));
        let bits = out.len() as u64 * 8;
        match self.granularity_bits.cmp(&granularity_bits) {
            Ordering::Equal if self.is_clear(first / 8, out.len() as u64) => Ok(false),
            Ordering::Equal => {
                self.read(first / 8, buffer)?;
                out.iter_mut().zip(&*buffer).for_each(|(bits, more)| *bits |= more);
                Ok(true)
            }
            Ordering::Less => self.fold_into(shift, first, out, buffer),
            Ordering::Greater => {
                let (from, last) = (first >> shift, (first + bits - 1) >> shift);
                let length = last / 8 - from / 8 + 1;
                if self.is_clear(from / 8, length) {
                    return Ok(false);
                }
                let part = &mut buffer[..usize::try_from(length).unwrap_or(usize::MAX)];
                self.read(from / 8, part)?;
                scale::spread(part, from / 8 * 8, shift, out, first);
                Ok(true)
            }
        }
    }

    /// [`BitmapBits::merge_into`] where this bitmap is the finer one by `2^shift`.
    fn fold_into(&self, shift: u32, first: u64, out: &mut [u8], buffer: &mut [u8]) -> Result<bool> {
        let size = self.image.geometry.cluster_bytes();
        let from = (first << shift) / 8;
        let end = (from + ((out.len() as u64) << shift)).min(self.table.len() as u64 * size);
        let mut any = false;
        let mut at = from;
        while at < end {
            let length = (size - at % size).min(buffer.len() as u64).min(end - at);
            if !self.is_clear(at, length) {
                let part = &mut buffer[..usize::try_from(length).unwrap_or(usize::MAX)];
                self.read(at, part)?;
                // The part is as long as a power of two and begins at a multiple of its length, so
                // it belongs to whole bits of `out` or is within one.
                scale::fold(part, shift, out, ((at * 8) >> shift) - first);
                any = true;
            }
            at += length;
        }
        Ok(any)
    }

    /// Whether the table alone shows that no bit is set in these bytes.
    fn is_clear(&self, at: u64, length: u64) -> bool {
        let size = self.image.geometry.cluster_bytes();
        let index =
            |at: u64| usize::try_from(at / size).unwrap_or(usize::MAX).min(self.table.len());
        let end = index(at + length - 1).saturating_add(1).min(self.table.len());
        self.table[index(at).min(end)..end].iter().all(|entry| entry.0 == 0)
    }
}
