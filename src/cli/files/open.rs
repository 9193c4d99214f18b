//! Opening the image that the user names.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use qcheck::error::Error;
use qcheck::format::probe::{ImageFormat, LIKENESS_BYTES, likeness};
use qcheck::storage::{Access, FileStorage, Locking, ReadAt, lock};
use qcheck::tables::announced_format;

use super::spool;
use crate::cli::args::nearest;

/// Formats of QEMU that this program can tell by name but not read.
const OTHER_FORMATS: [&str; 11] =
    ["bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc"];

/// What to say where a format is one of neither.
pub const BOTH: &str = "qcow2 and raw are supported";
/// What to say where only one is of use.
pub const QCOW2_ONLY: &str = "only qcow2 is supported";

/// A format as the user names it.
pub fn parse_format(name: &str) -> Result<ImageFormat, String> {
    match name {
        "qcow2" => Ok(ImageFormat::Qcow2),
        "raw" => Ok(ImageFormat::Raw),
        _ => OTHER_FORMATS
            .iter()
            .find(|known| **known == name)
            .map(|known| ImageFormat::Other(known))
            .ok_or_else(|| format!("unknown format '{name}': {BOTH}")),
    }
}

/// The format of a backing file, by a name that is recorded for one.
pub fn parse_backing_format(name: &str) -> Result<String, String> {
    match parse_format(name)? {
        ImageFormat::Other(name) => Err(format!("cannot read the format {name}: {BOTH}")),
        format => Ok(format_name(format).to_owned()),
    }
}

/// The name of a format.
pub const fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Raw => "raw",
        ImageFormat::Other(name) => name,
    }
}

/// Cache modes of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Through the page cache, flushed at the end.
    #[default]
    Writeback,
    /// Likewise.
    Writethrough,
    /// Without the page cache, flushed at the end.
    None,
    /// Likewise.
    Directsync,
    /// Through the page cache, and not flushed.
    Unsafe,
}

impl Cache {
    /// Has a file written like this.
    pub fn apply(self, storage: &mut FileStorage, path: &Path) -> Result<()> {
        if self == Self::Unsafe {
            storage.leave_unflushed();
        }
        if self.is_direct() { bypass_cache(storage, path, true) } else { Ok(()) }
    }

    /// Whether the page cache is bypassed.
    pub fn is_direct(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }
}

/// Their names.
const CACHE_MODES: [&str; 5] = ["none", "writeback", "writethrough", "directsync", "unsafe"];

/// A cache mode.
pub fn parse_cache(name: &str) -> Result<Cache, String> {
    Ok(match name {
        "none" | "off" => Cache::None,
        "writeback" => Cache::Writeback,
        "writethrough" => Cache::Writethrough,
        "directsync" => Cache::Directsync,
        "unsafe" => Cache::Unsafe,
        _ => {
            let hint = nearest::hint(name, &CACHE_MODES);
            return Err(format!("valid are {}{hint}", CACHE_MODES.join(", ")));
        }
    })
}

/// A file name in messages, quoted.
pub fn quoted(path: &Path) -> impl fmt::Display {
    format!("'{}'", path.display())
}

/// An image that is open and locked.
pub struct Opened {
    /// Its bytes.
    pub storage: FileStorage,
    /// Its format: the one given, or the one that its first bytes announce.
    pub format: ImageFormat,
}

/// What an image is opened for. With the format it decides which locks are taken: those that `qemu-img` takes.
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

    /// The locks for an image of this format; none where nothing is read that another process could write. With `share`
    /// others may write while it is read.
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

/// Opens and locks an image and finds out its format where none is given. With `share` it is read though another program may
/// be writing it.
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
    Ok(Opened { storage, format })
}

/// The beginning of qemu-img's line for a file that cannot be opened, which programs match.
pub fn could_not_open(path: &Path) -> String {
    format!("Could not open {}", quoted(path))
}

/// The format given, or else the one that the first bytes announce.
pub fn format_of(storage: &dyn ReadAt, given: Option<ImageFormat>) -> Result<ImageFormat, Error> {
    match given {
        Some(format) => Ok(format),
        None => announced_format(storage),
    }
}

/// Takes the lock for an access; a file system without locks is only remarked on.
pub fn take_lock(storage: &FileStorage, path: &Path, access: Access) -> Result<()> {
    match lock(storage, access).with_context(|| could_not_open(path))? {
        Locking::Held => {}
        Locking::Unavailable => log::warn!("{}: no locks on this file system", path.display()),
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

/// Makes an open file be read, or also written, past the page cache.
pub fn bypass_cache(storage: &mut FileStorage, path: &Path, writing: bool) -> Result<()> {
    let bypassed = storage.bypass_cache(writing);
    bypassed.with_context(|| format!("{}: the page cache cannot be bypassed", quoted(path)))
}

/// Whether QEMU would take this for a raw image though it is neither file nor block device.
pub fn is_character_device(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.file_type().is_char_device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_qemus_names() {
        assert_eq!(parse_format("qcow2"), Ok(ImageFormat::Qcow2));
        assert_eq!(parse_format("vdi"), Ok(ImageFormat::Other("vdi")));
        assert_eq!(
            parse_format("foo").unwrap_err(),
            "unknown format 'foo': qcow2 and raw are supported"
        );
    }
}
