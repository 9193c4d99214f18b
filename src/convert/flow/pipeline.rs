//! The threads: each takes an item, reads it, and hands it to the target, until nothing is left.
//!
//! Memory is bounded by the number of threads: whoever is too far ahead of the others waits
//! (`in_order`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::progress::Progress;

use super::buffer::{Buffer, Pool};
use super::in_order::is_stopped;
use super::rate::Rate;
use super::salvage::{self, Salvage};
use super::scan::{Cut, Item, Kind, Scan};
use super::stream::Stream;
use crate::convert::source::SourceDisk;

/// Where items go.
pub(in crate::convert) trait Target: Sync {
    /// What a thread keeps between items.
    type Tools;
    /// What a new thread needs.
    fn tools(&self) -> Self::Tools;
    /// Takes an item. Of data `bytes` are the item's; the target gives the buffer back to the pool.
    fn put(&self, item: Item, bytes: Buffer, tools: &mut Self::Tools) -> Result<()>;
    /// Takes an item of data that the system is to copy; `false` where it cannot, and the item
    /// comes with its bytes.
    fn offload(&self, _item: Item, _source: &SourceDisk) -> Result<bool> {
        Ok(false)
    }
    /// Nothing more will come, since something failed: no thread must wait.
    fn stop(&self) {}
}

/// How the work is done.
pub(in crate::convert) struct Work<'a> {
    /// What is read.
    pub(in crate::convert) source: &'a SourceDisk,
    /// How it is cut up.
    pub(in crate::convert) cut: Cut,
    /// What is reported of it.
    pub(in crate::convert) stage: &'a str,
    /// How many threads do it.
    pub(in crate::convert) threads: usize,
    /// Whether the system copies what it can.
    pub(in crate::convert) offload: bool,
    /// Whether to go on without what cannot be read.
    pub(in crate::convert) salvage: Option<&'a Salvage>,
    /// How fast it may go.
    pub(in crate::convert) rate: Option<&'a Rate>,
    /// Set to end it early.
    pub(in crate::convert) cancel: &'a AtomicBool,
    /// Receives the progress.
    pub(in crate::convert) progress: &'a dyn Progress,
    /// Buffers.
    pub(in crate::convert) pool: &'a Pool,
}

/// Brings everything to the target, what a stream has rather than the source where there is one.
/// The first error ends the work of all threads.
pub(in crate::convert) fn run<T: Target>(
    work: &Work<'_>,
    stream: Option<Stream<'_>>,
    target: &T,
) -> Result<()> {
    work.progress.stage(work.stage, work.source.bytes());
    let shared = Shared {
        feed: Mutex::new(match stream {
            Some(stream) => Feed::Stream(stream),
            None => Feed::Disk(Scan::new(work.source, work.cut, work.salvage)),
        }),
        failed: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 1..work.threads {
            // With fewer threads than requested it only takes longer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || shared.work(work, target));
        }
        shared.work(work, target);
    });
    match shared.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None if work.cancel.load(Ordering::Relaxed) => Err(Error::Cancelled),
        None => Ok(()),
    }
}

/// Where items come from.
enum Feed<'a, 's> {
    /// A disk whose extents are known.
    Disk(Scan<'a>),
    /// Bytes in their order.
    Stream(Stream<'s>),
}

impl Feed<'_, '_> {
    fn next(&mut self, pool: &Pool) -> Result<Option<(Item, Option<Buffer>)>> {
        match self {
            Self::Disk(scan) => Ok(scan.next()?.map(|item| (item, None))),
            Self::Stream(stream) => Ok(stream.next(pool)?.map(|(item, bytes)| (item, Some(bytes)))),
        }
    }
}

struct Shared<'a, 's> {
    feed: Mutex<Feed<'a, 's>>,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Shared<'_, '_> {
    fn work<T: Target>(&self, work: &Work<'_>, target: &T) {
        let mut tools = target.tools();
        loop {
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            if work.cancel.load(Ordering::Relaxed) {
                return self.fail(Error::Cancelled, target);
            }
            let next = self.feed.lock().unwrap_or_else(PoisonError::into_inner).next(work.pool);
            let done = match next {
                Ok(Some((item, read))) => one(work, item, read, target, &mut tools),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                return self.fail(error, target);
            }
        }
    }

    fn fail<T: Target>(&self, error: Error, target: &T) {
        // Others stop because of the first; their errors are only consequences, and may arrive
        // before it.
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(is_stopped) {
            *first = Some(error);
        }
        drop(first);
        self.failed.store(true, Ordering::Relaxed);
        target.stop();
    }
}

fn one<T: Target>(
    work: &Work<'_>,
    item: Item,
    read: Option<Buffer>,
    target: &T,
    tools: &mut T::Tools,
) -> Result<()> {
    let is_data = item.kind == Kind::Data;
    if let Some(rate) = work.rate.filter(|_| is_data) {
        rate.take(item.bytes, work.cancel);
    }
    let offloaded = is_data && work.offload && target.offload(item, work.source)?;
    if !offloaded {
        let length = if is_data { usize::try_from(item.bytes).unwrap_or(usize::MAX) } else { 0 };
        let bytes = match read {
            Some(bytes) => bytes,
            None => {
                let mut bytes = work.pool.take(length);
                salvage::read(work.source, work.salvage, item.start, &mut bytes)?;
                bytes
            }
        };
        target.put(item, bytes, tools)?;
    }
    work.progress.advance(item.bytes);
    Ok(())
}
