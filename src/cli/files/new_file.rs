//! A file that is being made: taken away again when that fails.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use log::Level;
use qcheck::file::lock_or_warn;
use qcheck::medium::Medium;
use qcheck::remote::is_remote;
use qcheck::storage::{Access, FileStorage, Latch};

use super::guard::Allowed;
use super::open::apply_cache;
use super::remote;
use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::options::Options;

/// In what pieces a file system that takes the hint allocates a new image, as qemu-img's: 1 MiB.
const EXTENT_SIZE_HINT: u64 = 1 << 20;

/// How a new file is made and written.
#[derive(Debug, Clone, Copy)]
pub struct HowNew {
    nocow: bool,
    extent_size: Option<(NonZeroU32, Level)>,
    cache: Cache,
}

impl HowNew {
    /// From the options of the new image and the cache mode.
    pub fn new(given: &Options, cache: Cache) -> Result<Self> {
        let bytes = given.number("extent_size_hint");
        let level = if bytes.is_some() { Level::Warn } else { Level::Debug };
        let bytes = u32::try_from(bytes.unwrap_or(EXTENT_SIZE_HINT))
            .context("Extent size hint is too large: at most 4294967295 bytes")?;
        let extent_size = NonZeroU32::new(bytes).map(|bytes| (bytes, level));
        Ok(Self { nocow: given.switch("nocow"), extent_size, cache })
    }
}

/// A file that a command makes, or whose content it replaces.
pub struct NewFile {
    path: PathBuf,
    /// Its bytes.
    pub storage: Arc<Latch<Medium>>,
    is_new: bool,
}

impl NewFile {
    /// Opens and locks the file for this access; it keeps its content for now.
    pub fn open(file: &Allowed<'_>, access: Access, how: HowNew) -> Result<Self> {
        let (allowed, path) = (file, file.path());
        let is_new = !is_remote(path) && !path.exists();
        let mut file = Medium::open_or_create(path, remote::settings())
            .with_context(|| format!("Could not create {}", quoted(path)))?;
        allowed.opened(&file)?;
        if let Some(file) = file.as_file() {
            lock_or_warn(file, access).with_context(|| could_not_open(path))?;
        }
        if how.nocow {
            file.disable_copy_on_write();
        }
        if let Some((bytes, level)) = how.extent_size {
            let context = || quoted(path).to_string();
            file.set_extent_size_hint(bytes, level).with_context(context)?;
        }
        apply_cache(how.cache, &mut file, path)?;
        Ok(Self { path: path.to_owned(), storage: Arc::new(Latch::new(file)), is_new })
    }

    /// From now on every write fails once `interruption` is set, so that its maker gives it up.
    pub fn fail_on(&mut self, interruption: &Arc<AtomicBool>) {
        if let Some(storage) = Arc::get_mut(&mut self.storage) {
            storage.fail_on(interruption.clone());
        }
    }

    /// Makes and locks a file; an existing one is an error.
    pub fn create_new(path: &Path) -> Result<Self> {
        let file = FileStorage::create_new(path).context("Could not create the file")?;
        let file = Self {
            path: path.to_owned(),
            storage: Arc::new(Latch::new(Medium::from(file))),
            is_new: true,
        };
        let locked = file.storage.get_ref().as_file();
        let locked = locked.map_or(Ok(()), |file| lock_or_warn(file, Access::Write));
        match locked.with_context(|| could_not_open(path)) {
            Ok(()) => Ok(file),
            Err(error) => {
                file.give_up();
                Err(error)
            }
        }
    }

    /// A file without a name.
    pub fn nameless() -> Result<Self> {
        let file = FileStorage::from_file(super::spool::nameless()?)?;
        Ok(Self { path: PathBuf::new(), storage: Arc::new(Latch::new(file.into())), is_new: false })
    }

    /// Takes a file away that was not there before; returns whether one is left that is not what it
    /// was.
    pub fn give_up(self) -> bool {
        let taken_away = self.is_new && fs::remove_file(&self.path).is_ok();
        !taken_away && self.storage.is_touched()
    }
}
