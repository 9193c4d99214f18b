//! Changes in memory over bytes that are only read.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::storage::{Capacity, ReadAt, Storage};

/// Bytes that are copied together when one of them changes.
const BLOCK: usize = 4096;

/// A storage that keeps what is written to it in memory and leaves what it was made from alone.
///
/// Memory follows what is written, up to a limit; above it a write fails.
#[derive(Debug)]
pub struct Overlay<R> {
    base: R,
    capacity: Capacity,
    limit: usize,
    changes: RwLock<Changes>,
}

#[derive(Debug)]
struct Changes {
    len: u64,
    /// Where the base ends for readers: less than its length once the storage was made shorter.
    base_end: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl<R: ReadAt> Overlay<R> {
    /// Starts as `base`, and takes `limit` bytes of memory at most.
    pub fn new(base: R, capacity: Capacity, limit: usize) -> io::Result<Self> {
        let len = base.len()?;
        let changes = RwLock::new(Changes { len, base_end: len, blocks: BTreeMap::new() });
        Ok(Self { base, capacity, limit, changes })
    }

    // No change stops half-way, so a poisoned lock changes nothing.
    fn read(&self) -> RwLockReadGuard<'_, Changes> {
        self.changes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Changes> {
        self.changes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A range as the base has it, with zeroes after its end.
    fn base_bytes(&self, base_end: u64, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let inside = base_end.saturating_sub(offset);
        let inside = usize::try_from(inside).unwrap_or(usize::MAX).min(bytes.len());
        bytes[inside..].fill(0);
        self.base.read_padded_at(offset, &mut bytes[..inside])
    }

    /// The block at this offset, copied from the base if need be.
    fn block<'a>(&self, changes: &'a mut Changes, offset: u64) -> io::Result<&'a mut Box<[u8]>> {
        if !changes.blocks.contains_key(&offset) {
            if (changes.blocks.len() + 1) * BLOCK > self.limit {
                let what = format!("more than {} MiB would change", self.limit >> 20);
                return Err(io::Error::new(io::ErrorKind::OutOfMemory, what));
            }
            let mut bytes = vec![0; BLOCK];
            self.base_bytes(changes.base_end, offset, &mut bytes)?;
            changes.blocks.insert(offset, bytes.into());
        }
        Ok(changes.blocks.entry(offset).or_default())
    }

    /// Changes a range block by block: `change` gets the part of a block and its position in the
    /// range.
    fn with_range(
        &self,
        range: Range<u64>,
        mut change: impl FnMut(&mut [u8], usize),
    ) -> io::Result<()> {
        let mut changes = self.write();
        if matches!(self.capacity, Capacity::Fixed(end) if range.end > end) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (mut at, mut done) = (range.start, 0);
        while at < range.end {
            let within = usize::try_from(at % BLOCK as u64).unwrap_or(0);
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let length = left.min(BLOCK - within);
            let block = self.block(&mut changes, at - within as u64)?;
            change(&mut block[within..within + length], done);
            at += length as u64;
            done += length;
        }
        changes.len = changes.len.max(range.end);
        Ok(())
    }
}

fn range(offset: u64, length: u64) -> io::Result<Range<u64>> {
    let end = offset.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
    Ok(offset..end)
}

impl<R: ReadAt> ReadAt for Overlay<R> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.read().len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let changes = self.read();
        let left = usize::try_from(changes.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let buf = &mut buf[..wanted];
        if buf.is_empty() {
            return Ok(0);
        }
        self.base_bytes(changes.base_end, offset, buf)?;
        let end = offset + wanted as u64;
        let first = offset - offset % BLOCK as u64;
        for (&at, block) in changes.blocks.range(first..end) {
            let start = at.max(offset);
            let stop = (at + BLOCK as u64).min(end);
            let place = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(0);
            buf[place(offset, start)..place(offset, stop)]
                .copy_from_slice(&block[place(at, start)..place(at, stop)]);
        }
        Ok(wanted)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let changes = self.read();
        let base = self.base.next_data(offset)?;
        let base = base.map(|data| data.start..data.end.min(changes.base_end));
        let base = base.filter(|data| !data.is_empty());
        let first = offset - offset % BLOCK as u64;
        let block = changes
            .blocks
            .range(first..changes.len.max(first))
            .next()
            .map(|(&at, _)| at.max(offset)..(at + BLOCK as u64).min(changes.len));
        let block = block.filter(|data| !data.is_empty());
        Ok(match (base, block) {
            (Some(base), Some(block)) => Some(if block.start < base.start { block } else { base }),
            (base, block) => base.or(block),
        })
    }

    fn is_remote(&self) -> bool {
        self.base.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.base.will_need(range);
    }
}

impl<R: ReadAt> Storage for Overlay<R> {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_range(range(offset, data.len() as u64)?, |block, at| {
            block.copy_from_slice(&data[at..at + block.len()]);
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changes = self.write();
        if len == changes.len {
            return Ok(());
        }
        if self.capacity != Capacity::Growable {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // What is cut off reads as zeroes if the storage gets longer again.
        changes.base_end = changes.base_end.min(len);
        changes.blocks.split_off(&len.next_multiple_of(BLOCK as u64));
        let within = usize::try_from(len % BLOCK as u64).unwrap_or(0);
        if let Some(block) = changes.blocks.get_mut(&(len - within as u64)) {
            block[within..].fill(0);
        }
        changes.len = len;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Leaves everything as it is, so that giving back any amount takes no memory.
    fn discard(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.with_range(range(offset, length)?, |block, _| block.fill(0))
    }
}
