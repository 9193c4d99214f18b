//! The disk of an image made longer or shorter.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::format::bitmap::MAX_DATA_BYTES;
use crate::format::crypto::CryptMethod;
use crate::format::l1::MAX_L1_BYTES;
use crate::image::{Backing, Image, write_zero_buffers};
use crate::sector::SECTOR;
use crate::setters::setters;
use crate::storage::{Capacity, Storage};

pub use crate::image::Preallocation;

/// What a resize may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResizeOptions {
    /// The disk may get shorter, which loses what is past its new end.
    pub shrink: bool,
    /// What the new part of the disk has from the start.
    pub preallocation: Preallocation,
}

setters!(ResizeOptions { shrink: bool, preallocation: Preallocation });

/// Gives the image a disk of `size` bytes. Everything that cannot be kept true is refused before
/// the first write.
pub fn resize(image: &mut Image, size: u64, options: ResizeOptions) -> Result<()> {
    require_possible(image, size, options)?;
    let old = image.virtual_size();
    if size == old {
        return Ok(());
    }
    if size > old {
        // The last cluster may hold bytes past the old end, which were not readable so far.
        image.zero_beyond_end()?;
        image.grow(size, options.preallocation)
    } else {
        image.shrink(size)
    }
}

/// An error where [`resize`] would refuse, as far as that shows in an image that is open for
/// reading.
pub fn require_possible(image: &Image, size: u64, options: ResizeOptions) -> Result<()> {
    require_possible_in(image.header()?.version, image, size, options)
}

/// The same for an image that has this version of the format by then.
pub(crate) fn require_possible_in(
    version: u32,
    image: &Image,
    size: u64,
    options: ResizeOptions,
) -> Result<()> {
    let old = image.virtual_size();
    if size % SECTOR != 0 {
        return refused("the size of a disk is a multiple of 512 bytes");
    }
    require_shrink(old, size, options)?;
    if size == old { Ok(()) } else { refuse_what_cannot_follow(version, image, size, options) }
}

/// Gives a raw image `size` bytes. Its disk is that long, rounded up to whole sectors. Once
/// `cancel` is set while zeroes are written, this ends with [`Error::Cancelled`] and the image is
/// as it was.
pub fn resize_raw(
    storage: &dyn Storage,
    size: u64,
    options: ResizeOptions,
    cancel: &AtomicBool,
) -> Result<()> {
    resize_payload(storage, 0, size, options, cancel)
}

/// [`resize_raw`] of the disk that begins at an offset of the file, as that of a LUKS image does.
/// What such a disk gets is not zero for a guest, but what zeroes are decrypted to.
pub fn resize_payload(
    storage: &dyn Storage,
    start: u64,
    size: u64,
    options: ResizeOptions,
    cancel: &AtomicBool,
) -> Result<()> {
    let too_large = || Error::Refused("a file of this size is not possible".into());
    let end = size.checked_add(start).ok_or_else(too_large)?;
    if let Capacity::Fixed(bytes) = storage.capacity() {
        let as_it_is = end == bytes && options.preallocation == Preallocation::Off;
        let why = "a block device has the size that it has";
        return if as_it_is { Ok(()) } else { Err(Error::Unsupported(why.into())) };
    }
    let failed = |e| Error::io("set the length", end, e);
    let length = storage.len().map_err(failed)?;
    let disk = length.saturating_sub(start);
    let old = disk.checked_next_multiple_of(SECTOR).unwrap_or(disk);
    require_shrink(old, size, options)?;
    options.preallocation.require_on_raw(storage)?;
    let added = end.saturating_sub(length);
    let outcome = match options.preallocation {
        Preallocation::Off | Preallocation::Metadata => storage.set_len(end),
        Preallocation::Falloc => storage.allocate(length, added),
        Preallocation::Full => write_zero_buffers(storage, length, added, Some(cancel)),
    };
    if outcome.is_err() {
        // Part of the space may be allocated, and the length of a raw image is its disk's size.
        let _ = storage.set_len(length);
    }
    if outcome.is_err() && cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    outcome.map_err(failed)?;
    storage.sync().map_err(|e| Error::file("flush the image", e))
}

fn refused(why: &str) -> Result<()> {
    Err(Error::Refused(why.into()))
}

fn require_shrink(old: u64, size: u64, options: ResizeOptions) -> Result<()> {
    if size < old && !options.shrink {
        return refused("a shorter disk loses the data past its new end, which was not allowed");
    }
    if size <= old && options.preallocation != Preallocation::Off {
        return refused("there is nothing to preallocate where the disk does not get longer");
    }
    Ok(())
}

fn refuse_what_cannot_follow(
    version: u32,
    image: &Image,
    size: u64,
    options: ResizeOptions,
) -> Result<()> {
    let old = image.virtual_size();
    let header = image.header()?;
    if options.preallocation != Preallocation::Off && header.crypt_method != CryptMethod::None {
        return refused("space cannot be preallocated in an encrypted image");
    }
    let snapshots = image.snapshots()?;
    if !snapshots.is_empty() && version < 3 {
        return refused("a version 2 image with snapshots has one size for all of them");
    }
    if snapshots.iter().any(|snapshot| snapshot.disk_bytes().is_none()) {
        return refused("a snapshot has no disk size");
    }
    if image.geometry().l1_entries_for(size) > MAX_L1_BYTES / 8 {
        return refused("a disk of this size would need an L1 table over the limit of 32 MiB");
    }
    refuse_bitmaps(image, size)?;
    let backing = image.backing().map(Backing::virtual_size).transpose()?;
    let shows_through = size > old && backing.is_some_and(|bytes| bytes > old);
    if shows_through && version < 3 && header.crypt_method != CryptMethod::None {
        return refused(
            "the backing file is longer than the disk and would show through where it grows: an \
             encrypted version 2 image cannot hide it",
        );
    }
    Ok(())
}

/// An error where a bitmap cannot follow the disk. Those that are out of date stay so.
fn refuse_bitmaps(image: &Image, size: u64) -> Result<()> {
    let geometry = image.geometry().with_virtual_size(size);
    for bitmap in image.bitmaps()? {
        let name = bitmap.name_text();
        let name = name.escape_debug();
        if bitmap.is_in_use() {
            let why = format!("the bitmap '{name}' is not consistent: delete it first");
            return Err(Error::Unsupported(why));
        }
        let data_bytes = bitmap.table_entries_for(&geometry) * geometry.cluster_bytes();
        if data_bytes > MAX_DATA_BYTES {
            let why = format!("the bitmap '{name}' would be over the limit of 512 MiB");
            return Err(Error::Unsupported(why));
        }
    }
    Ok(())
}
