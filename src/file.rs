//! The file of an image: opened, with its format, and with the locks that its use needs.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::probe::{ImageFormat, LIKENESS_BYTES, likeness, likeness_of_end};
use crate::medium::Medium;
use crate::remote::{Settings, without_secrets};
use crate::sector::SECTOR_LEN;
use crate::storage::{Access, FileStorage, Locking, ReadAt, lock};
use crate::tables::announced_format;

/// What an image is opened for. With the format it decides which locks are taken: those that
/// `qemu-img` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// Read the metadata of the image.
    Describe,
    /// Read its metadata.
    ReadMetadata,
    /// Read its guest data.
    ReadData,
    /// Read its guest data, also that of a raw disk that others are writing.
    ReadLive,
    /// Write guest data.
    WriteData,
    /// Change its size.
    Resize,
    /// Change anything in it.
    Change,
}

impl Intent {
    /// Whether the file is written.
    pub const fn writes(self) -> bool {
        matches!(self, Self::WriteData | Self::Resize | Self::Change)
    }

    /// The locks for an image of this format; none where nothing is read that another process could
    /// write. With `share` others may write while it is read.
    fn access(self, format: ImageFormat, share: bool) -> Option<Access> {
        let has_metadata = matches!(format, ImageFormat::Qcow2 | ImageFormat::LUKS);
        match (self, has_metadata) {
            (Self::Describe, false) => None,
            _ if share && !self.writes() => Some(Access::ReadShared),
            (Self::Describe, true) => Some(Access::Describe),
            // A raw image has no metadata.
            (Self::ReadMetadata | Self::ReadLive, false) => Some(Access::ReadShared),
            (Self::ReadMetadata | Self::ReadLive, true) | (Self::ReadData, _) => Some(Access::Read),
            // Of a raw image only the data can be changed.
            (Self::WriteData | Self::Change, false) => Some(Access::WriteShared),
            (Self::Resize, false) => Some(Access::ResizeShared),
            (Self::WriteData | Self::Resize | Self::Change, true) => Some(Access::Write),
        }
    }
}

/// The open file of an image.
#[derive(Debug)]
pub struct ImageFile {
    /// Its bytes.
    pub storage: Medium,
    /// Its format: the one given, or the one that its first bytes announce.
    pub format: ImageFormat,
}

impl ImageFile {
    /// Opens and locks the image at `path`, or one that [`remote`](crate::remote) opens,
    /// with the default settings. Without a format its first bytes decide. With `share`
    /// it is read though another program may be writing it.
    ///
    /// Fails with [`Error::Open`], with [`Error::Locked`] if another process excludes this use, and
    /// with [`Error::Io`] if the first bytes cannot be read.
    pub fn open(
        path: &Path,
        format: Option<ImageFormat>,
        intent: Intent,
        share: bool,
    ) -> Result<Self> {
        Self::open_with(path, format, intent, share, Settings::default())
    }

    /// [`Self::open`] with other settings for a remote image.
    ///
    /// Errors as for that.
    pub fn open_with(
        path: &Path,
        format: Option<ImageFormat>,
        intent: Intent,
        share: bool,
        settings: Settings,
    ) -> Result<Self> {
        let opened = match intent.writes() {
            true => Medium::open_write(path, settings),
            false => Medium::open_read(path, settings),
        };
        let storage =
            opened.map_err(|source| Error::Open { path: without_secrets(path), source })?;
        let file = Self::of(storage, format)?;
        file.lock(intent, share)?;
        Ok(file)
    }

    /// Takes a file that is open already, and no locks.
    pub fn of(storage: impl Into<Medium>, format: Option<ImageFormat>) -> Result<Self> {
        let storage = storage.into();
        let format = match format {
            Some(format) => format,
            None => announced_format(&storage)?,
        };
        Ok(Self { storage, format })
    }

    /// Takes the locks for an intent. A file system without locks only causes a warning in
    /// the log, as in QEMU. What is remote has no locks.
    pub fn lock(&self, intent: Intent, share: bool) -> Result<()> {
        match (intent.access(self.format, share), self.storage.as_file()) {
            (Some(access), Some(file)) => lock_or_warn(file, access),
            _ => Ok(()),
        }
    }

    /// What a raw image seems to be instead, by its first and last bytes; `None` for a disk, for
    /// any other format, and where they cannot be read.
    pub fn likeness(&self) -> Option<String> {
        if self.format != ImageFormat::Raw {
            return None;
        }
        let mut head = vec![0; LIKENESS_BYTES];
        let length = self.storage.read_at(0, &mut head).ok()?;
        likeness(head.get(..length)?).or_else(|| {
            let mut end = [0; SECTOR_LEN];
            let at = self.storage.len().ok()?.checked_sub(SECTOR_LEN as u64)?;
            self.storage.read_exact_at(at, &mut end).ok()?;
            likeness_of_end(&end).map(str::to_owned)
        })
    }
}

/// Takes the locks for an access; a file system without locks only gets a line in the log.
pub fn lock_or_warn(storage: &FileStorage, access: Access) -> Result<()> {
    if lock(storage, access)? == Locking::Unavailable {
        let path = storage.path().unwrap_or(Path::new("the image"));
        log::warn!(
            "'{}': no locks on this file system: another program could write it meanwhile",
            path.display()
        );
    }
    Ok(())
}
