//! How wrappers pass accesses on, so that none forgets a method: a pointer to a storage is a
//! storage, so that wrappers can own, share or borrow one, and a guard of writes guards all of
//! them.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::storage::{Capacity, ReadAt, Storage};

macro_rules! forward {
    ($pointer:ty) => {
        impl<T: ReadAt + ?Sized> ReadAt for $pointer {
            fn len(&self) -> io::Result<u64> {
                (**self).len()
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
                (**self).read_at(offset, buf)
            }
            fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
                (**self).next_data(offset)
            }
            fn failure(&self) -> Option<io::Error> {
                (**self).failure()
            }
            fn file(&self) -> Option<BorrowedFd<'_>> {
                (**self).file()
            }
            fn peek_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
                (**self).peek_at(offset, buf)
            }
            fn will_need(&self, range: Range<u64>) {
                (**self).will_need(range);
            }
        }

        impl<T: Storage + ?Sized> Storage for $pointer {
            fn capacity(&self) -> Capacity {
                (**self).capacity()
            }
            fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
                (**self).write_at(offset, data)
            }
            fn set_len(&self, len: u64) -> io::Result<()> {
                (**self).set_len(len)
            }
            fn sync(&self) -> io::Result<()> {
                (**self).sync()
            }
            fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
                (**self).discard(offset, length)
            }
            fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
                (**self).allocate(offset, length)
            }
            fn copy_from(
                &self,
                offset: u64,
                from: &dyn ReadAt,
                from_offset: u64,
                length: u64,
            ) -> io::Result<bool> {
                (**self).copy_from(offset, from, from_offset, length)
            }
            fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
                (**self).write_zeroes(offset, length)
            }
        }
    };
}

/// A storage whose writes pass `self.guard(|inner| ...)`.
macro_rules! guard_writes {
    ($wrapper:ident) => {
        impl<S: Storage> Storage for $wrapper<S> {
            fn capacity(&self) -> Capacity {
                self.inner.capacity()
            }
            fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
                self.guard(|inner| inner.write_at(offset, data))
            }
            fn set_len(&self, len: u64) -> io::Result<()> {
                self.guard(|inner| inner.set_len(len))
            }
            fn sync(&self) -> io::Result<()> {
                self.guard(S::sync)
            }
            fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
                self.guard(|inner| inner.discard(offset, length))
            }
            fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
                self.guard(|inner| inner.allocate(offset, length))
            }
            fn copy_from(
                &self,
                offset: u64,
                from: &dyn ReadAt,
                from_offset: u64,
                length: u64,
            ) -> io::Result<bool> {
                self.guard(|inner| inner.copy_from(offset, from, from_offset, length))
            }
            fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
                self.guard(|inner| inner.write_zeroes(offset, length))
            }
        }
    };
}

pub(super) use guard_writes;

forward!(&T);
forward!(Box<T>);
forward!(Arc<T>);
