//! Bytes in memory, for tests and fuzzing.

use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Capacity, ReadAt, Storage, is_zero};

/// Length in bytes that a growable storage does not exceed, so that a wild offset is an error and
/// not the end of the process.
const MAX_LEN: usize = 1 << 30;

/// Bytes that are looked at together in the search for data.
const HOLE_BLOCK: usize = 4096;

/// An image in memory. Blocks of 4 KiB that are all zero count as holes.
#[derive(Debug)]
pub struct MemoryStorage {
    bytes: RwLock<Vec<u8>>,
    fixed: bool,
    max_len: usize,
}

impl MemoryStorage {
    /// A storage that starts as `bytes` and grows when written past its end, up to 1 GiB.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::limited(bytes, MAX_LEN)
    }

    /// A storage that starts as `bytes` and grows when written past its end, up to `max_len` bytes.
    pub fn limited(bytes: Vec<u8>, max_len: usize) -> Self {
        Self { bytes: RwLock::new(bytes), fixed: false, max_len }
    }

    /// A storage that starts as `bytes` and keeps its length, as a block device does.
    pub fn fixed(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes), fixed: true, max_len: 0 }
    }

    /// A copy of the content.
    pub fn to_vec(&self) -> Vec<u8> {
        self.read().clone()
    }

    /// The content.
    pub fn into_inner(self) -> Vec<u8> {
        self.bytes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    // No write leaves the bytes half changed, so a poisoned lock changes nothing.
    fn read(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a range for writing, made longer where that is possible.
    fn with_range(
        &self,
        offset: u64,
        length: u64,
        change: impl FnOnce(&mut [u8]),
    ) -> io::Result<()> {
        let range = offset.checked_add(length).map(|end| offset..end).and_then(to_usize);
        let range = range.ok_or(io::ErrorKind::StorageFull)?;
        let mut bytes = self.write();
        if range.end > bytes.len() {
            if self.fixed || range.end > self.max_len {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.resize(range.end, 0);
        }
        change(&mut bytes[range]);
        Ok(())
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl ReadAt for MemoryStorage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.read().len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.read();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let n = buf.len().min(bytes.len() - start);
        buf[..n].copy_from_slice(&bytes[start..start + n]);
        Ok(n)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.read();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let block_end = |at: usize| (at - at % HOLE_BLOCK + HOLE_BLOCK).min(bytes.len());
        let mut start = from;
        while start < bytes.len() && is_zero(&bytes[start..block_end(start)]) {
            start = block_end(start);
        }
        let mut end = start;
        while end < bytes.len() && !is_zero(&bytes[end..block_end(end)]) {
            end = block_end(end);
        }
        Ok((start < end).then_some(start as u64..end as u64))
    }
}

impl Storage for MemoryStorage {
    fn capacity(&self) -> Capacity {
        if self.fixed { Capacity::Fixed(self.read().len() as u64) } else { Capacity::Growable }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.with_range(offset, data.len() as u64, |bytes| bytes.copy_from_slice(data))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut bytes = self.write();
        match usize::try_from(len) {
            Ok(len) if len == bytes.len() => Ok(()),
            _ if self.fixed => Err(io::ErrorKind::Unsupported.into()),
            Ok(len) if len <= self.max_len.max(bytes.len()) => {
                bytes.resize(len, 0);
                Ok(())
            }
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// The range reads as zeroes from then on.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut bytes = self.write();
        let end = offset.saturating_add(length).min(bytes.len() as u64);
        if let Some(range) = to_usize(offset..end) {
            if !range.is_empty() {
                bytes[range].fill(0);
            }
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        self.with_range(offset, length, |bytes| bytes.fill(0))
    }
}

fn to_usize(range: Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}
