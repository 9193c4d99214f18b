//! An open qcow2 image: guest bytes read and written, with metadata that is right on disk at any
//! moment.
//!
//! The modules, each using only those listed after it:
//!
//! * `open`: what may be opened, and what is loaded
//! * `change`: snapshots and another size, switched to at once; `moves`: clusters that go to other
//!   places of the file
//! * `guest`: guest bytes, from several threads at once ([`Image::read`], [`Image::write`],
//!   [`Image::write_zeroes`], [`Image::discard`], [`Image::write_compressed`])
//! * `bitmaps`: persistent bitmaps kept up to date, added, changed and read
//! * `space`: which clusters are in use, and which are free
//! * `meta`: the metadata under one lock
//! * `order`: in which order metadata reaches the disk, and what may be written where
//!
//! The backing file is opened through [`crate::chain`].
//!
//! An image is closed with [`Image::close`], which reports every failure; dropping it instead
//! writes nothing, and leaves what a crash would leave: an image that is consistent, perhaps with
//! leaked clusters.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::codec::Decompressors;
use crate::crypt::SectorCipher;
use crate::error::{Error, Result};
use crate::format::header::Header;
use crate::format::{ClusterCount, Geometry, GuestCluster, GuestOffset, HostOffset};
use crate::storage::{Capacity, ReadAt, Storage};
use crate::tables::HeaderArea;

mod bitmaps;
mod change;
mod damage;
mod guest;
mod meta;
mod open;
mod options;
mod order;
mod raw;
mod run;
mod space;
#[cfg(test)]
mod testing;

pub use crate::chain::{FileOpener, Opener};
pub use crate::format::bitmap::BitmapEntry;
pub use crate::format::l2::CompressedExtent;
pub use crate::format::snapshot::{SnapshotEntry, SnapshotHeader};
pub use bitmaps::BitmapBits;
pub(crate) use bitmaps::{BitmapEdit, BitmapResult, BitmapStart};
pub use change::{BackingLabel, Preallocation};
pub(crate) use change::{
    CompressStep, Content, Copying, Packed, PackedStep, Reference, References, Step, Window,
    write_zero_buffers,
};
pub use damage::Damage;
pub use guest::{Run, RunKind, Stored};
pub use open::Opened;
pub use options::{BackingPolicy, OpenOptions};
pub use raw::RawImage;

use meta::Meta;
use meta::encryption::Encryption;
use order::ordering::Side;
use space::claims::Claims;

/// An open image. All methods that take `&self` may be called from several threads at once; bytes
/// that overlapping calls write are those of one or the other.
pub struct Image {
    file: Arc<dyn Storage>,
    data_file: Option<Arc<dyn Storage>>,
    names: Names,
    geometry: Geometry,
    backing: Option<Backing>,
    meta: Mutex<Meta>,
    claims: Claims,
    decompressors: Decompressors,
    /// Whether guest data is encrypted.
    is_encrypted: bool,
    /// How guest data is encrypted, where that is known: the image is, and its secret was given.
    encryption: Option<Encryption>,
    /// Zeroes are recorded even where, without a backing file, unallocated clusters read as zeroes.
    records_zeroes: bool,
}

/// The names by which the files of an image were opened.
#[derive(Debug, Default)]
struct Names {
    image: Option<PathBuf>,
    data_file: Option<PathBuf>,
}

/// The image below another.
#[derive(Debug)]
pub enum Backing {
    /// A raw image.
    Raw(RawImage),
    /// A qcow2 image.
    Qcow2(Box<Image>),
    /// There is one, and it was left closed.
    Closed,
}

impl Backing {
    /// Its disk size in bytes.
    pub fn virtual_size(&self) -> Result<u64> {
        match self {
            Self::Raw(raw) => raw.virtual_size(),
            Self::Qcow2(image) => Ok(image.virtual_size()),
            Self::Closed => Err(closed()),
        }
    }

    /// Reads guest bytes; past its end there are zeroes.
    pub fn read(&self, at: GuestOffset, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Raw(raw) => raw
                .storage()
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

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Image {
    /// Cluster size, refcount width, L2 entry size and virtual size.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The disk's size in bytes.
    pub const fn virtual_size(&self) -> u64 {
        self.geometry.virtual_size()
    }

    /// The header as stored in the file.
    pub fn header(&self) -> Result<Header> {
        Ok(self.meta()?.header().clone())
    }

    /// The snapshots in table order.
    pub fn snapshots(&self) -> Result<Vec<SnapshotEntry>> {
        Ok(self.meta()?.snapshots.clone())
    }

    /// The image file.
    pub(crate) fn storage(&self) -> &dyn ReadAt {
        self.file.as_ref()
    }

    /// Whether the image file can get longer.
    pub(crate) fn capacity(&self) -> Capacity {
        self.file.capacity()
    }

    /// Host offset of the L1 table of the disk that is read.
    pub(crate) fn l1_offset(&self) -> Result<HostOffset> {
        Ok(self.meta()?.ordering.root(Side::Mappings).offset())
    }

    /// The name of the file that holds guest data: the image or its external data file; `None`
    /// where it has none, or none was given.
    pub fn data_path(&self) -> Option<&Path> {
        let name = if self.data_file.is_some() { &self.names.data_file } else { &self.names.image };
        name.as_deref()
    }

    /// What unallocated clusters are read from, if there is anything.
    pub const fn backing(&self) -> Option<&Backing> {
        self.backing.as_ref()
    }

    /// The name of the backing file as stored in the image.
    pub fn backing_name(&self) -> Result<Option<Vec<u8>>> {
        let area = HeaderArea::load(self.file.as_ref())?;
        Ok(area.backing_name.filter(|name| !name.is_empty()))
    }

    /// Whether anything was written, or may have been: since it was opened, also to its data file.
    pub fn is_changed(&self) -> bool {
        self.meta().map_or(true, |meta| meta.prepared || meta.ordering.disk.usable().is_err())
    }

    /// From here on a snapshot or another size that is under way when `cancel` is set is given up
    /// with [`Error::Cancelled`], and the image is as it was. What can no longer be given up is
    /// completed.
    pub fn cancel_on(&mut self, cancel: Arc<AtomicBool>) -> Result<()> {
        self.meta_mut()?.cancel = Some(cancel);
        Ok(())
    }

    /// The image, whose guest data is encrypted with LUKS and this cipher.
    pub(crate) fn with_cipher(mut self, cipher: Arc<SectorCipher>) -> Self {
        self.encryption = Some(Encryption::luks(cipher));
        self
    }

    /// From here on zeroes are recorded even where unallocated clusters read as zeroes: for an
    /// image that is to get a backing file.
    pub(crate) const fn record_zeroes(&mut self) {
        self.records_zeroes = true;
    }

    /// Whether clusters that are not allocated may be left so where zeroes are needed.
    const fn is_zero_below(&self) -> bool {
        self.backing.is_none() && !self.records_zeroes
    }

    /// Brings everything written so far to stable storage.
    pub fn flush(&self) -> Result<()> {
        self.meta()?.flush(false)
    }

    /// Brings everything to stable storage and ends the use of the image. Any failure on the way,
    /// also one of a flush, is an error: the image then holds what a crash would have left.
    pub fn close(self) -> Result<()> {
        let mut meta = self.meta.into_inner().map_err(|_| panicked())?;
        meta.end_deferring()
    }

    /// The persistent bitmaps of an image that is open for writing; none where they are out of
    /// date.
    pub fn bitmaps(&self) -> Result<Vec<BitmapEntry>> {
        let meta = self.meta()?;
        Ok(meta.bitmaps.as_ref().map(|bitmaps| bitmaps.entries().to_vec()).unwrap_or_default())
    }

    fn meta(&self) -> Result<MutexGuard<'_, Meta>> {
        self.meta.lock().map_err(|_| panicked())
    }

    /// Where guest data is: the image file or the external data file.
    fn data(&self) -> &dyn Storage {
        self.data_file.as_deref().unwrap_or(self.file.as_ref())
    }

    /// The guest clusters that a range of bytes touches.
    fn guest_clusters(&self, at: GuestOffset, bytes: u64) -> Range<GuestCluster> {
        let last = GuestOffset::new(at.get() + bytes.saturating_sub(1));
        let end = self.geometry.guest_cluster_floor(last) + ClusterCount::new(1);
        self.geometry.guest_cluster_floor(at)..end
    }

    /// An error unless the range is on the disk.
    fn require_on_disk(&self, at: GuestOffset, bytes: u64) -> Result<()> {
        match at.get().checked_add(bytes) {
            Some(end) if end <= self.virtual_size() => Ok(()),
            _ => Err(Error::Refused(format!(
                "{bytes} bytes at guest offset {at} are past the disk's end at {}",
                self.virtual_size()
            ))),
        }
    }
}

fn panicked() -> Error {
    Error::Refused("an earlier operation on the image broke off".into())
}
