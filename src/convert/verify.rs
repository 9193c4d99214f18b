//! Reading both sides again: whether the guest sees the same bytes.

use crate::error::{Error, Result};

use super::source::SourceDisk;
use crate::convert::flow::buffer::{Buffer, Pool};
use crate::convert::flow::item::{Item, Kind};
use crate::convert::flow::pipeline::Target;
use crate::storage::is_zero;

/// The longest range of zeroes that is read at once.
const PIECE: u64 = 1 << 20;

/// A target that is compared.
pub(super) struct Compare<'a> {
    /// What was written, opened for reading.
    pub(super) other: &'a SourceDisk,
    /// Where buffers go.
    pub(super) pool: &'a Pool,
}

impl Compare<'_> {
    fn expect_zeroes(&self, item: Item, buffer: &mut Buffer) -> Result<()> {
        let (mut at, end) = (item.start, item.start + item.bytes);
        while at < end {
            let extent = self.other.extent(at, end - at)?;
            if extent.zero {
                at += extent.bytes;
                continue;
            }
            let bytes = extent.bytes.min(PIECE);
            buffer.set_len(usize::try_from(bytes).unwrap_or(0));
            self.other.read(at, buffer)?;
            if !is_zero(buffer) {
                let within = buffer.iter().position(|&b| b != 0).unwrap_or(0);
                return Err(differs(at + within as u64));
            }
            at += bytes;
        }
        Ok(())
    }
}

fn differs(at: u64) -> Error {
    Error::Refused(format!("the target differs from the source at guest offset {at:#x}"))
}

impl Target for Compare<'_> {
    type Tools = Buffer;

    fn tools(&self) -> Buffer {
        Buffer::default()
    }

    fn put(&self, item: Item, bytes: Buffer, other: &mut Buffer) -> Result<()> {
        if item.kind == Kind::Data {
            other.set_len(bytes.len());
            self.other.read(item.start, other)?;
            if bytes[..] != other[..] {
                let pairs = bytes.iter().zip(other.iter());
                let within = pairs.take_while(|(a, b)| a == b).count();
                return Err(differs(item.start + within as u64));
            }
        } else {
            self.expect_zeroes(item, other)?;
        }
        self.pool.give_back(bytes);
        Ok(())
    }
}
