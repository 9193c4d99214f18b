//! Another backing file for an image, without a change of what the guest reads.
//!
//! * `feed`: which ranges may read otherwise from the new backing chain
//! * `differences`: what differs there, stored in the image
//!
//! All that differs is in the image, flushed, before the header changes, with one write of a
//! sector: at every moment the guest reads the same.

mod differences;
mod feed;

use crate::convert::flow::{Pool, Work, run};
use crate::convert::{Control, SourceDisk};
use crate::disk::{Disk, shared_from};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::setters::setters;
use crate::threads;

pub use crate::image::BackingLabel;

use differences::{Differences, unit};
use feed::Feed;

/// How to rebase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebaseOptions {
    /// Whether clusters that the image gets are compressed.
    pub compress: bool,
    /// How many threads work; 0: one for each core.
    pub threads: usize,
}

setters!(RebaseOptions { compress: bool, threads: usize });

/// Gives the image, which is open for writing with its present backing chain, another backing file:
/// `new` is its disk, and `label` what the image records of it. With `None` for both the image has
/// none afterwards.
///
/// Fails with [`Error::Refused`] if the image is encrypted, is a part of the new chain itself, or
/// cannot record the backing file, with [`Error::Cancelled`] if `control` asks for that, and with
/// the error of a read, write or flush. Until it has succeeded the image has its present backing
/// file.
pub fn rebase(
    mut image: Image,
    new: Option<&Disk>,
    label: Option<&BackingLabel>,
    options: RebaseOptions,
    control: Control<'_>,
) -> Result<()> {
    if image.backing().is_none() {
        image.record_zeroes();
    }
    let source = SourceDisk::new(vec![Disk::Qcow2(Box::new(image))])?;
    store_differences(&source, new, options, control)?;
    for disk in source.into_disks() {
        if let Disk::Qcow2(image) = disk {
            relabel(*image, label)?;
        }
    }
    Ok(())
}

/// Records another backing file, or none, and looks at no data: what the guest reads may change.
/// The image is open for writing; its backing file need not be.
pub fn relabel(image: Image, label: Option<&BackingLabel>) -> Result<()> {
    image.set_backing(label)?;
    image.close()
}

fn store_differences(
    source: &SourceDisk,
    new: Option<&Disk>,
    options: RebaseOptions,
    control: Control<'_>,
) -> Result<()> {
    let Some(overlay @ Disk::Qcow2(image)) = source.only() else {
        return Err(Error::NotQcow2);
    };
    if let Some(new @ Disk::Qcow2(encrypted)) = new {
        encrypted.require_key()?;
        if shared_from(overlay, new).is_some_and(|[above, _]| above == 0) {
            return Err(Error::Refused("the image is a part of the new backing chain".into()));
        }
    }
    let pool = Pool::default();
    let work = Work {
        source,
        stage: "rebasing",
        threads: threads::or_cores(options.threads),
        offload: false,
        salvage: None,
        rate: None,
        cancel: control.cancel,
        progress: control.progress,
        pool: &pool,
    };
    let differences = Differences::new(image, new, options.compress, &pool);
    run(&work, Feed::new(overlay, new, unit(image), control)?, &differences)?;
    image.flush()
}
