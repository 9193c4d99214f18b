//! Copying disks from image to image: several threads, each byte read once, and a target that is no image before it is whole.
//!
//! * [`source`]: what is read, `scan`: cut into items, `salvage`: what cannot be read
//! * `pipeline`: the threads; a target is `fresh` (a new qcow2 image), `raw`, or an `existing` image
//! * `layout` over `counts`: where things go in a new image; `in_order`: one item after the other
//! * `zeroes`, `buffer`, `rate`: what their names say

mod buffer;
mod counts;
mod existing;
mod fresh;
mod held;
mod in_order;
mod layout;
mod pipeline;
mod rate;
mod raw;
mod salvage;
mod scan;
pub mod source;
mod zeroes;

use std::sync::atomic::AtomicBool;

use crate::codec::Method;
use crate::create::{Compression, NewImage, Preallocation, create_raw};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::progress::Progress;
use crate::storage::{Capacity, Storage};

use buffer::Pool;
use existing::Existing;
use fresh::{Fresh, Plan};
use pipeline::Work;
use rate::Rate;
use raw::Raw;
use salvage::Salvage;
use scan::Cut;

pub use salvage::Loss;
pub use source::{Disk, Source};

/// Bytes of data that one thread works on at a time.
const ITEM_BYTES: u64 = 1 << 20;
/// Clusters of a new image in one item without data.
const LONGEST_CLUSTERS: u64 = 1 << 16;
/// The longest item without data.
const LONGEST_BYTES: u64 = 1 << 36;
/// Raw targets are written in multiples of this.
const RAW_GRAIN: u64 = 4096;
/// Runs of zeroes that are not stored, unless something else is asked for.
pub const DEFAULT_SPARSE: u64 = 4096;

/// How to convert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertOptions {
    /// The least run of zeroes that is not stored; 0: everything is.
    pub sparse: u64,
    /// Whether clusters are compressed.
    pub compress: bool,
    /// How many threads work; 0: as many as there are cores.
    pub threads: usize,
    /// Whether the target is flushed: a new image before it becomes one, and everything at the end.
    pub flush: bool,
    /// Whether what cannot be read becomes zeroes.
    pub salvage: bool,
    /// Most bytes a second.
    pub rate: Option<u64>,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            sparse: DEFAULT_SPARSE,
            compress: false,
            threads: 0,
            flush: true,
            salvage: false,
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
        storage: std::sync::Arc<dyn Storage>,
        /// Its backing file, where it has one: what is the same there is not stored.
        backing: Option<&'a Source>,
        /// The source has the same backing file, and what it leaves to that is not looked at.
        share_backing: bool,
        /// Its external data file, where it has one.
        data_file: Option<std::sync::Arc<dyn Storage>>,
    },
    /// A new raw image over whatever the storage has.
    NewRaw {
        /// Where it goes.
        storage: &'a dyn Storage,
        /// What it has from the start.
        preallocation: Preallocation,
    },
    /// A raw image that is there.
    Raw {
        /// Its bytes.
        storage: &'a dyn Storage,
        /// It reads as zeroes.
        is_zero: bool,
    },
    /// A qcow2 image that is there.
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
    /// What could not be read and is zero in the target.
    pub losses: Vec<Loss>,
}

/// Copies the source to the target. After an error, or with `cancel` set meanwhile, a new qcow2 image is none: its header is
/// written last.
pub fn convert(
    source: &Source,
    target: Target<'_>,
    options: &ConvertOptions,
    cancel: &AtomicBool,
    progress: &dyn Progress,
) -> Result<ConvertReport> {
    let salvage = options.salvage.then(Salvage::default);
    let rate = options.rate.map(Rate::new);
    let pool = Pool::default();
    let run = Run {
        source,
        options,
        salvage: salvage.as_ref(),
        rate: rate.as_ref(),
        cancel,
        progress,
        pool: &pool,
        threads: threads(options.threads),
    };
    match target {
        Target::New { new, storage, backing, share_backing, data_file } => {
            if new.is_preallocated() || new.is_external() {
                run.new_through_engine(new, storage, data_file)?;
            } else {
                run.new_image(new, storage.as_ref(), backing, share_backing)?;
            }
        }
        Target::NewRaw { storage, preallocation } => {
            create_raw(storage, source.bytes(), preallocation, &crate::progress::Silent)?;
            let is_zero = storage.capacity() == Capacity::Growable;
            run.raw(storage, is_zero)?;
        }
        Target::Raw { storage, is_zero } => run.raw(storage, is_zero)?,
        Target::Image { image, is_zero } => run.image(image, is_zero)?,
    }
    Ok(ConvertReport { losses: salvage.map(Salvage::losses).unwrap_or_default() })
}

fn threads(wanted: usize) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        wanted => wanted,
    }
}

/// One conversion.
struct Run<'a> {
    source: &'a Source,
    options: &'a ConvertOptions,
    salvage: Option<&'a Salvage>,
    rate: Option<&'a Rate>,
    cancel: &'a AtomicBool,
    progress: &'a dyn Progress,
    pool: &'a Pool,
    threads: usize,
}

impl Run<'_> {
    /// Items of whole clusters on either side.
    fn cut(&self, grain: u64) -> Cut {
        let most = ITEM_BYTES.max(grain).max(self.source.grain());
        let store_zeroes = self.options.sparse == 0;
        Cut { grain, most, longest: LONGEST_BYTES, share_backing: false, store_zeroes }
    }

    fn work<T: pipeline::Target>(&self, cut: Cut, target: &T) -> Result<()> {
        let work = Work {
            source: self.source,
            cut,
            threads: self.threads,
            salvage: self.salvage,
            rate: self.rate,
            cancel: self.cancel,
            progress: self.progress,
            pool: self.pool,
        };
        pipeline::run(&work, target)
    }

    fn new_image(
        &self,
        new: &NewImage,
        storage: &dyn Storage,
        backing: Option<&Source>,
        share_backing: bool,
    ) -> Result<()> {
        let grain = new.geometry().cluster_bytes();
        let mut cut = self.cut(grain);
        cut.share_backing = share_backing;
        if backing.is_some() {
            cut.longest = grain * LONGEST_CLUSTERS;
            cut.store_zeroes |= !new.is_version_3();
        }
        let method = match new.compression() {
            Compression::Zlib => Method::Zlib,
            Compression::Zstd => Method::Zstd,
        };
        let plan = Plan {
            new,
            storage,
            method: self.options.compress.then_some(method),
            sparse: self.options.sparse,
            backing,
            flush: self.options.flush,
            pool: self.pool,
        };
        let fresh = Fresh::new(plan, self.threads)?;
        self.work(cut, &fresh)?;
        fresh.finish(new.geometry().virtual_size(), |_, _| Ok(Vec::new()))
    }

    fn raw(&self, storage: &dyn Storage, is_zero: bool) -> Result<()> {
        let sparse = self.options.sparse;
        let raw = Raw { storage, sparse, is_zero, pool: self.pool };
        self.work(self.cut(RAW_GRAIN), &raw)?;
        if self.options.flush {
            storage.sync().map_err(|e| Error::io("flush the target", 0, e))?;
        }
        Ok(())
    }

    fn image(&self, image: &Image, is_zero: bool) -> Result<()> {
        if image.virtual_size() < self.source.bytes() {
            return Err(Error::Refused(format!(
                "the target's disk of {} bytes is too short for {} bytes",
                image.virtual_size(),
                self.source.bytes()
            )));
        }
        let existing = Existing::new(image, self.options, is_zero, self.pool)?;
        self.work(self.cut(image.geometry().cluster_bytes()), &existing)?;
        image.flush()
    }

    /// Makes a preallocated image, or one with an external data file, and writes into it. Its header is held
    /// back until all of it is there.
    fn new_through_engine(
        &self,
        new: &NewImage,
        storage: std::sync::Arc<dyn Storage>,
        data_file: Option<std::sync::Arc<dyn Storage>>,
    ) -> Result<()> {
        let held = std::sync::Arc::new(held::HeldHeader::new(storage));
        new.write(held.as_ref(), data_file.as_deref(), self.progress)?;
        let image = held::open(&held, data_file)?;
        self.image(&image, true)?;
        image.close()?;
        held.release(self.options.flush)
    }
}
