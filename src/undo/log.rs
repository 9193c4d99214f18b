//! A storage that records what it is about to overwrite.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::durable::Durable;
use super::encoding::{Recorded, State, whole_sectors};
use super::writer::Writer;
use crate::sector::SECTOR;
use crate::storage::{Capacity, RangeSet, ReadAt, Storage};

/// Bytes to be written that are held back before their places are recorded.
const MAX_PENDING_BYTES: usize = 16 << 20;
/// Calls that are held back.
const MAX_PENDING_CALLS: usize = 1 << 16;
/// Runs of sectors that are watched. What a check reads of a larger image is watched in part.
const MAX_WATCHED: usize = 1 << 18;
/// Places all over the image that are watched whatever the check reads.
const SAMPLES: u64 = 64;
/// Bytes of each.
const SAMPLE_BYTES: u64 = 4096;

/// An image whose old bytes go to an undo file, and are on stable storage there, before the first
/// write to their place.
///
/// Writes are held back until a flush, or until one of their places is read, so that a stage of a
/// repair costs one record and not one a write. What is read before the first write is remembered:
/// digests of it show later whether the image is still the one that was repaired.
#[derive(Debug)]
pub struct UndoLog<S, F> {
    image: S,
    file: F,
    image_bytes: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What was read before the first write.
    read: RangeSet,
    /// The undo file, once it is begun.
    writer: Option<Writer>,
    /// Everything that was recorded.
    recorded: RangeSet,
    pending: Vec<Call>,
    pending_bytes: usize,
    /// The places of what is pending, in whole sectors.
    touched: RangeSet,
    failed: bool,
    /// Whether the image may have been written.
    has_written: bool,
}

/// A call that is held back.
#[derive(Debug)]
enum Call {
    Write { offset: u64, data: Vec<u8> },
    Zeroes { offset: u64, length: u64 },
    Discard { offset: u64, length: u64 },
    Allocate { offset: u64, length: u64 },
    SetLen(u64),
}

impl Call {
    /// The bytes that it may change.
    fn range(&self) -> Range<u64> {
        match self {
            Self::Write { offset, data } => *offset..offset.saturating_add(data.len() as u64),
            Self::Zeroes { offset, length } | Self::Discard { offset, length } => {
                *offset..offset.saturating_add(*length)
            }
            Self::Allocate { offset, .. } => *offset..*offset,
            Self::SetLen(len) => *len..u64::MAX,
        }
    }

    fn run(&self, image: &dyn Storage) -> io::Result<()> {
        match self {
            Self::Write { offset, data } => image.write_at(*offset, data),
            Self::Zeroes { offset, length } => image.write_zeroes(*offset, *length),
            Self::Discard { offset, length } => image.discard(*offset, *length),
            Self::Allocate { offset, length } => image.allocate(*offset, *length),
            Self::SetLen(len) => image.set_len(*len),
        }
    }
}

impl<S: Storage, F: Storage> UndoLog<S, F> {
    /// Records changes of `image` in `file`, which must be empty and able to grow.
    pub fn new(image: S, file: Durable<F>) -> io::Result<Self> {
        let file = file.into_inner();
        if !file.is_empty()? || file.capacity() != Capacity::Growable {
            let what = "the undo file is not empty; it is never overwritten";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        let image_bytes = image.len()?;
        Ok(Self { image, file, image_bytes, inner: Mutex::default() })
    }

    /// Whether anything was written to the image, so that there may be something to undo.
    pub fn has_begun(&self) -> bool {
        self.lock().has_written
    }

    /// Empties the undo file of a repair that has written nothing to the image.
    pub fn clear(&self) -> io::Result<()> {
        let inner = self.lock();
        if inner.has_written {
            return Err(io::Error::other("what was written to the image is recorded there"));
        }
        self.file.set_len(0)
    }

    /// Writes what is held back and closes the record of a repair that has ended; returns its
    /// length in bytes, 0 where nothing was written at all.
    pub fn finish(&self) -> io::Result<u64> {
        let mut inner = self.lock();
        self.flush(&mut inner)?;
        let Inner { writer: Some(writer), recorded, .. } = &mut *inner else { return Ok(0) };
        self.image.sync()?;
        let len = self.image.len()?;
        let tail = self.image_bytes.next_multiple_of(SECTOR)..len;
        for range in recorded.iter().chain([tail]) {
            let range = range.start..range.end.min(len);
            writer.record(&self.file, &self.image, range, Recorded::New)?;
        }
        writer.commit(&self.file, State::Ended(len))?;
        Ok(writer.len())
    }

    // Every path that leaves the state half changed has set `failed` before.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold_back(&self, call: Call) -> io::Result<()> {
        let mut inner = self.lock();
        let bytes = if let Call::Write { data, .. } = &call { data.len() } else { 0 };
        let full = inner.pending_bytes + bytes > MAX_PENDING_BYTES
            || inner.pending.len() >= MAX_PENDING_CALLS;
        if full {
            self.flush(&mut inner)?;
        }
        inner.touched.insert(whole_sectors(&call.range(), u64::MAX));
        inner.pending_bytes += bytes;
        inner.pending.push(call);
        Ok(())
    }

    /// Records the places of what is held back, and only then writes it.
    fn flush(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.failed {
            return Err(io::Error::other("refused after an earlier failure"));
        }
        if inner.pending.is_empty() {
            return Ok(());
        }
        inner.failed = true;
        self.record(inner)?;
        inner.has_written = true;
        for call in inner.pending.drain(..) {
            call.run(&self.image)?;
        }
        inner.pending_bytes = 0;
        inner.touched.clear();
        inner.failed = false;
        Ok(())
    }

    fn record(&self, inner: &mut Inner) -> io::Result<()> {
        let is_new = inner.writer.is_none();
        if is_new {
            inner.writer = Some(self.begin(&mut inner.read)?);
        }
        let Some(writer) = &mut inner.writer else { return Ok(()) };
        let mut is_due = is_new;
        for range in inner.touched.iter() {
            let range = whole_sectors(&range, self.image_bytes);
            is_due |= !range.is_empty();
            writer.record(&self.file, &self.image, range.clone(), Recorded::Old)?;
            inner.recorded.insert(range);
        }
        if is_due { writer.commit(&self.file, State::Repairing) } else { Ok(()) }
    }

    /// Begins the file with digests of what was read, and of samples.
    fn begin(&self, read: &mut RangeSet) -> io::Result<Writer> {
        let step = (self.image_bytes / SAMPLES / SAMPLE_BYTES * SAMPLE_BYTES).max(SAMPLE_BYTES);
        for number in 0..SAMPLES {
            let start = number * step;
            read.insert(whole_sectors(&(start..start + SAMPLE_BYTES), self.image_bytes));
        }
        let mut writer = Writer::begin(&self.file, self.image_bytes)?;
        for range in read.iter() {
            writer.record(&self.file, &self.image, range, Recorded::Watched)?;
        }
        read.clear();
        Ok(writer)
    }
}

impl<S: Storage, F: Storage> ReadAt for UndoLog<S, F> {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.lock();
        self.flush(&mut inner)?;
        self.image.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        let mut inner = self.lock();
        if inner.touched.overlaps(&range) {
            self.flush(&mut inner)?;
        }
        if inner.writer.is_none() && inner.read.len() < MAX_WATCHED {
            inner.read.insert(whole_sectors(&range, self.image_bytes));
        }
        drop(inner);
        self.image.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let mut inner = self.lock();
        self.flush(&mut inner)?;
        self.image.next_data(offset)
    }

    fn is_remote(&self) -> bool {
        self.image.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.image.will_need(range);
    }
}

impl<S: Storage, F: Storage> Storage for UndoLog<S, F> {
    fn capacity(&self) -> Capacity {
        self.image.capacity()
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // More than this at once would be held in memory beside the caller's.
        for (number, piece) in data.chunks(MAX_PENDING_BYTES / 4).enumerate() {
            let offset = offset + (number * (MAX_PENDING_BYTES / 4)) as u64;
            self.hold_back(Call::Write { offset, data: piece.to_vec() })?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.hold_back(Call::SetLen(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        self.flush(&mut inner)?;
        self.image.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.hold_back(Call::Discard { offset, length })
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.hold_back(Call::Allocate { offset, length })
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.hold_back(Call::Zeroes { offset, length })
    }
}
