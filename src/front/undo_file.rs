//! The file that records what a repair overwrites.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::lock_or_warn;
use crate::storage::{Access, FileId, FileStorage, Latch, ReadAt, Storage};
use crate::undo::{Durable, UndoLog};

/// An undo file that a repair is to write.
pub struct UndoFile<'a> {
    path: &'a Path,
    file: Durable<FileStorage>,
    is_ours: bool,
}

impl<'a> UndoFile<'a> {
    /// Makes the file, or takes an empty one that exists; never the file of `image`, by whatever
    /// name.
    pub fn create(path: &'a Path, image: &dyn ReadAt) -> Result<Self> {
        let is_image = |file| FileId::of_open(file).ok() == FileId::of_path(path).ok();
        if path.exists() && image.file().is_some_and(is_image) {
            let why = "is the file of the image; nothing was written".into();
            return Err(named(path, Error::Refused(why)));
        }
        let failed = |source| Error::Create { path: path.to_owned(), source };
        let (file, is_ours) = match Durable::create(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (Durable::open(path).map_err(failed)?, false)
            }
            Err(error) => return Err(failed(error)),
        };
        lock_or_warn(file.storage(), Access::Write).map_err(|error| named(path, error))?;
        Ok(Self { path, file, is_ours })
    }

    /// Runs a repair whose writes are recorded, and closes the record. Where nothing was written to
    /// the image, also for lack of space for the record, the file is as before: removed, or empty.
    pub fn record<T>(
        self,
        image: impl Storage,
        repair: impl FnOnce(&dyn Storage) -> Result<T>,
    ) -> Result<T> {
        let failed = |action: &str, source| named(self.path, Error::file(action, source));
        let log = UndoLog::new(image, self.file).map_err(|e| failed("begin the record", e))?;
        let result = repair(&Latch::new(&log)).and_then(|outcome| {
            log.finish().map(|_| outcome).map_err(|e| failed("end the record", e))
        });
        if log.has_begun() {
            return result;
        }
        let cleared = if self.is_ours { Ok(()) } else { log.clear() };
        drop(log);
        let removed = if self.is_ours { fs::remove_file(self.path) } else { cleared };
        result.and_then(|outcome| match removed {
            Ok(()) => Ok(outcome),
            Err(error) => Err(failed("remove the file", error)),
        })
    }
}

fn named(path: &Path, source: Error) -> Error {
    Error::UndoFile { path: path.to_owned(), source: Box::new(source) }
}
