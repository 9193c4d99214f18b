//! What is converted, to what, and how.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::flow::salvage::Loss;
use super::source::SourceDisk;
use crate::create::{NewImage, Preallocation};
use crate::crypt::luks::NewHeader;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::progress::Progress;
use crate::setters::setters;
use crate::storage::Storage;

/// Runs of zeroes that are not stored, unless something else is requested.
pub const DEFAULT_SPARSE: u64 = 4096;

/// How to convert.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// The least run of zeroes that is not stored; 0: everything is.
    pub sparse: u64,
    /// Whether clusters are compressed.
    pub compress: bool,
    /// How hard it is tried to compress them: 1 to 9 for zlib, 1 to 22 for zstd; `None` for the
    /// default.
    pub level: Option<u8>,
    /// How many threads work; 0: one for each core.
    pub threads: usize,
    /// Whether the system copies data that need not be looked at. Then zeroes are found by holes
    /// only.
    pub offload: bool,
    /// Whether an image that exists already gets only what it does not read from its backing file.
    pub only_different: bool,
    /// Of a single source only what this many of the upper images of its chain hold is brought to
    /// a target that exists already; the target keeps what they leave to the next image. `None`:
    /// everything is brought.
    pub layers: Option<usize>,
    /// Whether what cannot be read becomes zeroes.
    pub salvage: bool,
    /// Whether persistent bitmaps are copied.
    pub bitmaps: bool,
    /// Whether bitmaps that are not consistent are left out; otherwise they are an error.
    pub skip_broken_bitmaps: bool,
    /// Most bytes a second.
    pub rate: Option<u64>,
}

setters!(ConvertOptions {
    sparse: u64,
    compress: bool,
    level: Option<u8>,
    threads: usize,
    offload: bool,
    only_different: bool,
    layers: Option<usize>,
    salvage: bool,
    bitmaps: bool,
    skip_broken_bitmaps: bool,
    rate: Option<u64>,
});

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            sparse: DEFAULT_SPARSE,
            compress: false,
            level: None,
            threads: 0,
            offload: false,
            only_different: false,
            layers: None,
            salvage: false,
            bitmaps: false,
            skip_broken_bitmaps: false,
            rate: None,
        }
    }
}

/// What a conversion writes to.
pub enum Target<'a> {
    /// A new qcow2 image over whatever the storage has.
    New {
        /// What it is to be.
        new: &'a NewImage,
        /// Where it goes.
        storage: Arc<dyn Storage>,
        /// Its backing file, where it has one: what is the same there is not stored.
        backing: Option<&'a SourceDisk>,
        /// Its external data file, where it has one.
        data_file: Option<Arc<dyn Storage>>,
    },
    /// A new raw image over whatever the storage has.
    NewRaw {
        /// Where it goes.
        storage: &'a dyn Storage,
        /// What it has from the start.
        preallocation: Preallocation,
    },
    /// A new LUKS image over whatever the storage has.
    NewLuks {
        /// Where it goes.
        storage: &'a dyn Storage,
        /// Its header.
        header: &'a NewHeader,
        /// What it has from the start.
        preallocation: Preallocation,
    },
    /// An existing raw image.
    Raw {
        /// Its bytes.
        storage: &'a dyn Storage,
        /// It reads as zeroes.
        is_zero: bool,
    },
    /// An existing qcow2 image.
    Image {
        /// The image, open for writing.
        image: &'a Image,
        /// It reads as zeroes.
        is_zero: bool,
    },
}

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConvertReport {
    /// The size of the disk in bytes.
    pub bytes: u64,
    /// What could not be read and is zero in the target.
    pub losses: Vec<Loss>,
    /// Bitmaps that were left out.
    pub skipped_bitmaps: Vec<String>,
}

/// What is converted.
pub enum Input<'a> {
    /// Disks.
    Disks(&'a SourceDisk),
    /// The bytes of a raw disk in their order; its size is that of the stream.
    Stream(&'a mut (dyn Read + Send + 'a)),
}

/// Where a stream goes.
pub enum Outlet<'a> {
    /// As a raw disk.
    Raw,
    /// As a new qcow2 image: not compressed, without backing file and without data file.
    Qcow2(&'a NewImage),
}

/// Cancellation and progress of a conversion.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Set when it is to end.
    pub cancel: &'a AtomicBool,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
}

impl Control<'_> {
    /// Reports so many bytes as done; [`Error::Cancelled`] where it is to end.
    pub(crate) fn advance(&self, bytes: u64) -> Result<()> {
        self.progress.advance(bytes);
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}
