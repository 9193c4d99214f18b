//! Opening the image that the user names.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use qcheck::chain::{Format, Link};
use qcheck::error::Error;
use qcheck::format::probe::{ImageFormat, LIKENESS_BYTES, likeness};
use qcheck::storage::{Access, FileStorage, Locking, ReadAt, lock};
use qcheck::tables::announced_format;

use super::spool;
use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{format_name, parse_format};

/// An image that is open and locked.
pub struct Opened {
    /// Its bytes.
    pub storage: FileStorage,
    /// Its format: the one given, or the one that its first bytes announce.
    pub format: ImageFormat,
}

/// What an image is opened for. With the format it decides which locks are taken: those that
/// `qemu-img` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read what it says of itself.
    Describe,
    /// To read its metadata.
    ReadMetadata,
    /// To read its guest data.
    ReadData,
    /// To write guest data.
    WriteData,
    /// To change its size.
    Resize,
    /// To change anything in it.
    Change,
}

impl Purpose {
    const fn writes(self) -> bool {
        matches!(self, Self::WriteData | Self::Resize | Self::Change)
    }

    /// The locks for an image of this format; none where nothing is read that another process could
    /// write. With `share` others may write while it is read.
    const fn access(self, format: ImageFormat, share: bool) -> Option<Access> {
        let is_qcow2 = matches!(format, ImageFormat::Qcow2);
        match (self, is_qcow2) {
            (Self::Describe, false) => None,
            (Self::Describe | Self::ReadMetadata | Self::ReadData, _) if share => {
                Some(Access::ReadShared)
            }
            (Self::Describe, true) => Some(Access::Describe),
            // A raw image has no metadata.
            (Self::ReadMetadata, false) => Some(Access::ReadShared),
            (Self::ReadMetadata, true) | (Self::ReadData, _) => Some(Access::Read),
            (Self::WriteData, false) => Some(Access::WriteShared),
            (Self::Resize, false) => Some(Access::ResizeShared),
            (Self::WriteData | Self::Resize, true) | (Self::Change, _) => Some(Access::Write),
        }
    }
}

/// Opens and locks an image and finds out its format where none is given. With `share` it is read
/// though another program may be writing it.
pub fn open(
    path: &Path,
    format: Option<ImageFormat>,
    purpose: Purpose,
    share: bool,
) -> Result<Opened> {
    let storage = match (purpose.writes(), spool::is_standard(path)) {
        (true, true) => bail!("{}: a stream can only be read", quoted(path)),
        (false, true) => spool::seekable(path)?,
        (true, false) => FileStorage::open_write(path).with_context(|| could_not_open(path))?,
        (false, false) => FileStorage::open_read(path).with_context(|| could_not_open(path))?,
    };
    let format = format_of(&storage, format).with_context(|| quoted(path).to_string())?;
    if let Some(access) = purpose.access(format, share) {
        take_lock(&storage, path, access)?;
    }
    log::info!("{}: format {}, {purpose:?}", quoted(path), format_name(format));
    Ok(Opened { storage, format })
}

/// The format given, or else the one that the first bytes announce.
pub fn format_of(storage: &dyn ReadAt, given: Option<ImageFormat>) -> Result<ImageFormat, Error> {
    match given {
        Some(format) => Ok(format),
        None => announced_format(storage),
    }
}

/// The format of a backing file: the one that is recorded, or else raw, unless it begins like an image.
pub fn format_below(link: &Link, share: bool) -> Result<ImageFormat> {
    match link.recorded() {
        Some(Format::Raw) => return Ok(ImageFormat::Raw),
        Some(Format::Qcow2) => return Ok(ImageFormat::Qcow2),
        Some(Format::Other(name)) => return parse_format(&name).map_err(anyhow::Error::msg),
        None => {}
    }
    // One that cannot be opened now is reported by whoever opens it to read it.
    if let Ok(opened) = open(&link.path, None, Purpose::Describe, share) {
        link.format(&opened.storage)?;
    }
    Ok(ImageFormat::Raw)
}

/// Takes the lock for an access; a file system without locks is only remarked on.
pub fn take_lock(storage: &FileStorage, path: &Path, access: Access) -> Result<()> {
    match lock(storage, access).with_context(|| could_not_open(path))? {
        Locking::Held => {}
        Locking::Unavailable => log::warn!(
            "{}: no locks on this file system: another program could write it meanwhile",
            quoted(path)
        ),
    }
    Ok(())
}

/// What a file of which nobody says that it is a raw disk seems to be instead.
pub fn likeness_notice(path: &Path, opened: &Opened, given: Option<ImageFormat>) -> Option<String> {
    if given.is_some() || opened.format != ImageFormat::Raw {
        return None;
    }
    let mut head = vec![0; LIKENESS_BYTES];
    // Only a remark: whoever needs these bytes reports that they cannot be read.
    let length = opened.storage.read_at(0, &mut head).ok()?;
    let likeness = likeness(head.get(..length)?)?;
    Some(format!("NOTICE: {} seems to be {likeness}", quoted(path)))
}

/// Has a file written as this cache mode says.
pub fn apply_cache(cache: Cache, storage: &mut FileStorage, path: &Path) -> Result<()> {
    if cache == Cache::Unsafe {
        storage.leave_unflushed();
    }
    if cache.is_direct() { bypass_cache(storage, path, true) } else { Ok(()) }
}

/// Makes an open file be read, or also written, past the page cache.
pub fn bypass_cache(storage: &mut FileStorage, path: &Path, writing: bool) -> Result<()> {
    let bypassed = storage.bypass_cache(writing);
    bypassed.with_context(|| format!("{}: the page cache cannot be bypassed", quoted(path)))
}

/// Whether QEMU would take this for a raw image though it is neither file nor block device.
pub fn is_character_device(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.file_type().is_char_device())
}
