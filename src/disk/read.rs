//! An open disk: its size and its bytes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::chain::FileOpener;
use crate::crypt::Key;
use crate::error::{Error, Result};
use crate::file::{ImageFile, Intent};
use crate::format::GuestOffset;
use crate::format::probe::ImageFormat;
use crate::image::{Backing, Image, OpenOptions, RawImage};
use crate::sector::SECTOR;
use crate::storage::ReadAt;

/// A disk that is read. All methods may be called from several threads at once.
pub enum Disk {
    /// A raw image.
    Raw(RawImage),
    /// A qcow2 image, or one of its snapshots, with what is below it.
    Qcow2(Box<Image>),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw(_) => "Disk::Raw",
            Self::Qcow2(_) => "Disk::Qcow2",
        })
    }
}

impl Disk {
    /// Opens the image at `path` for reading, with QEMU's locks: qcow2 where it begins like one,
    /// and raw where it begins like no image. Its backing chain and external data file are opened
    /// by the rules of [`crate::chain`].
    ///
    /// An error is a file that cannot be opened or is locked by a writer, an image of another
    /// format, and a header or L1 table that is not valid. Other damage is an error where it is
    /// read.
    ///
    /// ```
    /// use qcheck::disk::{Disk, ExtentKind};
    ///
    /// let disk = Disk::open("tests/data/v3.qcow2")?;
    /// let mut sector = [0; 512];
    /// disk.read_at(&mut sector, 0)?;
    /// let mut stored = 0;
    /// for extent in disk.extents(0..disk.size()?) {
    ///     let extent = extent?;
    ///     if extent.kind == ExtentKind::Data {
    ///         stored += extent.length;
    ///     }
    /// }
    /// assert!(stored > 0 && stored <= disk.size()?);
    /// # Ok::<(), qcheck::Error>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let ImageFile { storage: file, format } =
            ImageFile::open(path, None, Intent::ReadData, false)?;
        let path = Some(path.to_owned());
        match format {
            ImageFormat::Raw => Ok(Self::Raw(RawImage::new(Arc::new(file), path))),
            ImageFormat::Qcow2 => {
                let options = OpenOptions { path, strict: true, ..OpenOptions::default() };
                let image = Image::open_read(Arc::new(file), &options, &FileOpener::default())?;
                Ok(Self::Qcow2(Box::new(image)))
            }
            ImageFormat::Other(name) => {
                Err(Error::Unsupported(format!("the format {name} is not supported")))
            }
        }
    }

    /// A raw disk of bytes that have no name.
    pub const fn raw(source: Arc<dyn ReadAt>) -> Self {
        Self::Raw(RawImage::new(source, None))
    }

    /// The payload of a LUKS image that has no name. Fails as [`RawImage::luks`].
    pub fn luks(source: Arc<dyn ReadAt>, key: &Key) -> Result<Self> {
        Ok(Self::Raw(RawImage::luks(source, None, key)?))
    }

    /// Its size in bytes; that of a raw image is rounded up to sectors.
    pub fn size(&self) -> Result<u64> {
        match self {
            Self::Raw(raw) => raw.virtual_size(),
            Self::Qcow2(image) => Ok(image.virtual_size()),
        }
    }

    /// Reads bytes at a guest offset; past the end there are zeroes.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match self {
            Self::Raw(raw) => raw
                .storage()
                .read_padded_at(offset, buf)
                .map_err(|e| Error::io("read guest data", offset, e)),
            Self::Qcow2(image) => {
                let inside = image.virtual_size().saturating_sub(offset);
                let inside = usize::try_from(inside).unwrap_or(usize::MAX).min(buf.len());
                let (low, high) = buf.split_at_mut(inside);
                high.fill(0);
                if low.is_empty() { Ok(()) } else { image.read(GuestOffset::new(offset), low) }
            }
        }
    }

    /// Bytes that should be read together: a cluster, since compressed ones are decompressed as a
    /// whole.
    pub(crate) fn grain(&self) -> u64 {
        match self {
            Self::Raw(_) => SECTOR,
            Self::Qcow2(image) => image.geometry().cluster_bytes(),
        }
    }

    /// Bytes that should be read together because of this image or one below it.
    pub(crate) fn whole_grain(&self) -> u64 {
        let mut grain = self.grain();
        let mut below = match self {
            Self::Raw(_) => None,
            Self::Qcow2(image) => image.backing(),
        };
        while let Some(Backing::Qcow2(image)) = below {
            grain = grain.max(image.geometry().cluster_bytes());
            below = image.backing();
        }
        grain
    }

    /// Whether guest data cannot be read because it is encrypted and its secret was not given.
    pub(crate) const fn is_locked(&self) -> bool {
        match self {
            Self::Raw(_) => false,
            Self::Qcow2(image) => image.is_locked(),
        }
    }

    /// Fails with [`Error::NoKey`] where guest data is encrypted and its secret was not given.
    pub fn require_key(&self) -> Result<()> {
        match self {
            Self::Raw(_) => Ok(()),
            Self::Qcow2(image) => image.require_key(),
        }
    }
}
