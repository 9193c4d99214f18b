//! Nothing is written after a write that failed.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::forward::guard_writes;
use crate::error::cause;
use crate::storage::{Capacity, ReadAt, Storage};

/// A storage that, after its first failed write, flush or change of length, refuses every further
/// one; reading goes on.
///
/// What was meant to be on disk before may be missing, so whatever is written later could refer to
/// it. After a failed flush the system may also have dropped the data that it could not write and
/// report success the next time.
#[derive(Debug)]
pub struct Latch<S> {
    inner: S,
    first_failure: OnceLock<(io::ErrorKind, String)>,
    is_touched: AtomicBool,
    interruption: Option<Arc<AtomicBool>>,
}

impl<S: Storage> Latch<S> {
    /// Guards `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            first_failure: OnceLock::new(),
            is_touched: AtomicBool::new(false),
            interruption: None,
        }
    }

    /// From now on everything but reading fails once `interruption` is set.
    pub fn fail_on(&mut self, interruption: Arc<AtomicBool>) {
        self.interruption = Some(interruption);
    }

    /// The error that closed the latch, as text; `None` while all is well.
    pub fn first_failure(&self) -> Option<&str> {
        self.first_failure.get().map(|(_, text)| text.as_str())
    }

    /// Whether anything was asked of it but reading, be it that it failed.
    pub fn is_touched(&self) -> bool {
        self.is_touched.load(Ordering::Relaxed)
    }

    /// The storage underneath.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The storage underneath, no longer guarded.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn guard<T>(&self, call: impl FnOnce(&S) -> io::Result<T>) -> io::Result<T> {
        if let Some((kind, first)) = self.first_failure.get() {
            let why = format!("refused after an earlier failure: {first}");
            return Err(io::Error::new(*kind, why));
        }
        self.is_touched.store(true, Ordering::Relaxed);
        let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        let outcome = match self.interruption.as_ref().is_some_and(is_set) {
            true => Err(io::Error::other("interrupted")),
            false => call(&self.inner),
        };
        outcome.inspect_err(|error| {
            // Of failures at the same time, one is the first.
            let _ = self.first_failure.set((error.kind(), cause(error)));
        })
    }
}

impl<S: Storage> ReadAt for Latch<S> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.inner.next_data(offset)
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
        self.inner.peek_at(offset, buf)
    }
}

guard_writes!(Latch);
