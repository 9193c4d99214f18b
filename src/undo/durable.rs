//! Files whose name a crash does not take away.

use std::fs;
use std::io;
use std::path::Path;

use crate::storage::{FileStorage, Storage, sync_directory_of};

/// A storage that is found again after a crash, once what was written to it is flushed: a record
/// of a repair is of no use in a file whose name never reached the disk.
#[derive(Debug)]
pub struct Durable<S>(S);

impl Durable<FileStorage> {
    /// Makes a file and flushes its folder; where that fails the file is removed. An error of the
    /// kind `AlreadyExists` where there is one of this name.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = FileStorage::create_new(path)?;
        match sync_directory_of(path) {
            Ok(()) => Ok(Self(file)),
            Err(error) => {
                // What is left then is an empty file, which the next repair takes.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Opens an existing file and flushes its folder, since whoever made it may not have.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = FileStorage::open_write(path)?;
        sync_directory_of(path)?;
        Ok(Self(file))
    }
}

impl<S: Storage> Durable<S> {
    /// A storage that is not a file, or whose name the caller has flushed.
    pub const fn assume(storage: S) -> Self {
        Self(storage)
    }

    /// The storage.
    pub const fn storage(&self) -> &S {
        &self.0
    }

    /// The storage.
    pub(super) fn into_inner(self) -> S {
        self.0
    }
}
