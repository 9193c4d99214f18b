//! Accesses that end with their operation's cancellation.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::forward::guard_writes;
use crate::progress::Cancellation;
use crate::storage::{Capacity, ReadAt, Storage};

/// A storage that refuses every read and write once the operation is cancelled.
#[derive(Debug)]
pub(crate) struct Cancelable<S> {
    inner: S,
    cancellation: Cancellation,
}

impl<S> Cancelable<S> {
    /// Accesses to `inner` until `cancellation`.
    pub const fn new(inner: S, cancellation: Cancellation) -> Self {
        Self { inner, cancellation }
    }

    fn guard<T>(&self, access: impl FnOnce(&S) -> io::Result<T>) -> io::Result<T> {
        match self.cancellation.refuses() {
            true => Err(io::Error::other("cancelled")),
            false => access(&self.inner),
        }
    }
}

impl<S: ReadAt> ReadAt for Cancelable<S> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.guard(|inner| inner.read_at(offset, buf))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.guard(|inner| inner.next_data(offset))
    }

    fn failure(&self) -> Option<io::Error> {
        self.inner.failure()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        self.inner.file()
    }

    fn will_need(&self, range: Range<u64>) {
        self.inner.will_need(range);
    }

    fn peek_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.guard(|inner| inner.peek_at(offset, buf))
    }
}

guard_writes!(Cancelable);
