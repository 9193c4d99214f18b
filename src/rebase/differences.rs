//! What reads otherwise from the new backing chain, stored in the image.

use std::ops::Range;

use crate::codec::Compressor;
use crate::convert::flow::{Buffer, Item, Kind, Pool, Target};
use crate::disk::Disk;
use crate::error::Result;
use crate::format::GuestOffset;
use crate::format::geometry::SUBCLUSTERS;
use crate::image::Image;
use crate::storage::is_zero;

/// Bytes of the new chain that are read at once where the old one has zeroes; no less than a unit.
const PIECE_BYTES: u64 = 1 << 20;

/// The least that the image can leave to its backing file, in bytes: a cluster or a subcluster.
pub(super) fn unit(image: &Image) -> u64 {
    let geometry = image.geometry();
    let subclusters = if geometry.extended_l2() { SUBCLUSTERS as u64 } else { 1 };
    geometry.cluster_bytes() / subclusters
}

/// The image, and what it is compared with.
pub(super) struct Differences<'a> {
    image: &'a Image,
    new: Option<&'a Disk>,
    compress: bool,
    unit: u64,
    pool: &'a Pool,
}

impl<'a> Differences<'a> {
    /// What the image has to store so that it reads the same above `new`.
    pub(super) fn new(
        image: &'a Image,
        new: Option<&'a Disk>,
        compress: bool,
        pool: &'a Pool,
    ) -> Self {
        Self { image, new, compress, unit: unit(image), pool }
    }

    /// Reads from the new chain; past its end, and without one, there are zeroes.
    fn read_new(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        match self.new {
            Some(new) => new.read_at(bytes, at),
            None => {
                bytes.fill(0);
                Ok(())
            }
        }
    }

    /// The runs, out of `length` bytes from `at` on, of neighbouring units that differ. Clusters
    /// that may be compressed are stored as a whole, and so compared.
    fn runs(
        &self,
        at: u64,
        length: usize,
        differs: impl Fn(Range<usize>) -> bool,
    ) -> Vec<Range<usize>> {
        let step = if self.compress { self.image.geometry().cluster_bytes() } else { self.unit };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for part in parts(at, length, step) {
            if differs(part.clone()) {
                match runs.last_mut() {
                    Some(last) if last.end == part.start => last.end = part.end,
                    _ => runs.push(part),
                }
            }
        }
        runs
    }

    /// Stores bytes of the old chain: zeroes as such, whole clusters compressed if they are to be.
    fn store(&self, at: u64, bytes: &[u8], compressor: &mut Option<Compressor>) -> Result<()> {
        let size = self.image.geometry().cluster_bytes();
        let mut plain: Range<usize> = 0..0;
        for part in parts(at, bytes.len(), size) {
            let (start, data) = (at + part.start as u64, &bytes[part.clone()]);
            let end = at + part.end as u64;
            let is_whole =
                start % size == 0 && (end % size == 0 || end == self.image.virtual_size());
            let compressor = compressor.as_mut().filter(|_| is_whole);
            let zero = is_zero(data);
            if !zero && compressor.is_none() {
                plain.end = part.end;
                continue;
            }
            self.write(at, bytes, &plain)?;
            plain = part.end..part.end;
            match compressor.filter(|_| !zero) {
                Some(compressor) => {
                    self.image.write_compressed_with(GuestOffset::new(start), data, compressor)?;
                }
                None => self.write_zeroes(start, data.len() as u64)?,
            }
        }
        self.write(at, bytes, &plain)
    }

    fn write_zeroes(&self, at: u64, bytes: u64) -> Result<()> {
        self.image.write_zeroes(GuestOffset::new(at), bytes, true)
    }

    fn write(&self, at: u64, bytes: &[u8], run: &Range<usize>) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        self.image.write(GuestOffset::new(at + run.start as u64), &bytes[run.clone()])
    }

    /// Zeroes in the old chain, where the new one has something else.
    fn zero(&self, item: Item, new: &mut Buffer) -> Result<()> {
        let Some(disk) = self.new else { return Ok(()) };
        let (mut at, end) = (item.start, item.start + item.bytes);
        let whole = |bytes: u64| bytes / self.unit * self.unit;
        while at < end {
            let left = end - at;
            let extent = disk.extent(at, left)?;
            let skip = if extent.length >= left { left } else { whole(extent.length) };
            if extent.zero && skip > 0 {
                at += skip;
                continue;
            }
            let length = left.min(whole(PIECE_BYTES).max(self.unit));
            new.set_len(usize::try_from(length).unwrap_or(0));
            disk.read_at(new, at)?;
            for run in self.runs(at, new.len(), |part| !is_zero(&new[part])) {
                self.write_zeroes(at + run.start as u64, run.len() as u64)?;
            }
            at += length;
        }
        Ok(())
    }
}

/// Parts of `length` bytes from `at` on, cut at multiples of `step`.
fn parts(at: u64, length: usize, step: u64) -> impl Iterator<Item = Range<usize>> {
    let mut start: usize = 0;
    std::iter::from_fn(move || {
        let left = usize::try_from(step - (at + start as u64) % step).unwrap_or(usize::MAX);
        let part = start..length.min(start.saturating_add(left));
        start = part.end;
        (!part.is_empty()).then_some(part)
    })
}

/// What a thread keeps between items.
pub(super) struct Tools {
    compressor: Option<Compressor>,
    new: Buffer,
}

impl Target for Differences<'_> {
    type Tools = Tools;

    fn tools(&self) -> Tools {
        let method = self.image.compression().ok().filter(|_| self.compress);
        Tools { compressor: method.map(Compressor::new), new: Buffer::default() }
    }

    fn put(&self, item: Item, bytes: Buffer, tools: &mut Tools) -> Result<()> {
        if item.kind == Kind::Data {
            tools.new.set_len(bytes.len());
            self.read_new(item.start, &mut tools.new)?;
            let new = &tools.new;
            let differs = |part: Range<usize>| bytes[part.clone()] != new[part];
            for run in self.runs(item.start, bytes.len(), differs) {
                let start = item.start + run.start as u64;
                self.store(start, &bytes[run], &mut tools.compressor)?;
            }
        } else {
            self.zero(item, &mut tools.new)?;
        }
        self.pool.give_back(bytes);
        Ok(())
    }
}
