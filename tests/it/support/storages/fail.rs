//! Storages that fail at a chosen operation, have no space left, or have somebody press Ctrl-C.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use qcheck::storage::{Capacity, ReadAt, Storage};

/// Which operations are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Read,
    /// `write_at` and `write_zeroes`.
    Write,
    Sync,
    SetLen,
    Discard,
    /// Everything but reading.
    AnyWrite,
}

/// Fails the n-th operation (from 0) of a class with EIO.
///
/// A failed read is alone: later ones succeed, and writing goes on, so that a test can see whether
/// somebody wrote what he could not read. After a failure of another class every later operation
/// except reading fails too, as on a disk that has gone.
///
/// To fail every operation once, count `n` up until [`FailAfter::fired`] is false.
#[derive(Debug)]
pub struct FailAfter<S> {
    inner: S,
    class: Class,
    n: u64,
    seen: AtomicU64,
    gone: AtomicBool,
}

impl<S: Storage> FailAfter<S> {
    pub fn new(inner: S, class: Class, n: u64) -> Self {
        Self { inner, class, n, seen: AtomicU64::new(0), gone: AtomicBool::new(false) }
    }

    /// Whether the n-th operation came, and failed.
    pub fn fired(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.n
    }

    /// The storage underneath.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn pass(&self, class: Class) -> io::Result<()> {
        let reading = class == Class::Read;
        let counted = class == self.class || (self.class == Class::AnyWrite && !reading);
        if counted && self.seen.fetch_add(1, Ordering::SeqCst) == self.n {
            self.gone.store(!reading, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if !reading && self.gone.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }
}

impl<S: Storage> ReadAt for FailAfter<S> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.pass(Class::Read)?;
        self.inner.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.inner.next_data(offset)
    }
}

impl<S: Storage> Storage for FailAfter<S> {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.pass(Class::Write)?;
        self.inner.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass(Class::SetLen)?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Class::Sync)?;
        self.inner.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.pass(Class::Discard)?;
        self.inner.discard(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.pass(Class::Write)?;
        self.inner.write_zeroes(offset, length)
    }
}

/// A file on a full file system: it does not get longer than `limit` bytes, and goes on working.
#[derive(Debug)]
pub struct Full<S> {
    pub inner: S,
    pub limit: u64,
}

impl<S> Full<S> {
    fn space(&self, end: u64) -> io::Result<()> {
        let is_full = end > self.limit;
        if is_full { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }
}

impl<S: Storage> ReadAt for Full<S> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }
}

impl<S: Storage> Storage for Full<S> {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.space(offset + data.len() as u64)?;
        self.inner.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.space(len)?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.discard(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.space(offset + length)?;
        self.inner.write_zeroes(offset, length)
    }
}

/// Sets a flag at the n-th operation (from 0), whatever it is.
#[derive(Debug)]
pub struct CancelAt<S> {
    pub inner: S,
    pub flag: Arc<AtomicBool>,
    left: AtomicU64,
}

impl<S> CancelAt<S> {
    pub fn new(inner: S, n: u64) -> Self {
        Self { inner, flag: Arc::default(), left: AtomicU64::new(n + 1) }
    }

    fn count(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flag.store(true, Ordering::SeqCst);
        }
    }
}

impl<S: Storage> ReadAt for CancelAt<S> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.count();
        self.inner.read_at(offset, buf)
    }
}

impl<S: Storage> Storage for CancelAt<S> {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.count();
        self.inner.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.count();
        self.inner.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.count();
        self.inner.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.count();
        self.inner.discard(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.count();
        self.inner.write_zeroes(offset, length)
    }
}
