//! Dealing out the work: what is zero anyway, and pieces of what has to be read.

use crate::error::Result;

use super::buffer::{Buffer, Pool};
use super::item::{Item, Items, Kind};
use super::salvage::Salvage;
use crate::convert::source::SourceDisk;

/// How to cut the disk up.
#[derive(Debug, Clone, Copy)]
pub(in crate::convert) struct Cut {
    /// Items begin and end at multiples of this, except for the end of the disk.
    pub(in crate::convert) grain: u64,
    /// Most bytes of data in one item; a multiple of the grain.
    pub(in crate::convert) most: u64,
    /// Most bytes of anything in one item, so that progress is reported and an interruption
    /// noticed.
    pub(in crate::convert) longest: u64,
    /// What this many images of the source's chain leave to the next one is left to the target's
    /// backing file.
    pub(in crate::convert) shared_from: Option<usize>,
    /// Zeroes are to be stored like other data.
    pub(in crate::convert) store_zeroes: bool,
}

/// The items of a source, in its order.
#[derive(Debug)]
pub(in crate::convert) struct Scan<'a> {
    source: &'a SourceDisk,
    cut: Cut,
    salvage: Option<&'a Salvage>,
    at: u64,
    number: u64,
    /// Up to where it is known what there is.
    known: Option<(u64, Kind)>,
}

impl Items for Scan<'_> {
    fn next(&mut self, _pool: &Pool) -> Result<Option<(Item, Option<Buffer>)>> {
        Ok(self.next_item()?.map(|item| (item, None)))
    }
}

impl<'a> Scan<'a> {
    /// The items of a source; with a salvage, what cannot be found is lost, not an error.
    pub(in crate::convert) const fn new(
        source: &'a SourceDisk,
        cut: Cut,
        salvage: Option<&'a Salvage>,
    ) -> Self {
        Self { source, cut, salvage, at: 0, number: 0, known: None }
    }

    fn next_item(&mut self) -> Result<Option<Item>> {
        let (start, total) = (self.at, self.source.bytes());
        if start >= total {
            return Ok(None);
        }
        let (mut end, mut kind) = self.known_at(start)?;
        if kind != Kind::Data {
            // Only whole grains are left out.
            let last = if end >= total { total } else { end / self.cut.grain * self.cut.grain };
            if last > start {
                return Ok(Some(self.item(last, kind)));
            }
            kind = Kind::Data;
        }
        let limit = (start / self.cut.most + 1) * self.cut.most;
        let limit = limit.min(total);
        loop {
            end = end.next_multiple_of(self.cut.grain).min(limit);
            if end >= limit {
                break;
            }
            let (next, kind) = self.known_at(end)?;
            if kind != Kind::Data && next.min(limit) - end >= self.cut.grain.min(limit - end) {
                break;
            }
            end = next;
        }
        Ok(Some(self.item(end, kind)))
    }

    fn item(&mut self, end: u64, kind: Kind) -> Item {
        let item = Item { number: self.number, start: self.at, bytes: end - self.at, kind };
        self.number += 1;
        self.at = end;
        item
    }

    /// Up to where everything from `at` on is alike, and what it is.
    fn known_at(&mut self, at: u64) -> Result<(u64, Kind)> {
        if let Some((end, kind)) = self.known {
            if at < end {
                return Ok((end, kind));
            }
        }
        let most = (self.source.bytes() - at).min(self.cut.longest);
        let mut known = self.look(at, most)?;
        // Neighbours of the same kind, as L2 tables and fragments of a file have them, are one.
        while known.1 != Kind::Data && known.0 < at + most {
            let (end, kind) = self.look(known.0, at + most - known.0)?;
            if kind != known.1 {
                break;
            }
            known.0 = end;
        }
        self.known = Some(known);
        Ok(known)
    }

    fn look(&self, at: u64, most: u64) -> Result<(u64, Kind)> {
        match self.source.extent(at, most) {
            Ok(extent) if self.cut.shared_from.is_some_and(|depth| extent.depth >= depth) => {
                Ok((at + extent.bytes, Kind::Backing))
            }
            Ok(extent) if extent.zero && !self.cut.store_zeroes => {
                Ok((at + extent.bytes, Kind::Zero))
            }
            Ok(extent) => Ok((at + extent.bytes, Kind::Data)),
            // A read of it shows what of it is lost.
            Err(_) if self.salvage.is_some() => {
                let grain = self.source.grain();
                Ok((((at / grain + 1) * grain).min(at + most), Kind::Data))
            }
            Err(error) => Err(error),
        }
    }
}
