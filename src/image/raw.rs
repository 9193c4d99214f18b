//! A raw image, below another or by itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypt::{Key, Volume};
use crate::error::{Error, Result};
use crate::sector::SECTOR;
use crate::storage::ReadAt;

/// A raw image, or the payload of a LUKS image, that is read only.
pub struct RawImage {
    source: Arc<dyn ReadAt>,
    path: Option<PathBuf>,
    is_encrypted: bool,
}

impl RawImage {
    /// A raw image of these bytes; where they are a file, with its name.
    pub const fn new(source: Arc<dyn ReadAt>, path: Option<PathBuf>) -> Self {
        Self { source, path, is_encrypted: false }
    }

    /// The payload of the LUKS image that `source` is.
    ///
    /// Fails as [`Volume::open`].
    pub fn luks(source: Arc<dyn ReadAt>, path: Option<PathBuf>, key: &Key) -> Result<Self> {
        let volume = Volume::open(source, key)?;
        Ok(Self { source: Arc::new(volume), path, is_encrypted: true })
    }

    /// Whether its bytes are stored encrypted, so that no offset of its file has them.
    pub const fn is_encrypted(&self) -> bool {
        self.is_encrypted
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
