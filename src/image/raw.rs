//! A raw image, below another or by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::Part;
use crate::crypt::{Key, Volume};
use crate::error::{Error, Result};
use crate::sector::SECTOR;
use crate::storage::{ReadAt, Window};

/// A raw image, or the payload of a LUKS image, that is read only.
pub struct RawImage {
    source: Arc<dyn ReadAt>,
    path: Option<PathBuf>,
    /// Offset of its first byte in its file; `None` where the file has other bytes.
    start: Option<u64>,
}

impl RawImage {
    /// A raw image of these bytes; where they are a file, with its name.
    pub const fn new(source: Arc<dyn ReadAt>, path: Option<PathBuf>) -> Self {
        Self { source, path, start: Some(0) }
    }

    /// A raw image that is a part of these bytes, or all of them.
    ///
    /// Fails with [`Error::Refused`] where the part is not in them or is not whole sectors long.
    pub fn part(
        source: Arc<dyn ReadAt>,
        path: Option<PathBuf>,
        part: Option<Part>,
    ) -> Result<Self> {
        let Some(Part { start, size }) = part else { return Ok(Self::new(source, path)) };
        let bytes = source.len().map_err(|e| Error::file("get the length", e))?;
        // qemu-img's words.
        let refused = |why: String| Err(Error::Refused(why));
        let Some(most) = bytes.checked_sub(start) else {
            return refused(format!(
                "Offset ({start}) cannot be greater than size of the containing file ({bytes})"
            ));
        };
        let size = size.unwrap_or(most);
        if part.is_some_and(|part| part.size.is_some()) && size % SECTOR != 0 {
            return refused(format!("Specified size is not multiple of {SECTOR}"));
        }
        if size > most {
            return refused(format!(
                "The sum of offset ({start}) and size ({size}) has to be smaller or equal to the  \
                 actual size of the containing file ({bytes})"
            ));
        }
        let source = Arc::new(Window::new(source, start..start + size));
        Ok(Self { source, path, start: Some(start) })
    }

    /// The payload of the LUKS image that `source` is.
    ///
    /// Fails as [`Volume::open`].
    pub fn luks(source: Arc<dyn ReadAt>, path: Option<PathBuf>, key: &Key) -> Result<Self> {
        let volume = Volume::open(source, key)?;
        Ok(Self { source: Arc::new(volume), path, start: None })
    }

    /// Offset of its first byte in its file; `None` where its bytes are stored encrypted, so that
    /// no offset of the file has them.
    pub const fn start(&self) -> Option<u64> {
        self.start
    }

    /// Its bytes.
    pub fn storage(&self) -> &dyn ReadAt {
        self.source.as_ref()
    }

    /// The name of its file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Its size in bytes, rounded up to sectors.
    pub fn virtual_size(&self) -> Result<u64> {
        let bytes = self.source.len().map_err(|e| Error::file("get the length", e))?;
        Ok(bytes.checked_next_multiple_of(SECTOR).unwrap_or(bytes))
    }
}

impl fmt::Debug for RawImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawImage").field("path", &self.path).finish_non_exhaustive()
    }
}
