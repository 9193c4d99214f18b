//! How wrappers pass accesses on, so that none forgets a method: a pointer to a storage is a
//! storage, so that wrappers can own, share or borrow one, and a guard of writes guards all of
//! them.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::storage::{Capacity, ReadAt, Storage};

/// Passes the accesses of a type on: reads, writes, and what a flush is. `$this` is `self`, and the
/// brackets have the parameters of the two implementations.
macro_rules! forward {
    ([$($reader:tt)*] [$($writer:tt)*] $type:ty,
     $this:ident => $reads:expr, $writes:expr, $sync:expr) => {
        impl<$($reader)*> ReadAt for $type {
            fn len(&$this) -> io::Result<u64> {
                $reads.len()
            }
            fn read_at(&$this, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
                $reads.read_at(offset, buf)
            }
            fn next_data(&$this, offset: u64) -> io::Result<Option<Range<u64>>> {
                $reads.next_data(offset)
            }
            fn failure(&$this) -> Option<io::Error> {
                $reads.failure()
            }
            fn file(&$this) -> Option<BorrowedFd<'_>> {
                $reads.file()
            }
            fn is_remote(&$this) -> bool {
                $reads.is_remote()
            }
            fn peek_at(&$this, offset: u64, buf: &mut [u8]) -> io::Result<()> {
                $reads.peek_at(offset, buf)
            }
            fn will_need(&$this, range: Range<u64>) {
                $reads.will_need(range);
            }
        }

        impl<$($writer)*> Storage for $type {
            fn capacity(&$this) -> Capacity {
                $writes.capacity()
            }
            fn write_at(&$this, offset: u64, data: &[u8]) -> io::Result<()> {
                $writes.write_at(offset, data)
            }
            fn set_len(&$this, len: u64) -> io::Result<()> {
                $writes.set_len(len)
            }
            fn sync(&$this) -> io::Result<()> {
                $sync
            }
            fn discard(&$this, offset: u64, length: u64) -> io::Result<()> {
                $writes.discard(offset, length)
            }
            fn allocate(&$this, offset: u64, length: u64) -> io::Result<()> {
                $writes.allocate(offset, length)
            }
            fn copy_from(
                &$this,
                offset: u64,
                from: &dyn ReadAt,
                from_offset: u64,
                length: u64,
            ) -> io::Result<bool> {
                $writes.copy_from(offset, from, from_offset, length)
            }
            fn write_zeroes(&$this, offset: u64, length: u64) -> io::Result<()> {
                $writes.write_zeroes(offset, length)
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

pub(crate) use forward;
pub(super) use guard_writes;

/// Passes the accesses of a pointer on.
macro_rules! forward_pointer {
    ($pointer:ty) => {
        forward!([T: ReadAt + ?Sized] [T: Storage + ?Sized] $pointer,
                 self => (**self), (**self), (**self).sync());
    };
}

forward_pointer!(&T);
forward_pointer!(Box<T>);
forward_pointer!(Arc<T>);
