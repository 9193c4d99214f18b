//! A target that is an image already: written through the engine, copy-on-write included.

use crate::codec::Packer;
use crate::error::Result;
use crate::format::GuestOffset;
use crate::image::Image;

use super::ConvertOptions;
use super::buffer::{Buffer, Pool};
use super::pipeline::Target;
use super::scan::{Item, Kind};
use super::zeroes;

/// An image that is being written.
pub(super) struct Existing<'a> {
    image: &'a Image,
    sparse: u64,
    compress: bool,
    is_zero: bool,
    pool: &'a Pool,
}

impl<'a> Existing<'a> {
    /// An image; `is_zero`: its whole disk reads as zeroes.
    pub(super) fn new(
        image: &'a Image,
        options: &ConvertOptions,
        is_zero: bool,
        pool: &'a Pool,
    ) -> Result<Self> {
        let (sparse, compress) = (options.sparse, options.compress);
        Ok(Self { image, sparse, compress, is_zero, pool })
    }

    fn zero(&self, at: u64, bytes: u64) -> Result<()> {
        if self.is_zero || bytes == 0 {
            return Ok(());
        }
        self.image.write_zeroes(GuestOffset::new(at), bytes, true)
    }

    fn store(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut zero_from = 0;
        for run in zeroes::data_runs(bytes, at, self.sparse) {
            self.zero(at + zero_from as u64, (run.start - zero_from) as u64)?;
            zero_from = run.end;
            self.image.write(GuestOffset::new(at + run.start as u64), &bytes[run])?;
        }
        self.zero(at + zero_from as u64, (bytes.len() - zero_from) as u64)
    }

    fn pack(&self, at: u64, bytes: &[u8], packer: &mut Packer) -> Result<()> {
        let size = self.image.geometry().cluster_len();
        for (n, cluster) in bytes.chunks(size).enumerate() {
            let at = at + (n * size) as u64;
            let whole =
                cluster.len() == size || at + cluster.len() as u64 == self.image.virtual_size();
            if self.sparse > 0 && zeroes::is_zero(cluster) {
                self.zero(at, cluster.len() as u64)?;
            } else if whole {
                self.image.write_compressed_with(GuestOffset::new(at), cluster, packer)?;
            } else {
                self.image.write(GuestOffset::new(at), cluster)?;
            }
        }
        Ok(())
    }
}

impl Target for Existing<'_> {
    type Tools = Option<Packer>;

    fn tools(&self) -> Option<Packer> {
        let method = self.image.compression().ok()?;
        self.compress.then(|| Packer::new(method))
    }

    fn put(&self, item: Item, bytes: Buffer, tools: &mut Option<Packer>) -> Result<()> {
        match (item.kind, tools) {
            (Kind::Data, Some(packer)) => self.pack(item.start, &bytes, packer)?,
            (Kind::Data, None) => self.store(item.start, &bytes)?,
            _ => self.zero(item.start, item.bytes)?,
        }
        self.pool.give_back(bytes);
        Ok(())
    }
}
