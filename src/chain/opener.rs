//! Opens the files that images name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::medium::Medium;
use crate::remote::{Settings, identity, is_remote, without_secrets};
use crate::storage::{Access, MemoryStorage, ReadAt, Storage, is_null_device, lock};

/// Opens the files that an image names.
pub trait Opener {
    /// Opens a backing file for reading.
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>>;
    /// Opens a backing file that is a raw disk for reading.
    fn open_raw(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.open_read(path)
    }
    /// Opens an external data file for reading.
    fn open_data_file(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.open_read(path)
    }
    /// Opens an external data file for writing.
    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>>;
    /// Whether a name that an image has may be followed to this file at all; the error is why not.
    fn may_follow(&self, _path: &Path) -> Result<()> {
        Ok(())
    }
    /// One path for each file, whatever the ways to name it: loops are found by it.
    fn identity(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

/// Opens files of the file system, with QEMU's locks; what is remote only where that is allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOpener {
    /// Read files that others may be writing (`-U`, `--force-share`).
    pub force_share: bool,
    /// Read raw disks and data files that others may be writing, as all of `qemu-img`'s commands do
    /// but `convert` of its sources.
    pub live: bool,
    /// Leave files that are written unflushed.
    pub unflushed: bool,
    /// How remote files are used that images name; `None`: they are not opened. A name in an image
    /// is of whoever made the image, who could have this machine send requests to any other.
    pub remote: Option<Settings>,
}

impl FileOpener {
    /// How the file of a name is used where it is remote; an error where that is not allowed.
    fn settings(&self, path: &Path) -> Result<Settings> {
        match self.remote {
            None if is_remote(path) => Err(Error::RemoteName(without_secrets(path))),
            settings => Ok(settings.unwrap_or_default()),
        }
    }

    /// Opens a file for reading, with these locks unless all are shared.
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn ReadAt>> {
        if is_null_device(path) {
            return Ok(Arc::new(MemoryStorage::new(Vec::new())));
        }
        let settings = self.settings(path)?;
        let medium = Medium::open_read(path, settings).map_err(|e| open_error(path, e))?;
        let access = if self.force_share { Access::ReadShared } else { access };
        let locking = medium.as_file().map(|file| lock(file, access)).transpose()?;
        let locking = locking.map_or_else(|| "none".to_owned(), |locking| format!("{locking:?}"));
        let name = without_secrets(path);
        log::info!("'{}': read below an image, lock: {locking}", name.display());
        Ok(Arc::new(medium))
    }
}

impl Opener for FileOpener {
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.open(path, Access::Read)
    }

    fn open_raw(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.open(path, if self.live { Access::ReadShared } else { Access::Read })
    }

    fn open_data_file(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.open(path, if self.live { Access::ReadData } else { Access::Read })
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        let settings = self.settings(path)?;
        let mut medium = Medium::open_write(path, settings).map_err(|e| open_error(path, e))?;
        medium.as_file().map(|file| lock(file, Access::WriteData)).transpose()?;
        if self.unflushed {
            medium.leave_unflushed();
        }
        Ok(Arc::new(medium))
    }

    fn may_follow(&self, path: &Path) -> Result<()> {
        self.settings(path).map(drop)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        match is_remote(path) {
            true => identity(path),
            false => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        }
    }
}

fn open_error(path: &Path, source: std::io::Error) -> Error {
    Error::Open { path: without_secrets(path), source }
}
