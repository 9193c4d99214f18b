//! A target that is an image already: written through the engine, copy-on-write included.

use std::ops::Range;

use crate::codec::Compressor;
use crate::error::Result;
use crate::format::GuestOffset;
use crate::image::{Backing, Image, RunKind};

use crate::convert::flow::buffer::{Buffer, Pool};
use crate::convert::flow::item::{Item, Kind};
use crate::convert::flow::pipeline::Target;
use crate::convert::options::ConvertOptions;
use crate::disk::{extent, zeroes};
use crate::storage::is_zero;

/// The longest range of the backing file that is read at once.
const PIECE: u64 = 1 << 20;

/// An image that is being written.
pub(in crate::convert) struct Existing<'a> {
    image: &'a Image,
    /// The image's backing file, where what is the same there is not stored.
    backing: Option<&'a Backing>,
    sparse: u64,
    compress: bool,
    is_zero: bool,
    /// What is not in the upper layers of the source is in the image already.
    has_rest: bool,
    pool: &'a Pool,
}

/// What a thread keeps between items.
pub(in crate::convert) struct Tools {
    compressor: Option<Compressor>,
    compare: Buffer,
}

impl<'a> Existing<'a> {
    /// An image; `is_zero`: its whole disk reads as zeroes.
    pub(in crate::convert) fn new(
        image: &'a Image,
        options: &ConvertOptions,
        is_zero: bool,
        pool: &'a Pool,
    ) -> Result<Self> {
        let (sparse, compress) = (options.sparse, options.compress);
        let backing = image.backing().filter(|_| options.only_different);
        let has_rest = options.layers.is_some();
        Ok(Self { image, backing, sparse, compress, is_zero, has_rest, pool })
    }

    fn zero(&self, at: u64, bytes: u64) -> Result<()> {
        if self.is_zero || bytes == 0 {
            return Ok(());
        }
        self.image.write_zeroes(GuestOffset::new(at), bytes, true)
    }

    fn store(&self, at: u64, bytes: &[u8], tools: &mut Tools) -> Result<()> {
        match &mut tools.compressor {
            Some(compressor) => self.compress(at, bytes, compressor),
            None => self.store_plain(at, bytes),
        }
    }

    fn store_plain(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut zero_from = 0;
        for run in zeroes::data_runs(bytes, at, self.sparse) {
            self.zero(at + zero_from as u64, (run.start - zero_from) as u64)?;
            zero_from = run.end;
            self.image.write(GuestOffset::new(at + run.start as u64), &bytes[run])?;
        }
        self.zero(at + zero_from as u64, (bytes.len() - zero_from) as u64)
    }

    fn compress(&self, at: u64, bytes: &[u8], compressor: &mut Compressor) -> Result<()> {
        let size = self.image.geometry().cluster_len();
        for (n, cluster) in bytes.chunks(size).enumerate() {
            let at = at + (n * size) as u64;
            let whole =
                cluster.len() == size || at + cluster.len() as u64 == self.image.virtual_size();
            if self.sparse > 0 && is_zero(cluster) {
                self.zero(at, cluster.len() as u64)?;
            } else if whole {
                self.image.write_compressed_with(GuestOffset::new(at), cluster, compressor)?;
            } else {
                self.image.write(GuestOffset::new(at), cluster)?;
            }
        }
        Ok(())
    }

    /// How many of the bytes from `at` on, at most `most`, are alike in that the image leaves them
    /// to its backing file, or does not; and which of both it is.
    fn left_below(&self, at: u64, most: u64) -> Result<(u64, bool)> {
        let run = self.image.map(GuestOffset::new(at), most)?;
        Ok((run.length, run.kind == RunKind::Unallocated))
    }

    /// Stores those clusters that the image does not read from its backing file already.
    fn store_different(
        &self,
        backing: &Backing,
        at: u64,
        bytes: &[u8],
        tools: &mut Tools,
    ) -> Result<()> {
        tools.compare.set_len(bytes.len());
        backing.read(GuestOffset::new(at), &mut tools.compare)?;
        let size = self.image.geometry().cluster_len();
        let mut different: Range<usize> = 0..0;
        for start in (0..bytes.len()).step_by(size) {
            let cluster = start..bytes.len().min(start + size);
            let length = cluster.len() as u64;
            let is_same = bytes[cluster.clone()] == tools.compare[cluster.clone()]
                && self.left_below(at + start as u64, length)? == (length, true);
            match is_same {
                true => {
                    self.store(at + different.start as u64, &bytes[different], tools)?;
                    different = cluster.end..cluster.end;
                }
                false => different.end = cluster.end,
            }
        }
        self.store(at + different.start as u64, &bytes[different], tools)
    }

    /// Zeroes, where the image does not read them from its backing file already.
    fn zero_different(&self, backing: &Backing, item: Item) -> Result<()> {
        let (mut at, end) = (item.start, item.start + item.bytes);
        while at < end {
            let (length, is_left) = self.left_below(at, end - at)?;
            if is_left {
                let extent = extent::of_backing(backing, at, length)?;
                if !extent.zero {
                    self.zero(at, extent.length)?;
                }
                at += extent.length;
            } else {
                self.zero(at, length)?;
                at += length;
            }
        }
        Ok(())
    }

    /// What the backing file has, where the image has something else.
    fn store_shared(&self, backing: &Backing, item: Item, tools: &mut Tools) -> Result<()> {
        let (mut at, end) = (item.start, item.start + item.bytes);
        while at < end {
            let (length, is_left) = self.left_below(at, (end - at).min(PIECE))?;
            if !is_left {
                let mut bytes = self.pool.take(usize::try_from(length).unwrap_or(0));
                backing.read(GuestOffset::new(at), &mut bytes)?;
                self.store(at, &bytes, tools)?;
                self.pool.give_back(bytes);
            }
            at += length;
        }
        Ok(())
    }
}

impl Target for Existing<'_> {
    type Tools = Tools;

    fn tools(&self) -> Tools {
        let method = self.image.compression().ok().filter(|_| self.compress);
        Tools { compressor: method.map(Compressor::new), compare: Buffer::default() }
    }

    fn put(&self, item: Item, bytes: Buffer, tools: &mut Tools) -> Result<()> {
        match (item.kind, self.backing) {
            (Kind::Backing, _) if self.has_rest => {}
            (Kind::Data, None) => self.store(item.start, &bytes, tools)?,
            (Kind::Data, Some(backing)) => {
                self.store_different(backing, item.start, &bytes, tools)?;
            }
            (Kind::Zero, Some(backing)) => self.zero_different(backing, item)?,
            (Kind::Backing, Some(backing)) => self.store_shared(backing, item, tools)?,
            (Kind::Zero | Kind::Backing, None) => self.zero(item.start, item.bytes)?,
        }
        self.pool.give_back(bytes);
        Ok(())
    }
}
