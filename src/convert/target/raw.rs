//! A raw target: bytes at their own place, in any order.

use crate::error::{Error, Result};
use crate::storage::Storage;

use crate::convert::flow::buffer::{Buffer, Pool};
use crate::convert::flow::item::{Item, Kind};
use crate::convert::flow::pipeline::Target;
use crate::convert::source::SourceDisk;
use crate::disk::zeroes;

/// A raw image that is being filled.
pub(in crate::convert) struct Raw<'a> {
    /// Its bytes.
    pub(in crate::convert) storage: &'a dyn Storage,
    /// The least run of zeroes that is not stored; 0: all are.
    pub(in crate::convert) sparse: u64,
    /// Whether everything reads as zeroes before the work begins.
    pub(in crate::convert) is_zero: bool,
    /// Where buffers go.
    pub(in crate::convert) pool: &'a Pool,
}

impl Raw<'_> {
    fn zero(&self, at: u64, bytes: u64) -> Result<()> {
        if self.is_zero || bytes == 0 {
            return Ok(());
        }
        self.storage.write_zeroes(at, bytes).map_err(|e| Error::io("write zeroes", at, e))
    }

    fn store(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut zero_from = 0;
        for run in zeroes::data_runs(bytes, at, self.sparse) {
            self.zero(at + zero_from as u64, (run.start - zero_from) as u64)?;
            zero_from = run.end;
            let start = at + run.start as u64;
            self.storage
                .write_at(start, &bytes[run])
                .map_err(|e| Error::io("write guest data", start, e))?;
        }
        self.zero(at + zero_from as u64, (bytes.len() - zero_from) as u64)
    }
}

impl Target for Raw<'_> {
    type Tools = ();

    fn tools(&self) {}

    fn offload(&self, item: Item, source: &SourceDisk) -> Result<bool> {
        let (mut at, end) = (item.start, item.start + item.bytes);
        while at < end {
            let extent = source.extent(at, end - at)?;
            if extent.zero {
                self.zero(at, extent.bytes)?;
                at += extent.bytes;
                continue;
            }
            let Some(plain) = source.plain(at, end - at)? else { return Ok(false) };
            if !plain.copy_to(self.storage, at)? {
                return Ok(false);
            }
            at += plain.bytes;
        }
        Ok(true)
    }

    fn put(&self, item: Item, bytes: Buffer, _tools: &mut ()) -> Result<()> {
        match item.kind {
            Kind::Data => self.store(item.start, &bytes)?,
            Kind::Zero => self.zero(item.start, item.bytes)?,
            Kind::Backing => {}
        }
        self.pool.give_back(bytes);
        Ok(())
    }
}
