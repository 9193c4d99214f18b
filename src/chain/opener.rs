//! Opens the files that images name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{Access, FileStorage, MemoryStorage, ReadAt, Storage, is_null_device, lock};

/// Opens the files that an image names.
pub trait Opener {
    /// Opens a backing file for reading.
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>>;
    /// Opens an external data file for reading.
    fn open_data_file(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        self.open_read(path)
    }
    /// Opens an external data file for writing.
    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>>;
    /// One path for each file, whatever the ways to name it: loops are found by it.
    fn identity(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

/// Opens files of the file system, with QEMU's locks.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOpener {
    /// Read files that others may be writing (`-U`, `--force-share`).
    pub force_share: bool,
    /// Leave files that are written unflushed.
    pub unflushed: bool,
}

impl Opener for FileOpener {
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        if is_null_device(path) {
            return Ok(Arc::new(MemoryStorage::new(Vec::new())));
        }
        let file = FileStorage::open_read(path).map_err(|e| open_error(path, e))?;
        let access = if self.force_share { Access::ReadShared } else { Access::Read };
        let locking = lock(&file, access)?;
        log::info!("'{}': read below an image, lock: {locking:?}", path.display());
        Ok(Arc::new(file))
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        let mut file = FileStorage::open_write(path).map_err(|e| open_error(path, e))?;
        lock(&file, Access::WriteData)?;
        if self.unflushed {
            file.leave_unflushed();
        }
        Ok(Arc::new(file))
    }

    fn identity(&self, path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    }
}

fn open_error(path: &Path, source: std::io::Error) -> Error {
    Error::Open { path: path.to_owned(), source }
}
