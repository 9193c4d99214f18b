//! A disk that comes as bytes in their order, its size unknown until they end.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sector::SECTOR_LEN;

use super::buffer::{Buffer, Pool};
use super::item::{Item, Items, Kind};

/// Items cut from a stream.
pub(in crate::convert) struct Stream<'a> {
    input: &'a mut (dyn Read + Send + 'a),
    /// Bytes of an item: whole clusters.
    most: usize,
    at: u64,
    number: u64,
    /// Receives the disk's size at the end.
    size: Arc<AtomicU64>,
}

impl Items for Stream<'_> {
    fn next(&mut self, pool: &Pool) -> Result<Option<(Item, Option<Buffer>)>> {
        Ok(self.next_item(pool)?.map(|(item, bytes)| (item, Some(bytes))))
    }
}

impl<'a> Stream<'a> {
    /// Items of `most` bytes; the disk's size is added up in `size`.
    pub(in crate::convert) fn new(
        input: &'a mut (dyn Read + Send + 'a),
        most: u64,
        size: Arc<AtomicU64>,
    ) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { input, most, at: 0, number: 0, size }
    }

    /// The next item with its bytes; the last is filled up to a sector with zeroes.
    fn next_item(&mut self, pool: &Pool) -> Result<Option<(Item, Buffer)>> {
        let mut bytes = pool.take(self.most);
        let read = self.fill(&mut bytes)?;
        if read == 0 {
            pool.give_back(bytes);
            return Ok(None);
        }
        let length = read.next_multiple_of(SECTOR_LEN).min(self.most);
        bytes[read..length].fill(0);
        bytes.set_len(length);
        let item =
            Item { number: self.number, start: self.at, bytes: length as u64, kind: Kind::Data };
        self.number += 1;
        self.at += length as u64;
        self.size.store(self.at, Ordering::Relaxed);
        Ok(Some((item, bytes)))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match self.input.read(&mut bytes[read..]) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io("read the stream", self.at + read as u64, error));
                }
            }
        }
        Ok(read)
    }
}
