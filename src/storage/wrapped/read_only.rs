//! A source that is read where a storage is requested.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::storage::{Capacity, ReadAt, Storage};

/// A storage that cannot be written.
#[derive(Debug)]
pub(crate) struct ReadOnly<R>(pub(crate) R);

impl ReadOnly<Arc<dyn ReadAt>> {
    fn refuse() -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl ReadAt for ReadOnly<Arc<dyn ReadAt>> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.0.next_data(offset)
    }
    fn failure(&self) -> Option<io::Error> {
        self.0.failure()
    }
    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }
    fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.file()
    }
    fn will_need(&self, range: Range<u64>) {
        self.0.will_need(range);
    }
}

impl Storage for ReadOnly<Arc<dyn ReadAt>> {
    fn capacity(&self) -> Capacity {
        Capacity::Fixed(0)
    }
    fn write_at(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Self::refuse()
    }
    fn set_len(&self, _len: u64) -> io::Result<()> {
        Self::refuse()
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Self::refuse()
    }
    fn write_zeroes(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Self::refuse()
    }
}
