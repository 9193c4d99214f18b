//! Bytes in a regular file or on a block device.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, SeekFrom, copy_file_range, fadvise, fallocate, seek};
use rustix::io::Errno;

use super::{Capacity, ReadAt, Storage, extent_size};
use crate::error::cause;

/// Most bytes in one buffer of zeroes.
const ZERO_BUFFER: usize = 1 << 20;

/// What direct I/O asks of offsets, lengths and addresses, at most.
const DIRECT_UNIT: usize = 4096;

/// Who may do what with a new file, as with one of qemu-img's; the umask takes some of it.
const MODE_OF_NEW: u32 = 0o644;

/// The device number of `/dev/null`, Linux's documented one: major 1, minor 3.
const NULL_DEVICE: u64 = 0x103;

/// The last offset that the system can address; a file cannot reach past it.
const MAX_OFFSET: u64 = i64::MAX.unsigned_abs();

/// A regular file or block device, read and written at offsets.
///
/// No call uses the file position, so one value serves several threads. Locks taken with
/// [`super::lock`] last until the value is dropped.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    /// The same file, opened to go past the page cache.
    direct: Option<File>,
    capacity: Capacity,
    path: Option<PathBuf>,
    flushes: bool,
    /// In what pieces the file is to be allocated, and how loudly a failure is reported.
    extent_size: Option<(NonZeroU32, log::Level)>,
}

impl FileStorage {
    /// Opens an existing file for reading only; every write-like call on it fails.
    ///
    /// Fails with the system's error, or with [`io::ErrorKind::InvalidInput`] for anything that is
    /// neither a regular file nor a block device.
    pub fn open_read(path: &Path) -> io::Result<Self> {
        Self::open(path, OpenOptions::new().read(true))
    }

    /// Opens an existing file for reading and writing and leaves its content alone. Errors as for
    /// [`FileStorage::open_read`].
    pub fn open_write(path: &Path) -> io::Result<Self> {
        Self::open(path, OpenOptions::new().read(true).write(true))
    }

    /// Opens a file for reading and writing, and makes an empty one where there is none.
    ///
    /// An existing file keeps its content: to discard it, take the lock first and then
    /// calls [`Storage::set_len`]. Errors as for [`FileStorage::open_read`].
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        Self::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
    }

    /// Makes a new empty file, open for reading and writing; an existing one is an error of kind
    /// [`io::ErrorKind::AlreadyExists`].
    pub fn create_new(path: &Path) -> io::Result<Self> {
        Self::open(path, OpenOptions::new().read(true).write(true).create_new(true))
    }

    /// The name by which it was opened, where it was opened by one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Bytes that the file takes on its file system; 0 for a device.
    pub fn disk_usage(&self) -> io::Result<u64> {
        disk_usage(&self.file)
    }

    /// Turns copy-on-write of the file system off for this file, where it has that (btrfs). Only
    /// an empty file takes it; where it is not possible, nothing happens.
    pub fn disable_copy_on_write(&self) {
        if let Ok(flags) = rustix::fs::ioctl_getflags(&self.file) {
            // Only a hint: a file system without copy-on-write needs none.
            let _ = rustix::fs::ioctl_setflags(&self.file, flags | rustix::fs::IFlags::NOCOW);
        }
    }

    /// In what pieces the file system allocates the file, in bytes, where that is set (XFS).
    pub fn extent_size_hint(&self) -> Option<u32> {
        extent_size::get(&self.file)
    }

    /// Sets in what pieces the file system allocates the file: now, or as soon as
    /// [`Storage::set_len`] has emptied it, since only an empty file takes it. Where that is not
    /// possible, a line of this level goes to the log.
    pub fn set_extent_size_hint(&mut self, bytes: NonZeroU32, level: log::Level) -> io::Result<()> {
        self.extent_size = Some((bytes, level));
        if self.len()? == 0 {
            self.apply_extent_size_hint();
        }
        Ok(())
    }

    fn apply_extent_size_hint(&self) {
        let Some((bytes, level)) = self.extent_size else { return };
        if let Err(error) = extent_size::set(&self.file, bytes) {
            let path = self.path.as_deref().unwrap_or(Path::new("the image"));
            let (path, why) = (path.display(), cause(&error));
            log::log!(level, "'{path}': the extent size hint was not set: {why}");
        }
    }

    fn open(path: &Path, options: &mut OpenOptions) -> io::Result<Self> {
        // Asked before as well as after opening: the system's own refusal of a socket or directory
        // returns less, and opening some device files has effects.
        if let Ok(metadata) = std::fs::metadata(path) {
            refuse_unusable(metadata.file_type())?;
        }
        // Should a FIFO come into its place now, opening it does not wait for a peer.
        let file =
            options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).mode(MODE_OF_NEW).open(path)?;
        let mut storage = Self::from_file(file)?;
        storage.path = Some(path.to_owned());
        Ok(storage)
    }

    /// Takes a file that is open already; an error for what is neither a regular file nor a block
    /// device.
    pub fn from_file(file: File) -> io::Result<Self> {
        let file_type = file.metadata()?.file_type();
        refuse_unusable(file_type)?;
        let capacity = if file_type.is_block_device() {
            Capacity::Fixed(seek(&file, SeekFrom::End(0))?)
        } else {
            Capacity::Growable
        };
        Ok(Self { file, direct: None, capacity, path: None, flushes: true, extent_size: None })
    }

    /// From now on reads and writes that begin and end at multiples of 4 KiB, in the file and in
    /// memory, go past the page cache. An error where the file system has no such way.
    pub fn bypass_cache(&mut self, writing: bool) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let mut options = OpenOptions::new();
        options.read(true).write(writing).custom_flags(libc::O_DIRECT | libc::O_NOCTTY);
        self.direct = Some(options.open(path)?);
        Ok(())
    }

    /// From now on flushes do nothing, as in QEMU's cache mode `unsafe`: after a failure of the
    /// power anything can be missing.
    pub fn leave_unflushed(&mut self) {
        self.flushes = false;
    }

    /// The file for an access: past the page cache if that was requested and is possible.
    fn file_for(&self, offset: u64, bytes: &[u8]) -> &File {
        match &self.direct {
            Some(direct)
                if offset % DIRECT_UNIT as u64 == 0
                    && bytes.len() % DIRECT_UNIT == 0
                    && bytes.as_ptr().align_offset(DIRECT_UNIT) == 0 =>
            {
                direct
            }
            _ => &self.file,
        }
    }

    /// Copies inside the system; `false` where it has no way for these files.
    fn copy_file(
        &self,
        from: BorrowedFd<'_>,
        from_range: &Range<u64>,
        offset: u64,
    ) -> io::Result<bool> {
        let (mut source, mut target) = (from_range.start, offset);
        while source < from_range.end {
            let left = usize::try_from(from_range.end - source).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut source), &self.file, Some(&mut target), left) {
                // The file ends before its range does.
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(
                    Errno::XDEV
                    | Errno::INVAL
                    | Errno::NOSYS
                    | Errno::OPNOTSUPP
                    | Errno::TXTBSY
                    | Errno::BADF,
                ) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Tries the ways to deallocate or zero a range in place. `false`: none is supported here.
    fn fallocate_any(&self, ways: &[FallocateFlags], range: &Range<u64>) -> io::Result<bool> {
        for way in ways {
            let flags = *way | FallocateFlags::KEEP_SIZE;
            let length = range.end - range.start;
            match retry(|| fallocate(&self.file, flags, range.start, length)) {
                Ok(()) => return Ok(true),
                // EINVAL: a range that is not made of whole blocks of the device, or a file system
                // that does not support this way (GPFS, some on FUSE).
                Err(
                    Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::NOTTY | Errno::INVAL,
                ) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(false)
    }

    /// Writes zeroes where a range has no data.
    fn fill_holes(&self, range: &Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let data = self.next_data(at)?.unwrap_or(range.end..range.end);
            self.write_zero_buffers(&(at..data.start.min(range.end)))?;
            at = data.end;
        }
        Ok(())
    }

    fn write_zero_buffers(&self, range: &Range<u64>) -> io::Result<()> {
        let longest = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let zeroes = vec![0; longest.min(ZERO_BUFFER)];
        let mut offset = range.start;
        while offset < range.end {
            let left = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
            let piece = &zeroes[..left.min(zeroes.len())];
            self.write_at(offset, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// Bytes that an open file takes on its file system; 0 for a device.
pub(crate) fn disk_usage(file: impl AsFd) -> io::Result<u64> {
    let blocks = u64::try_from(rustix::fs::fstat(file)?.st_blocks).unwrap_or(0);
    Ok(blocks.saturating_mul(512))
}

/// Returns once a file's entry in its directory is on stable storage.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        super::lock::bytes::release(self.as_fd());
    }
}

impl AsFd for FileStorage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ReadAt for FileStorage {
    fn len(&self) -> io::Result<u64> {
        match self.capacity {
            Capacity::Growable => Ok(self.file.metadata()?.len()),
            Capacity::Fixed(_) => Ok(seek(&self.file, SeekFrom::End(0))?),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(MAX_OFFSET.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(room);
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            match self.file_for(at, &buf[done..wanted]).read_at(&mut buf[done..wanted], at) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    // Moves the file position, which nothing here uses.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // Block devices and some file systems do not report their holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                let len = self.len()?;
                return Ok((offset < len).then_some(offset..len));
            }
            Err(errno) => return Err(errno.into()),
        };
        match seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) => Ok((start < end).then_some(start..end)),
            // The file was cut off in between.
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn will_need(&self, range: Range<u64>) {
        if let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            // Only a hint: an error changes nothing.
            let _ = fadvise(&self.file, range.start, Some(length), Advice::WillNeed);
        }
    }
}

impl Storage for FileStorage {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file_for(offset, data).write_all_at(data, offset)
    }

    fn copy_from(
        &self,
        offset: u64,
        from: &dyn ReadAt,
        from_offset: u64,
        length: u64,
    ) -> io::Result<bool> {
        match from.file() {
            Some(file) => self.copy_file(file, &range(from_offset, length)?, offset),
            None => Ok(false),
        }
    }

    /// A block device accepts only the length that it has.
    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.capacity {
            Capacity::Growable => {
                self.file.set_len(len)?;
                if len == 0 {
                    self.apply_extent_size_hint();
                }
                Ok(())
            }
            Capacity::Fixed(_) if self.len()? == len => Ok(()),
            Capacity::Fixed(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the length of a block device cannot be changed",
            )),
        }
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: includes the length and everything else that is needed to read the data back.
        if self.flushes { self.file.sync_data() } else { Ok(()) }
    }

    /// Punches a hole, also on a block device, where the kernel makes a discard that reads back as
    /// zeroes of it. Where that is not supported, nothing happens.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let range = range(offset, length)?;
        if !range.is_empty() {
            self.fallocate_any(&[FallocateFlags::PUNCH_HOLE], &range)?;
        }
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let range = range(offset, length)?;
        if range.is_empty() || self.capacity != Capacity::Growable {
            return Ok(());
        }
        match retry(|| fallocate(&self.file, FallocateFlags::empty(), range.start, length)) {
            Ok(()) => Ok(()),
            // A file system that cannot: zeroes take the space, as qemu-img writes them.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.fill_holes(&range),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A range that reaches past the end makes a file longer, as writing zeroes there would.
    fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        let range = range(offset, length)?;
        if range.is_empty() {
            return Ok(());
        }
        let ways = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE];
        if !self.fallocate_any(&ways, &range)? {
            return self.write_zero_buffers(&range);
        }
        if self.len()? < range.end {
            // Not set_len: it would cut off what another thread appends meanwhile.
            self.write_at(range.end - 1, &[0])?;
        }
        Ok(())
    }
}

/// The range of `length` bytes at `offset`, if a file can have it.
fn range(offset: u64, length: u64) -> io::Result<Range<u64>> {
    match offset.checked_add(length) {
        Some(end) if end <= MAX_OFFSET => Ok(offset..end),
        _ => Err(Errno::FBIG.into()),
    }
}

fn retry(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Whether a name means `/dev/null`, which QEMU takes for a disk of no bytes.
pub fn is_null_device(path: &Path) -> bool {
    cfg!(target_os = "linux")
        && std::fs::metadata(path)
            .is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == NULL_DEVICE)
}

fn refuse_unusable(file_type: FileType) -> io::Result<()> {
    let what = if file_type.is_file() || file_type.is_block_device() {
        return Ok(());
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_char_device() {
        "a character device"
    } else {
        "a special file"
    };
    let message = format!("is {what}, not a regular file or block device");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_buffers_longer_than_one_buffer_cover_the_whole_range() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileStorage::create_new(&dir.path().join("f")).unwrap();
        let len = 2 * ZERO_BUFFER + 1000;
        file.write_at(0, &vec![0xaa; len]).unwrap();
        file.write_zero_buffers(&(1..len as u64 - 1)).unwrap();
        let mut bytes = vec![0; len];
        file.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[len - 1]), (0xaa, 0xaa));
        assert!(bytes[1..len - 1].iter().all(|&b| b == 0));
    }

    #[test]
    fn a_range_past_the_last_offset_is_an_error_not_an_overflow() {
        assert!(range(u64::MAX, 1).is_err());
        assert!(range(MAX_OFFSET, 1).is_err());
        assert_eq!(range(MAX_OFFSET, 0).unwrap(), MAX_OFFSET..MAX_OFFSET);
    }
}
