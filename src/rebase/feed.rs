//! Which ranges of an image may read otherwise from the new backing chain.
//!
//! What the image holds itself cannot, nor what both chains leave to images that are the same ones,
//! nor what is known to be zero in both. None of that is read.

use crate::convert::Control;
use crate::convert::flow::{Buffer, Item, Items, Kind, Pool};
use crate::disk::{Disk, Extent, ExtentKind, Extents, shared_from};
use crate::error::Result;

/// Bytes that are read at once, unless a unit has more.
const DATA_BYTES: u64 = 1 << 18;
/// The longest range of anything else, so that progress is reported and an interruption noticed.
const LONGEST: u64 = 1 << 30;

/// Ranges that are left to the backing chain, in the order of the disk.
pub(super) struct Feed<'a> {
    overlay: Extents<'a>,
    new: Option<Extents<'a>>,
    /// How many images of either chain are above those that are the same in both.
    shared: Option<[usize; 2]>,
    size: u64,
    unit: u64,
    at: u64,
    number: u64,
    control: Control<'a>,
}

/// What is known of the bytes that follow.
#[derive(Clone, Copy)]
struct Look {
    end: u64,
    /// `None` where they read the same from both chains.
    kind: Option<Kind>,
}

impl<'a> Feed<'a> {
    /// The ranges of the image `overlay`, which leaves whole units of `unit` bytes to its backing
    /// file; without a `new` backing file it reads as zeroes.
    pub(super) fn new(
        overlay: &'a Disk,
        new: Option<&'a Disk>,
        unit: u64,
        control: Control<'a>,
    ) -> Result<Self> {
        Ok(Self {
            overlay: overlay.extents(0..u64::MAX),
            new: new.map(|new| new.extents(0..u64::MAX)),
            shared: new.and_then(|new| shared_from(overlay, new)),
            size: overlay.size()?,
            unit,
            at: 0,
            number: 0,
            control,
        })
    }

    fn look(&mut self, at: u64) -> Result<Look> {
        let most = (self.size - at).min(LONGEST);
        let old = self.overlay.at(at)?.unwrap_or_else(|| Extent::nothing(at));
        if old.left == 0 && old.kind != ExtentKind::Unallocated {
            return Ok(Look { end: at + old.length.min(most), kind: None });
        }
        let new = match &mut self.new {
            Some(new) => new.at(at)?.unwrap_or_else(|| Extent::nothing(at)),
            None => Extent::nothing(at),
        };
        let is_shared = self
            .shared
            .is_some_and(|[above_old, above_new]| old.left >= above_old && new.left >= above_new);
        let kind = match (old.zero, new.zero) {
            (true, true) => None,
            _ if is_shared => None,
            (true, false) => Some(Kind::Zero),
            (false, _) => Some(Kind::Data),
        };
        Ok(Look { end: at + old.length.min(new.length).min(most), kind })
    }

    /// Whole units from the one on that `first` begins in.
    fn item(&mut self, first: Look, kind: Kind) -> Result<Item> {
        let start = self.at / self.unit * self.unit;
        let whole_zeroes = first.end / self.unit * self.unit;
        let whole_zeroes = if first.end == self.size { first.end } else { whole_zeroes };
        let (kind, end) = match kind {
            Kind::Zero if start == self.at && whole_zeroes > start => (Kind::Zero, whole_zeroes),
            _ => (Kind::Data, self.data_end(start, first.end)?),
        };
        let item = Item { number: self.number, start, bytes: end - start, kind };
        self.number += 1;
        self.at = end;
        Ok(item)
    }

    /// How far the data that begins at `start` goes on.
    fn data_end(&mut self, start: u64, mut end: u64) -> Result<u64> {
        let most = DATA_BYTES.max(self.unit);
        let limit = ((start / most + 1) * most).min(self.size);
        loop {
            end = end.next_multiple_of(self.unit).min(limit);
            if end >= limit {
                return Ok(limit);
            }
            match self.look(end)? {
                Look { end: next, kind: Some(Kind::Data) } => end = next,
                _ => return Ok(end),
            }
        }
    }
}

impl Items for Feed<'_> {
    fn next(&mut self, _pool: &Pool) -> Result<Option<(Item, Option<Buffer>)>> {
        while self.at < self.size {
            let look = self.look(self.at)?;
            match look.kind {
                Some(kind) => return Ok(Some((self.item(look, kind)?, None))),
                None => {
                    self.control.advance(look.end - self.at)?;
                    self.at = look.end;
                }
            }
        }
        Ok(None)
    }
}
