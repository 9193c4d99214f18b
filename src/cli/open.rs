//! Opening the image that the user names.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use qcheck::error::Error;
use qcheck::format::probe::ImageFormat;
use qcheck::storage::{Access, FileStorage, Locking, ReadAt, lock};
use qcheck::tables::announced_format;

use super::nearest;

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

/// The name of a format.
pub const fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Raw => "raw",
        ImageFormat::Other(name) => name,
    }
}

/// Cache modes of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Through the page cache, flushed at the end.
    Writeback,
    /// Likewise.
    Writethrough,
    /// Past the page cache, flushed at the end.
    None,
    /// Likewise.
    Directsync,
    /// Through the page cache, and not flushed.
    Unsafe,
}

impl Cache {
    /// Whether the page cache is gone past.
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

/// Opens and locks an image and finds out its format where none is given.
pub fn open(path: &Path, format: Option<ImageFormat>, access: Access) -> Result<Opened> {
    let opened = match access {
        Access::Write => FileStorage::open_write(path),
        Access::Read | Access::ReadShared => FileStorage::open_read(path),
    };
    let storage = opened.with_context(|| format!("could not open {}", quoted(path)))?;
    take_lock(&storage, path, access).with_context(|| quoted(path).to_string())?;
    let format = format_of(&storage, format).with_context(|| quoted(path).to_string())?;
    Ok(Opened { storage, format })
}

/// The format given, or else the one that the first bytes announce.
pub fn format_of(storage: &dyn ReadAt, given: Option<ImageFormat>) -> Result<ImageFormat, Error> {
    match given {
        Some(format) => Ok(format),
        None => announced_format(storage),
    }
}

/// Takes the lock for an access, the name for the caller to tell; a file system without locks is only remarked on.
pub fn take_lock(storage: &FileStorage, path: &Path, access: Access) -> Result<()> {
    match lock(storage, access) {
        Ok(Locking::Held) => Ok(()),
        Ok(Locking::Unavailable) => {
            log::warn!("{}: no locks on this file system", path.display());
            Ok(())
        }
        Err(Error::Locked(how)) => bail!("{how}; is it in use?"),
        Err(error) => Err(error.into()),
    }
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
