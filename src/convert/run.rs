//! One conversion: its sources cut into items, and a target that takes them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bitmaps::Bitmaps;
use super::flow::buffer::Pool;
use super::flow::pipeline::{self, Work};
use super::flow::rate::Rate;
use super::flow::salvage::Salvage;
use super::flow::scan::{Cut, Scan};
use super::flow::stream::Stream;
use super::options::{Control, ConvertOptions, ConvertReport, Input, Outlet, Target};
use super::source::SourceDisk;
use super::target::existing::Existing;
use super::target::fresh::{Fresh, Plan};
use super::target::held;
use super::target::pipe::{ImagePipe, RawPipe, Survey};
use super::target::raw::Raw;
use super::verify::Compare;
use crate::codec::Method;
use crate::create::{Compression, NewImage, Preallocation, begin_luks, create_raw, header_last};
use crate::crypt::Volume;
use crate::crypt::luks::NewHeader;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::sector::SECTOR;
use crate::storage::{Capacity, Latch, Storage};
use crate::threads;

/// Bytes of data that one thread works on at a time: what the processor's cache can hold between
/// reading and writing.
const ITEM_BYTES: u64 = 1 << 18;
/// Clusters of a new image in one item without data.
const LONGEST_CLUSTERS: u64 = 1 << 16;
/// The longest item without data.
const LONGEST_BYTES: u64 = 1 << 36;
/// Raw targets are written in multiples of this.
const RAW_GRAIN: u64 = 4096;
/// Copies the input to the target. After an error, or with `cancel` set meanwhile, a new qcow2
/// image is not an image: its header is written last.
pub fn convert(
    input: Input<'_>,
    target: Target<'_>,
    options: &ConvertOptions,
    control: Control<'_>,
) -> Result<ConvertReport> {
    with_run(input, options, control, |run| match target {
        Target::New { new, storage, backing, data_file } => {
            if options.compress && new.encryption().is_some() {
                // QEMU's words: the format has no such clusters.
                let why = "Compression and encryption not supported at the same time";
                return Err(Error::Unsupported(why.into()));
            }
            if new.is_preallocated() || new.is_external() {
                run.new_through_engine(new, storage, data_file)
            } else {
                run.new_image(new, storage.as_ref(), backing)
            }
        }
        Target::NewRaw { storage, preallocation } => run.new_raw(storage, preallocation),
        Target::NewLuks { storage, header, preallocation } => {
            run.new_luks(storage, header, preallocation)
        }
        Target::Raw { storage, is_zero } => {
            run.require_room(storage.len().map_err(|e| Error::file("get the length", e))?)?;
            run.raw(storage, is_zero)
        }
        Target::Image { image, is_zero } => run.image(image, is_zero),
    })
}

/// Copies the input to a stream. What was written before an error is a part of an image, and should
/// be thrown away.
pub fn convert_to_stream(
    input: Input<'_>,
    outlet: Outlet<'_>,
    out: &mut (dyn Write + Send),
    options: &ConvertOptions,
    control: Control<'_>,
) -> Result<ConvertReport> {
    with_run(input, options, control, |run| {
        match outlet {
            Outlet::Raw => {
                let target = RawPipe::new(&mut *out, run.threads, run.pool);
                run.work(run.cut(RAW_GRAIN), &target)?;
            }
            Outlet::Qcow2(new) => run.image_to_stream(new, out)?,
        }
        out.flush().map_err(|e| Error::file("write the stream", e))
    })
}

/// Reads a source and what was made of it, and compares; where they differ is an error.
pub fn verify(
    source: &SourceDisk,
    made: &SourceDisk,
    options: &ConvertOptions,
    control: Control<'_>,
) -> Result<()> {
    if made.bytes() < source.bytes() {
        return Err(Error::Refused("the target is shorter than the source".into()));
    }
    with_run(Input::Disks(source), options, control, |run| {
        run.stage = "comparing";
        let pool = run.pool;
        run.work(run.cut(RAW_GRAIN), &Compare { other: made, pool })
    })?;
    Ok(())
}

fn with_run(
    input: Input<'_>,
    options: &ConvertOptions,
    control: Control<'_>,
    work: impl FnOnce(&mut Run<'_, '_>) -> Result<()>,
) -> Result<ConvertReport> {
    let salvage = options.salvage.then(Salvage::default);
    let rate = options.rate.map(Rate::new);
    let pool = Pool::default();
    let nothing = SourceDisk::new(Vec::new())?;
    let (source, stream) = match input {
        Input::Disks(source) => (source, None),
        Input::Stream(stream) => (&nothing, Some(stream)),
    };
    let mut run = Run {
        source,
        bytes: source.bytes(),
        is_stream: stream.is_some(),
        stream,
        stage: "converting",
        skipped_bitmaps: Vec::new(),
        options,
        salvage: salvage.as_ref(),
        rate: rate.as_ref(),
        control,
        pool: &pool,
        threads: threads::or_cores(options.threads),
    };
    work(&mut run)?;
    let (bytes, skipped_bitmaps) = (run.bytes, std::mem::take(&mut run.skipped_bitmaps));
    let losses = salvage.map(Salvage::losses).unwrap_or_default();
    Ok(ConvertReport { bytes, losses, skipped_bitmaps })
}

/// One conversion.
struct Run<'a, 's> {
    source: &'a SourceDisk,
    /// The disk's size; of a stream it is known after the work.
    bytes: u64,
    stream: Option<&'s mut (dyn Read + Send + 's)>,
    is_stream: bool,
    stage: &'static str,
    skipped_bitmaps: Vec<String>,
    options: &'a ConvertOptions,
    salvage: Option<&'a Salvage>,
    rate: Option<&'a Rate>,
    control: Control<'a>,
    pool: &'a Pool,
    threads: usize,
}

impl<'a> Run<'a, '_> {
    /// Items of whole clusters on either side.
    fn cut(&self, grain: u64) -> Cut {
        let most = ITEM_BYTES.max(grain).max(self.source.grain());
        let store_zeroes = self.options.sparse == 0;
        Cut { grain, most, longest: LONGEST_BYTES, shared_from: None, store_zeroes }
    }

    /// Items for a target that exists. What is left to the target is left to the sector, and what
    /// the source records as zeroes stays that.
    fn cut_onto(&self, grain: u64) -> Cut {
        let cut = self.cut(grain);
        match self.options.layers {
            None => cut,
            layers => Cut { grain: SECTOR, shared_from: layers, store_zeroes: false, ..cut },
        }
    }

    fn work<T: pipeline::Target>(&mut self, cut: Cut, target: &T) -> Result<()> {
        let work = Work {
            source: self.source,
            stage: self.stage,
            threads: self.threads,
            offload: self.options.offload && self.salvage.is_none() && self.stream.is_none(),
            salvage: self.salvage,
            rate: self.rate,
            cancel: self.control.cancel,
            progress: self.control.progress,
            pool: self.pool,
        };
        match self.stream.take() {
            Some(input) => {
                let size = Arc::new(AtomicU64::new(0));
                let stream = Stream::new(input, cut.most, size.clone());
                pipeline::run(&work, stream, target)?;
                self.bytes = size.load(Ordering::Relaxed);
                Ok(())
            }
            None => pipeline::run(&work, Scan::new(self.source, cut, self.salvage), target),
        }
    }

    fn new_image(
        &mut self,
        new: &NewImage,
        storage: &dyn Storage,
        backing: Option<&SourceDisk>,
    ) -> Result<()> {
        let bitmaps = self.bitmaps()?;
        if bitmaps.is_some() && !new.is_version_3() {
            return Err(Error::Refused("bitmaps need compat=1.1 (version 3)".into()));
        }
        let grain = new.geometry().cluster_bytes();
        let mut cut = self.cut(grain);
        if let Some(backing) = backing {
            // What the source leaves to the same file is not looked at.
            cut.shared_from = self.source.depth_of(backing);
            cut.longest = grain * LONGEST_CLUSTERS;
            cut.store_zeroes |= !new.is_version_3();
        }
        let method = match new.compression() {
            Compression::Zlib => Method::Zlib,
            Compression::Zstd => Method::Zstd,
        };
        // Threads write side by side: after the first failure none goes on.
        let storage = &Latch::new(storage);
        let plan = Plan {
            new,
            storage,
            source: self.source,
            method: self.options.compress.then_some((method, self.options.level)),
            // What bitmaps take is known when they are written.
            size: (!self.is_stream && bitmaps.is_none()).then(|| new.geometry().virtual_size()),
            sparse: self.options.sparse,
            backing,
            pool: self.pool,
        };
        let fresh = Fresh::new(plan, self.threads)?;
        self.work(cut, &fresh)?;
        let size = match self.is_stream {
            true => self.bytes,
            false => new.geometry().virtual_size(),
        };
        fresh.finish(size, bitmaps.as_ref())
    }

    /// The bitmaps to copy, if they are to be.
    fn bitmaps(&mut self) -> Result<Option<Bitmaps<'a>>> {
        let skip = self.options.skip_broken_bitmaps;
        let wanted = self.options.bitmaps;
        wanted.then(|| Bitmaps::of(self.source, skip, &mut self.skipped_bitmaps)).transpose()
    }

    /// Reads the source twice: the tables, which come first, follow from what is in it.
    fn image_to_stream(&mut self, new: &NewImage, out: &mut (dyn Write + Send)) -> Result<()> {
        let special = self.options.compress || self.options.bitmaps || new.encryption().is_some();
        if self.is_stream || special || new.is_preallocated() || new.is_external() {
            let why = "such an image cannot be written as a stream";
            return Err(Error::Refused(why.into()));
        }
        let geometry = new.geometry();
        let cut = self.cut(geometry.cluster_bytes());
        let survey = Survey::new(geometry, self.options.sparse, self.pool);
        self.stage = "looking";
        self.work(cut, &survey)?;
        let stored = survey.finish();
        self.stage = "converting";
        let target = ImagePipe::new(out, new, &stored, self.threads, self.pool)?;
        self.work(cut, &target)
    }

    fn new_raw(&mut self, storage: &dyn Storage, preallocation: Preallocation) -> Result<()> {
        create_raw(storage, self.bytes, preallocation, &crate::progress::Silent)?;
        let is_zero = storage.capacity() == Capacity::Growable;
        self.raw(storage, is_zero)?;
        if self.is_stream && is_zero {
            let bytes = self.bytes;
            storage.set_len(bytes).map_err(|e| Error::io("set the length", bytes, e))?;
        }
        Ok(())
    }

    /// The header comes last. All zeroes are stored, since no hole reads as zeroes.
    fn new_luks(
        &mut self,
        storage: &dyn Storage,
        header: &NewHeader,
        preallocation: Preallocation,
    ) -> Result<()> {
        begin_luks(storage, self.bytes, header, preallocation, &crate::progress::Silent)?;
        let volume = Volume::new(storage, header.cipher(), header.payload_offset());
        self.raw(&volume, false)?;
        header_last(storage, header.bytes())
    }

    fn raw(&mut self, storage: &dyn Storage, is_zero: bool) -> Result<()> {
        let storage = &Latch::new(storage);
        let sparse = self.options.sparse;
        let raw = Raw { storage, sparse, is_zero, pool: self.pool };
        self.work(self.cut_onto(RAW_GRAIN), &raw)?;
        storage.sync().map_err(|e| Error::file("flush the target", e))
    }

    fn image(&mut self, image: &Image, is_zero: bool) -> Result<()> {
        let bitmaps = self.bitmaps()?;
        if let Some(bitmaps) = &bitmaps {
            bitmaps.require_room_in(image)?;
        }
        self.require_room(image.virtual_size())?;
        let existing = Existing::new(image, self.options, is_zero, self.pool)?;
        let mut cut = self.cut_onto(image.geometry().cluster_bytes());
        if let Some(backing) = image.backing().filter(|_| self.options.only_different) {
            cut.shared_from = self.source.depth_of_backing(backing);
        }
        self.work(cut, &existing)?;
        if let Some(bitmaps) = &bitmaps {
            bitmaps.add_to(image)?;
        }
        image.flush()
    }

    /// An error where the disk is longer than an existing target.
    fn require_room(&self, there: u64) -> Result<()> {
        if there < self.bytes {
            return Err(Error::Refused(format!(
                "the target's disk of {there} bytes is too short for {} bytes",
                self.bytes
            )));
        }
        Ok(())
    }

    /// Makes a preallocated image, or one with an external data file, and writes into it. Its
    /// header is held back until all of it is there.
    fn new_through_engine(
        &mut self,
        new: &NewImage,
        storage: Arc<dyn Storage>,
        data_file: Option<Arc<dyn Storage>>,
    ) -> Result<()> {
        if self.options.compress {
            let why = "a preallocated image, or one with a data file, cannot be compressed";
            return Err(Error::Refused(why.into()));
        }
        let held = Arc::new(held::HeldHeader::new(storage));
        new.write(held.as_ref(), data_file.as_deref(), self.control.progress)?;
        let image = held::open(&held, data_file, new)?;
        // What is preallocated and was never encrypted reads as anything.
        let is_zero = new.encryption().is_none() || !new.is_preallocated();
        self.image(&image, is_zero)?;
        image.close()?;
        held.release()
    }
}
