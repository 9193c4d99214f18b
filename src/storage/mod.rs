//! Bytes at offsets: what an image is stored in. Independent of qcow2.

mod extent_size;
mod file;
mod identity;
mod lock;
mod memory;
mod ranges;
mod wrapped;
mod zero;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

pub(crate) use file::disk_usage;
pub use file::{FileStorage, is_null_device, sync_directory_of};
pub use identity::FileId;
pub use lock::{Access, Locking, is_open_for_writing, lock};
pub use memory::MemoryStorage;
pub(crate) use ranges::RangeSet;
pub(crate) use wrapped::{Cancelable, Peeked, ReadOnly, Window, forward};
pub use wrapped::{Latch, Overlay};
pub(crate) use zero::is_zero;

/// Whether a storage can get longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// A regular file: writing past the end makes it longer.
    Growable,
    /// A block device: this many bytes and never more.
    Fixed(u64),
}

/// Random-access reading, usable from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from `offset` into `buf`; returns how many bytes were read, fewer than requested only
    /// at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The first range of bytes at or after `offset` that may be other than zero, or `None` where
    /// only holes follow. A storage without holes returns everything up to its end.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len()?;
        Ok((offset < len).then_some(offset..len))
    }

    /// Whether a range is a hole or past the end: it reads as zeroes, and need
    /// not be read. False where that cannot be determined.
    fn is_hole(&self, offset: u64, bytes: u64) -> bool {
        let behind = |data: Range<u64>| data.start >= offset.saturating_add(bytes);
        self.next_data(offset).is_ok_and(|data| data.is_none_or(behind))
    }

    /// Why nothing can be read any more, where that is so: a connection is lost, or a remote file
    /// has changed. No verdict follows from what was read before.
    fn failure(&self) -> Option<io::Error> {
        None
    }

    /// An error where nothing can be read any more.
    fn require_reachable(&self) -> crate::error::Result<()> {
        match self.failure() {
            None => Ok(()),
            Some(error) => Err(crate::error::Error::file("read the image", error)),
        }
    }

    /// The open file that these bytes are, if they are one as it stands.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether what is read comes from a server: then it is worth a hint before.
    fn is_remote(&self) -> bool {
        false
    }

    /// A hint that this range will be read soon.
    fn will_need(&self, _range: Range<u64>) {}

    /// Reads exactly `buf.len()` bytes; an end of file before that is an error.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.read_at(offset, buf)? == buf.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Reads `buf.len()` bytes; bytes past the end read as zeroes, as in QEMU's block layer.
    fn read_padded_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let n = self.read_at(offset, buf)?;
        buf[n..].fill(0);
        Ok(())
    }

    /// [`Self::read_padded_at`] to find out whether these bytes matter at all; those that do are
    /// read once more. Whoever records what is read leaves peeks out.
    fn peek_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_padded_at(offset, buf)
    }
}

/// Random-access reading and writing, usable from several threads at once.
pub trait Storage: ReadAt {
    /// Whether the storage can get longer.
    fn capacity(&self) -> Capacity;
    /// Writes all of `data` at `offset`.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes the storage exactly `len` bytes long; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns once everything written before is on stable storage.
    fn sync(&self) -> io::Result<()>;
    /// Discards the content of a range that is no longer needed; it reads as zeroes or as before.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Allocates disk space for a range, so that later writes do not fail for lack of space;
    /// a file gets as long as that needs. Existing content stays. Where this is not
    /// supported, the file is only made longer.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        if self.len()? < end { self.set_len(end) } else { Ok(()) }
    }
    /// Has the system copy bytes from another storage. `false`: it cannot, and some or none are
    /// copied.
    fn copy_from(
        &self,
        _offset: u64,
        _from: &dyn ReadAt,
        _from_offset: u64,
        _length: u64,
    ) -> io::Result<bool> {
        Ok(false)
    }
    /// Makes a range read as zeroes, without storing them where the storage can do that.
    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()>;
}
