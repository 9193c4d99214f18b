//! What an image is stored on: a file or device of this machine, or a remote one.
//!
//! The only place that maps a name to a storage: everything that opens an image by a name, or by a
//! name that is stored in one, opens a [`Medium`].

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::remote::{self, Settings, is_remote};
use crate::storage::{Capacity, FileStorage, ReadAt, Storage, forward};

/// An open image, whatever it is stored on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Medium {
    /// A regular file or block device.
    File(FileStorage),
    /// Something that a server has.
    Remote(Remote),
}

/// An open image that a server has.
pub struct Remote {
    name: PathBuf,
    storage: Box<dyn Storage>,
    flushes: bool,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("name", &self.name).finish_non_exhaustive()
    }
}

impl From<FileStorage> for Medium {
    fn from(file: FileStorage) -> Self {
        Self::File(file)
    }
}

impl Medium {
    /// Opens an existing image for reading. A name with a scheme that is supported is a remote one,
    /// which is used by `settings`; any other is a path.
    ///
    /// Fails as [`FileStorage::open_read`] and [`remote::open`].
    pub fn open_read(name: &Path, settings: Settings) -> io::Result<Self> {
        match is_remote(name) {
            true => Self::open_remote(name, false, settings),
            false => FileStorage::open_read(name).map(Self::File),
        }
    }

    /// Opens an existing image for reading and writing. Fails as [`FileStorage::open_write`] and
    /// [`remote::open`].
    pub fn open_write(name: &Path, settings: Settings) -> io::Result<Self> {
        match is_remote(name) {
            true => Self::open_remote(name, true, settings),
            false => FileStorage::open_write(name).map(Self::File),
        }
    }

    /// Opens an image for reading and writing, and makes an empty file if it does not exist; what
    /// is remote has to exist. Fails as [`FileStorage::open_or_create`] and [`remote::open`].
    pub fn open_or_create(name: &Path, settings: Settings) -> io::Result<Self> {
        match is_remote(name) {
            true => Self::open_remote(name, true, settings),
            false => FileStorage::open_or_create(name).map(Self::File),
        }
    }

    fn open_remote(name: &Path, write: bool, settings: Settings) -> io::Result<Self> {
        let storage = remote::open(name, write, settings)?;
        Ok(Self::Remote(Remote { name: name.to_owned(), storage, flushes: true }))
    }

    /// The name by which it was opened, where it was opened by one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(file) => file.path(),
            Self::Remote(remote) => Some(&remote.name),
        }
    }

    /// The file, where it is one of this machine. It has QEMU's locks; what is remote has none that
    /// a client could take: whether others may use it meanwhile is up to its server.
    pub const fn as_file(&self) -> Option<&FileStorage> {
        match self {
            Self::File(file) => Some(file),
            Self::Remote(_) => None,
        }
    }

    /// Bytes that it takes on its file system; 0 for a device, `None` where that is not known.
    pub fn disk_usage(&self) -> io::Result<Option<u64>> {
        self.as_file().map(FileStorage::disk_usage).transpose()
    }

    /// As [`FileStorage::bypass_cache`]. There is no page cache of what is remote.
    pub fn bypass_cache(&mut self, writing: bool) -> io::Result<()> {
        match self {
            Self::File(file) => file.bypass_cache(writing),
            Self::Remote(_) => Ok(()),
        }
    }

    /// From now on flushes do nothing, as in QEMU's cache mode `unsafe`.
    pub fn leave_unflushed(&mut self) {
        match self {
            Self::File(file) => file.leave_unflushed(),
            Self::Remote(remote) => remote.flushes = false,
        }
    }

    /// As [`FileStorage::disable_copy_on_write`].
    pub fn disable_copy_on_write(&self) {
        if let Self::File(file) = self {
            file.disable_copy_on_write();
        }
    }

    /// As [`FileStorage::set_extent_size_hint`].
    pub fn set_extent_size_hint(&mut self, bytes: NonZeroU32, level: log::Level) -> io::Result<()> {
        match self {
            Self::File(file) => file.set_extent_size_hint(bytes, level),
            Self::Remote(_) => Ok(()),
        }
    }

    fn bytes(&self) -> &dyn ReadAt {
        match self {
            Self::File(file) => file,
            Self::Remote(remote) => &remote.storage,
        }
    }

    fn storage(&self) -> &dyn Storage {
        match self {
            Self::File(file) => file,
            Self::Remote(remote) => &remote.storage,
        }
    }
}

forward!([] [] Medium, self => self.bytes(), self.storage(), match self {
    Self::Remote(remote) if !remote.flushes => Ok(()),
    _ => self.storage().sync(),
});
