//! The extents of a range of a disk, one after the other.

use std::iter::FusedIterator;
use std::ops::Range;

use super::extent::{self, Ahead, Extent, ExtentKind};
use super::preallocated::Preallocated;
use super::read::Disk;
use crate::error::{Error, Result};
use crate::image::Image;

/// The extents of a range, see [`Disk::extents`].
#[derive(Debug)]
pub struct Extents<'a> {
    disk: &'a Disk,
    at: u64,
    /// `None` until the disk's size is known.
    end: Option<u64>,
    wanted_end: u64,
    /// What was found last, and may go on.
    last: Option<Extent<'a>>,
    /// What ended it, after `last`.
    error: Option<Error>,
    preallocated: Preallocated,
    ahead: Ahead,
}

impl Disk {
    /// What is known of the bytes of a range, in their order, without reading them: all of the
    /// range that is on the disk, each byte in one extent. Neighbours that are alike are one
    /// extent. After an error there is nothing more.
    pub fn extents(&self, range: Range<u64>) -> Extents<'_> {
        Extents::new(self, range)
    }
}

impl<'a> Extents<'a> {
    pub(super) fn new(disk: &'a Disk, range: Range<u64>) -> Self {
        Self {
            disk,
            at: range.start,
            end: None,
            wanted_end: range.end,
            last: None,
            error: None,
            preallocated: Preallocated::default(),
            ahead: Ahead::of_reader(),
        }
    }

    fn end(&mut self) -> Result<u64> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        let end = self.disk.size()?.min(self.wanted_end);
        self.end = Some(end);
        Ok(end)
    }

    /// What is known of the bytes from `at` on; `None` at the end. Offsets that go up are looked up
    /// fast.
    pub(crate) fn at(&mut self, at: u64) -> Result<Option<Extent<'a>>> {
        if let Some(last) = self.last.filter(|last| last.start <= at && at < last.end()) {
            return Ok(Some(last.from(at)));
        }
        if at < self.at {
            self.ahead = Ahead::of_reader();
        }
        self.at = at;
        self.last = self.piece()?;
        Ok(self.last)
    }

    /// The next extent, which may be a part of a longer one; `None` at the end.
    fn piece(&mut self) -> Result<Option<Extent<'a>>> {
        let end = self.end()?;
        if self.at >= end {
            return Ok(None);
        }
        let (mut extent, image) = extent::held(self.disk, self.at, end - self.at, &mut self.ahead)?;
        self.look_for_holes(&mut extent, image)?;
        self.at += extent.length;
        Ok(Some(extent))
    }

    /// Data in space that was reserved and never written is zero.
    fn look_for_holes(&mut self, extent: &mut Extent<'a>, image: Option<&Image>) -> Result<()> {
        let (Some(image), Some(host)) = (image, extent.host) else { return Ok(()) };
        if extent.kind != ExtentKind::Data {
            return Ok(());
        }
        if let Some((alike, hole)) = self.preallocated.look(image, extent.depth, host)? {
            extent.length = extent.length.min(alike);
            extent.zero = hole;
        }
        Ok(())
    }

    /// The piece after `last`, unless something went wrong before.
    fn next_piece(&mut self) -> Option<Extent<'a>> {
        if self.error.is_some() {
            return None;
        }
        self.piece().unwrap_or_else(|error| {
            self.error = Some(error);
            self.end = Some(0);
            None
        })
    }
}

impl<'a> Iterator for Extents<'a> {
    type Item = Result<Extent<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let piece = self.next_piece();
            match (&mut self.last, piece) {
                (Some(last), Some(piece)) if last.goes_on_with(&piece) => {
                    last.length += piece.length;
                }
                (Some(_), piece) => return std::mem::replace(&mut self.last, piece).map(Ok),
                (None, Some(piece)) => self.last = Some(piece),
                (None, None) => return self.error.take().map(Err),
            }
        }
    }
}

impl FusedIterator for Extents<'_> {}
