//! The data of an image brought into an image below it in its backing chain.
//!
//! * `base`: which image of the chain that is
//! * [`commit`]: the data is moved
//!
//! The base is written while the image still has all data, and flushed before the image is emptied:
//! whatever a crash leaves, the chain reads as before, and a second commit completes the first one.

mod base;

pub use base::{Base, find_base};

use crate::convert::{self, Control, ConvertOptions, Input, SourceDisk};
use crate::disk::Disk;
use crate::edit::resize::{ResizeOptions, resize, resize_raw};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::setters::setters;
use crate::storage::Storage;

/// An open image that data is committed to.
pub enum Target {
    /// A raw image.
    Raw(Box<dyn Storage>),
    /// A qcow2 image, open for writing.
    Qcow2(Box<Image>),
}

/// How to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitOptions {
    /// How many images of the chain are above the base, at least 1 (see [`Base::layers`]).
    pub layers: usize,
    /// Whether the image keeps its data. Only an image right above its base can be emptied: the
    /// images in between do not have the data.
    pub keep: bool,
    /// Most bytes a second that are read; `None`: no limit.
    pub rate: Option<u64>,
    /// How many threads work; 0: one for each core.
    pub threads: usize,
}

setters!(CommitOptions {
    layers: usize,
    keep: bool,
    rate: Option<u64>,
    threads: usize,
});

impl Default for CommitOptions {
    fn default() -> Self {
        Self { layers: 1, keep: false, rate: None, threads: 0 }
    }
}

/// Brings what the image and those between it and the base hold into the base, and then, unless it
/// is to keep them, takes the data from the image. A base with a shorter disk gets as long as the
/// image's.
///
/// `image` is open for writing, with [`BackingPolicy::Layers`](crate::image::BackingPolicy::Layers)
/// of one less than `options.layers`, so that the base is open once only.
///
/// Fails with [`Error::Refused`] if the image is encrypted or the base cannot get longer, with
/// [`Error::Cancelled`] if `control` asks for that, and with the error of a read, write or flush.
/// Until it has succeeded the image has all its data.
pub fn commit(
    image: Image,
    base: Target,
    options: &CommitOptions,
    control: Control<'_>,
) -> Result<()> {
    if options.layers == 0 || options.layers > 1 && !options.keep {
        let why = "an image with others between it and the base cannot be emptied";
        return Err(Error::Refused(why.into()));
    }
    let size = image.virtual_size();
    let source = SourceDisk::new(vec![Disk::Qcow2(Box::new(image))])?;
    let convert_options = ConvertOptions {
        sparse: 0,
        layers: Some(options.layers),
        threads: options.threads,
        rate: options.rate,
        ..ConvertOptions::default()
    };
    let bring = |target| {
        convert::convert(Input::Disks(&source), target, &convert_options, control).map(drop)
    };
    match base {
        Target::Raw(storage) => {
            lengthen_raw(storage.as_ref(), size, control)?;
            let storage = storage.as_ref();
            bring(convert::Target::Raw { storage, is_zero: false })?;
        }
        Target::Qcow2(mut base) => {
            if base.virtual_size() < size {
                resize(&mut base, size, ResizeOptions::default())?;
            }
            bring(convert::Target::Image { image: &base, is_zero: false })?;
            base.close()?;
        }
    }
    for disk in source.into_disks() {
        if let Disk::Qcow2(image) = disk {
            if !options.keep {
                image.empty()?;
            }
            image.close()?;
        }
    }
    Ok(())
}

fn lengthen_raw(storage: &dyn Storage, size: u64, control: Control<'_>) -> Result<()> {
    let length = storage.len().map_err(|e| Error::file("get the length", e))?;
    if length >= size {
        return Ok(());
    }
    resize_raw(storage, size, ResizeOptions::default(), control.cancel)
}
