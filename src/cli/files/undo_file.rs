//! The file that records what a repair overwrites.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use qcheck::storage::{Access, FileStorage, Latch, Storage};
use qcheck::undo::{Durable, UndoLog};

use super::open;
use crate::cli::args::file_name::quoted;

/// An undo file that a repair is to write.
pub struct UndoFile<'a> {
    path: &'a Path,
    file: Durable<FileStorage>,
    is_ours: bool,
}

impl<'a> UndoFile<'a> {
    /// Makes the file, or takes an empty one that is there.
    pub fn create(path: &'a Path) -> Result<Self> {
        let what = || format!("could not create {}", quoted(path));
        let (file, is_ours) = match Durable::create(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (Durable::open(path).with_context(what)?, false)
            }
            Err(error) => return Err(error).with_context(what),
        };
        open::take_lock(file.storage(), path, Access::Write)?;
        Ok(Self { path, file, is_ours })
    }

    /// Runs a repair whose writes are recorded, and closes the record. Where nothing was written,
    /// the file goes again.
    pub fn record<T>(
        self,
        image: impl Storage,
        repair: impl FnOnce(&dyn Storage) -> qcheck::error::Result<T>,
    ) -> Result<T> {
        let name = || quoted(self.path).to_string();
        let log = UndoLog::new(image, self.file).with_context(name)?;
        let result = repair(&Latch::new(&log)).map_err(anyhow::Error::from);
        let result = match result {
            Ok(outcome) => log.finish().map(|_| outcome).with_context(name),
            Err(error) => Err(error),
        };
        let has_begun = log.has_begun();
        drop(log);
        if has_begun {
            return result;
        }
        let removed = if self.is_ours { fs::remove_file(self.path) } else { Ok(()) };
        removed.with_context(name).and(result)
    }
}
