//! No command writes over a file that it reads, whatever names the file has.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use qcheck::ImageFormat;
use qcheck::chain::{self, Below, FileOpener, Format, Instead, Link, Opener, Walk};
use qcheck::error::{Error, Result as LibraryResult};
use qcheck::file::ImageFile;
use qcheck::medium::Medium;
use qcheck::remote::{self as servers, is_remote};
use qcheck::storage::{FileId, ReadAt, Storage};
use qcheck::tables::HeaderArea;

use crate::cli::args::file_name::quoted;
use crate::cli::files::remote;

/// The files of one command. Every file that it reads is entered before the first one is opened for
/// writing, and each that it writes is looked up first.
#[derive(Debug, Default)]
pub struct Guard(RefCell<Vec<(Key, String)>>);

/// What makes two files one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Existing(FileId),
    /// A file that is to be created: its folder, and its name there.
    Absent(FileId, PathBuf),
    /// One that a server has: its name in one form.
    Remote(PathBuf),
}

impl Key {
    /// `None` where neither the file nor its folder can be looked at: opening it reports why.
    fn of(path: &Path) -> Option<Self> {
        if is_remote(path) {
            return Some(Self::Remote(servers::identity(path)));
        }
        if let Ok(id) = FileId::of_path(path) {
            return Some(Self::Existing(id));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = FileId::of_path(folder.unwrap_or(Path::new("."))).ok()?;
        Some(Self::Absent(folder, PathBuf::from(path.file_name()?)))
    }

    /// Of an image that is open.
    fn of_medium(medium: &Medium) -> Option<Self> {
        match medium.as_file() {
            Some(file) => FileId::of_open(file).ok().map(Self::Existing),
            None => medium.path().and_then(Self::of),
        }
    }
}

impl Guard {
    fn enter(&self, key: Option<Key>, role: &str, path: &Path) {
        self.0.borrow_mut().extend(key.map(|key| (key, format!("{role} {}", quoted(path)))));
    }

    /// Enters an image that is open.
    pub fn enters(&self, medium: &Medium, role: &str, path: &Path) {
        self.enter(Key::of_medium(medium), role, path);
    }

    /// Enters a file that is open.
    pub fn enters_open(&self, file: impl AsFd, role: &str, path: &Path) {
        self.enter(FileId::of_open(file).ok().map(Key::Existing), role, path);
    }

    /// Enters an image that is named as a backing file, and whatever is below it, without locks and
    /// as far as it can be followed: an image that another process uses can be one, and so can one
    /// that is damaged.
    pub fn reads_chain(&self, link: &Link, format: Option<ImageFormat>) {
        let files = remote::opener();
        let mut walk = Walk::new(&files, Some(&link.path));
        let mut next = Some((link.clone(), format));
        while let Some((link, format)) = next.take() {
            self.enter(Key::of(&link.path), "the backing file", &link.path);
            self.reads_instead(&link.instead);
            next = self.below(&link.path, format);
            if next.as_ref().is_some_and(|(link, _)| walk.enter(&link.path).is_err()) {
                return;
            }
        }
    }

    /// Enters what a description names in place of what is in the image.
    fn reads_instead(&self, instead: &Instead) {
        if let Some(data) = &instead.data_file {
            self.enter(Key::of(data), "the data file", data);
        }
        let Some(Below::Image(described)) = &instead.backing else { return };
        if let Ok(link) = Link::described((**described).clone(), None) {
            self.reads_chain(&link, None);
        }
    }

    /// The image below one, whose data file is entered.
    fn below(
        &self,
        path: &Path,
        format: Option<ImageFormat>,
    ) -> Option<(Link, Option<ImageFormat>)> {
        let medium = Medium::open_read(path, remote::settings()).ok()?;
        let file = ImageFile::of(medium, format).ok()?;
        if file.format != ImageFormat::Qcow2 {
            return None;
        }
        let area = HeaderArea::load(&file.storage).ok()?;
        if let (true, Ok(Some(data))) =
            (area.header.has_data_file(), chain::data_file(&area, Some(path)))
        {
            self.enter(Key::of(&data), "the data file", &data);
        }
        let link = Link::of(&area, Some(path)).ok()??;
        let is_raw = link.recorded() == Some(Format::Raw);
        Some((link, is_raw.then_some(ImageFormat::Raw)))
    }

    /// Lets a file be written, and enters it; an error where it is one that was entered.
    pub fn writes<'a>(&'a self, role: &'static str, path: &'a Path) -> Result<Allowed<'a>> {
        let key = Key::of(path);
        self.refuse(key.as_ref(), path)?;
        self.enter(key.clone(), role, path);
        Ok(Allowed { guard: self, key, role, path })
    }

    /// An error where a file that is open, as standard output is, was entered.
    pub fn writes_open(&self, file: impl AsFd, path: &Path) -> Result<()> {
        self.refuse(FileId::of_open(file).ok().map(Key::Existing).as_ref(), path)
    }

    fn refuse(&self, key: Option<&Key>, path: &Path) -> Result<()> {
        let files = self.0.borrow();
        match files.iter().find(|(entered, _)| Some(entered) == key) {
            Some((_, what)) => {
                bail!("{} is the same file as {what}; nothing was written", quoted(path))
            }
            None => Ok(()),
        }
    }

    /// Opens the files that images name; those that are read are entered, those that are written
    /// looked up.
    pub const fn opener(&self, files: FileOpener) -> Guarded<'_> {
        Guarded { guard: self, files }
    }
}

/// A file that may be written.
#[derive(Debug)]
pub struct Allowed<'a> {
    guard: &'a Guard,
    key: Option<Key>,
    role: &'static str,
    path: &'a Path,
}

impl<'a> Allowed<'a> {
    /// Its name.
    pub const fn path(&self) -> &'a Path {
        self.path
    }

    /// The file is open now. A name that meant no file before, or was given to another one since,
    /// is looked at again.
    pub fn opened(&self, medium: &Medium) -> Result<()> {
        let key = Key::of_medium(medium);
        if key == self.key {
            return Ok(());
        }
        self.guard.refuse(key.as_ref(), self.path)?;
        self.guard.enter(key, self.role, self.path);
        Ok(())
    }
}

/// An opener under a [`Guard`].
#[derive(Debug)]
pub struct Guarded<'a> {
    guard: &'a Guard,
    files: FileOpener,
}

impl Guarded<'_> {
    fn entered(&self, file: Arc<dyn ReadAt>, role: &str, path: &Path) -> Arc<dyn ReadAt> {
        match file.file() {
            Some(open) => self.guard.enters_open(open, role, path),
            None => self.guard.enter(Key::of(path), role, path),
        }
        file
    }
}

impl Opener for Guarded<'_> {
    fn open_read(&self, path: &Path) -> LibraryResult<Arc<dyn ReadAt>> {
        Ok(self.entered(self.files.open_read(path)?, "the backing file", path))
    }

    fn open_raw(&self, path: &Path) -> LibraryResult<Arc<dyn ReadAt>> {
        Ok(self.entered(self.files.open_raw(path)?, "the backing file", path))
    }

    fn open_data_file(&self, path: &Path) -> LibraryResult<Arc<dyn ReadAt>> {
        Ok(self.entered(self.files.open_data_file(path)?, "the data file", path))
    }

    fn open_write(&self, path: &Path) -> LibraryResult<Arc<dyn Storage>> {
        let allowed = self.guard.writes("the data file", path);
        allowed.map_err(|error| Error::Refused(error.to_string()))?;
        self.files.open_write(path)
    }

    fn may_follow(&self, path: &Path) -> LibraryResult<()> {
        self.files.may_follow(path)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        self.files.identity(path)
    }
}
