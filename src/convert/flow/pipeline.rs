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
use super::item::{Item, Items, Kind};
use super::rate::Rate;
use super::salvage::{self, Salvage};
use crate::convert::source::SourceDisk;

/// Where items go.
pub(crate) trait Target: Sync {
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
pub(crate) struct Work<'a> {
    /// What is read.
    pub(crate) source: &'a SourceDisk,
    /// What is reported of it.
    pub(crate) stage: &'a str,
    /// How many threads do it.
    pub(crate) threads: usize,
    /// Whether the system copies what it can.
    pub(crate) offload: bool,
    /// Whether to go on without what cannot be read.
    pub(crate) salvage: Option<&'a Salvage>,
    /// How fast it may go.
    pub(crate) rate: Option<&'a Rate>,
    /// Set to end it early.
    pub(crate) cancel: &'a AtomicBool,
    /// Receives the progress.
    pub(crate) progress: &'a dyn Progress,
    /// Buffers.
    pub(crate) pool: &'a Pool,
}

/// Brings all items to the target. The first error ends the work of all threads.
pub(crate) fn run<T: Target>(work: &Work<'_>, mut items: impl Items, target: &T) -> Result<()> {
    work.progress.stage(work.stage, work.source.bytes());
    let shared = Shared {
        items: Mutex::new(&mut items),
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

struct Shared<'a> {
    items: Mutex<&'a mut dyn Items>,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Shared<'_> {
    fn work<T: Target>(&self, work: &Work<'_>, target: &T) {
        let mut tools = target.tools();
        loop {
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            if work.cancel.load(Ordering::Relaxed) {
                return self.fail(Error::Cancelled, target);
            }
            let next = self.items.lock().unwrap_or_else(PoisonError::into_inner).next(work.pool);
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
