//! The images below an image: opened for reading, one by one, and read where nothing is allocated above.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::GuestOffset;
use crate::format::extension::BACKING_FORMAT;
use crate::format::header::HeaderField;
use crate::format::probe::{ImageFormat, PROBE_BYTES, probe};
use crate::storage::{Access, lock};
use crate::storage::{FileStorage, MemoryStorage, ReadAt, Storage, is_null_device};
use crate::tables::HeaderArea;

use super::Image;
use super::options::{BackingPolicy, OpenOptions};

/// Most images in a chain (QEMU's limit).
pub const MAX_DEPTH: usize = 200;

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
        lock(&file, access)?;
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

/// The image below another.
#[derive(Debug)]
pub enum Backing {
    /// A raw image.
    Raw(RawBacking),
    /// A qcow2 image.
    Qcow2(Box<Image>),
    /// There is one, and it was left closed.
    Closed,
}

/// A raw image that is read only.
pub struct RawBacking {
    source: Arc<dyn ReadAt>,
    bytes: u64,
}

impl RawBacking {
    /// Its bytes.
    pub fn storage(&self) -> &dyn ReadAt {
        self.source.as_ref()
    }
}

impl std::fmt::Debug for RawBacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawBacking").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Backing {
    /// Its disk size in bytes.
    pub fn virtual_size(&self) -> Result<u64> {
        match self {
            Self::Raw(raw) => Ok(raw.bytes),
            Self::Qcow2(image) => Ok(image.virtual_size()),
            Self::Closed => Err(closed()),
        }
    }

    /// Reads guest bytes; past its end there are zeroes.
    pub fn read(&self, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Raw(raw) => raw
                .source
                .read_padded_at(at.get(), buf)
                .map_err(|e| Error::io("read the backing file", at.get(), e)),
            Self::Qcow2(image) => {
                let inside = image.virtual_size().saturating_sub(at.get());
                let inside = usize::try_from(inside).unwrap_or(usize::MAX).min(buf.len());
                let (low, high) = buf.split_at_mut(inside);
                high.fill(0);
                if low.is_empty() { Ok(()) } else { image.read(at, low) }
            }
            Self::Closed => Err(closed()),
        }
    }
}

fn closed() -> Error {
    Error::Refused("the backing file was not opened, and its data is needed".into())
}

/// The images opened so far on the way down, and how to open more.
pub(super) struct Chain<'a> {
    opener: &'a dyn Opener,
    above: Vec<PathBuf>,
    depth: usize,
}

impl<'a> Chain<'a> {
    /// A chain of one image.
    pub(super) fn new(opener: &'a dyn Opener, path: Option<&Path>) -> Self {
        let above = path.map(|path| opener.identity(path)).into_iter().collect();
        Self { opener, above, depth: 1 }
    }

    /// How to open files.
    pub(super) const fn opener(&self) -> &'a dyn Opener {
        self.opener
    }

    fn descend(&mut self, path: &Path) -> Result<()> {
        let identity = self.opener.identity(path);
        if self.above.contains(&identity) {
            let name = path.display();
            return Err(Error::Refused(format!("the backing chain comes back to '{name}'")));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::Refused(format!(
                "the backing chain is longer than {MAX_DEPTH} images"
            )));
        }
        self.above.push(identity);
        Ok(())
    }
}

/// The file that a name in an image means: relative to the image's folder.
pub fn resolve(image: Option<&Path>, name: &[u8]) -> Result<PathBuf> {
    let text = String::from_utf8_lossy(name);
    if name.is_empty() || name.contains(&0) {
        return Err(Error::Refused(format!("'{}' is no file name", text.escape_debug())));
    }
    if name.starts_with(b"json:") {
        let why = "a file described in JSON is not supported: give it by its name";
        return Err(Error::Unsupported(why.into()));
    }
    let local = name.strip_prefix(b"file:");
    let scheme = name.iter().position(|&b| b == b':');
    if local.is_none() && scheme.is_some_and(|colon| !name[..colon].contains(&b'/')) {
        return Err(Error::Unsupported(format!("'{text}' does not name a local file")));
    }
    let path = Path::new(OsStr::from_bytes(local.unwrap_or(name)));
    Ok(match image.and_then(Path::parent) {
        Some(folder) if local.is_none() => folder.join(path),
        _ => path.to_owned(),
    })
}

/// Opens the image below the one with this header, if there is one.
pub(super) fn open(
    area: &HeaderArea,
    options: &OpenOptions,
    chain: &mut Chain<'_>,
) -> Result<Option<Backing>> {
    let (path, format) = match &options.backing {
        BackingPolicy::Instead(path, format) => (path.clone(), format.clone().into_bytes()),
        _ if area.header.backing_name_offset == 0 => return Ok(None),
        BackingPolicy::Leave => return Ok(Some(Backing::Closed)),
        policy => {
            let offset = HeaderField::BackingNameOffset.place().0;
            let message = "the backing file's name is out of range".to_owned();
            let name = area.backing_name.as_ref().ok_or(Error::Header { offset, message })?;
            if name.is_empty() {
                return Ok(None);
            }
            let path = resolve(options.path.as_deref(), name)?;
            (path, format_of(area, policy))
        }
    };
    let below = open_as(path, &format, options, chain);
    below.map(Some).map_err(|error| Error::OpenBelow { role: "backing file", source: error.into() })
}

/// Opens a file of this format as the image below another; an empty format is one that nothing tells.
fn open_as(
    path: PathBuf,
    format: &[u8],
    options: &OpenOptions,
    chain: &mut Chain<'_>,
) -> Result<Backing> {
    chain.descend(&path)?;
    let source = chain.opener().open_read(&path)?;
    if format.is_empty() {
        require_no_magic(source.as_ref(), &path)?;
    }
    match String::from_utf8_lossy(format).as_ref() {
        raw if raw.is_empty() || is_raw_name(raw) => {
            let bytes = source.len().map_err(|e| open_error(&path, e))?;
            // QEMU sees a raw file in whole sectors.
            let bytes = bytes.checked_next_multiple_of(512).unwrap_or(bytes);
            Ok(Backing::Raw(RawBacking { source, bytes }))
        }
        "qcow2" => {
            let options = OpenOptions { path: Some(path), ..OpenOptions::below(options) };
            let image = Image::open_in_chain(source, &options, chain)?;
            Ok(Backing::Qcow2(Box::new(image)))
        }
        other => Err(Error::Unsupported(format!(
            "the format '{}' of the backing file is not supported (raw and qcow2 are)",
            other.escape_debug()
        ))),
    }
}

/// Whether a format of this name is a file's bytes as they are: QEMU records the names of its protocols too.
pub fn is_raw_name(format: &str) -> bool {
    matches!(format, "raw" | "file" | "host_device")
}

/// The format of the image below; empty where nothing tells it.
fn format_of(area: &HeaderArea, policy: &BackingPolicy) -> Vec<u8> {
    match (area.extension(BACKING_FORMAT), policy) {
        (Some(format), _) => format.to_vec(),
        (None, BackingPolicy::AsNamedOr(format)) => format.clone().into_bytes(),
        (None, _) => Vec::new(),
    }
}

/// An error where a file without a recorded format could be read as something else than a raw image: whoever writes to a raw
/// disk could otherwise make it an image that names any file of the host.
fn require_no_magic(source: &dyn ReadAt, path: &Path) -> Result<()> {
    let mut head = [0; PROBE_BYTES];
    let length = source.read_at(0, &mut head).map_err(|e| open_error(path, e))?;
    let looks_like = match probe(&head[..length]) {
        ImageFormat::Raw => return Ok(()),
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Other(name) => name,
    };
    Err(Error::BackingFormat { path: path.to_owned(), looks_like })
}

impl OpenOptions {
    /// What of the options for an image holds for the one below it.
    fn below(above: &Self) -> Self {
        let backing = match &above.backing {
            BackingPolicy::AsNamedOr(format) => BackingPolicy::AsNamedOr(format.clone()),
            _ => BackingPolicy::AsNamed,
        };
        Self { backing, strict: above.strict, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_folder_of_the_image() {
        let of = |name: &str| resolve(Some(Path::new("/vm/disks/top.qcow2")), name.as_bytes());
        assert_eq!(of("base.raw").unwrap(), Path::new("/vm/disks/base.raw"));
        assert_eq!(of("/base.raw").unwrap(), Path::new("/base.raw"));
        assert_eq!(of("file:base.raw").unwrap(), Path::new("base.raw"));
        assert_eq!(of("./odd:name").unwrap(), Path::new("/vm/disks/./odd:name"));
        assert!(of("nbd://host/x").is_err());
        assert!(of("json:{}").is_err());
    }
}
