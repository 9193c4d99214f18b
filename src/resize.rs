//! The disk of an image made longer or shorter.

use crate::error::{Error, Result};
use crate::image::Image;

/// Bytes that a disk size is a multiple of.
const SECTOR: u64 = 512;

/// What a resize may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResizeOptions {
    /// The disk may get shorter, which loses what lies beyond its new end.
    pub shrink: bool,
}

/// Gives the image a disk of `size` bytes. Everything that cannot be kept true is refused before the first write.
pub fn resize(image: &mut Image, size: u64, options: ResizeOptions) -> Result<()> {
    let old = image.virtual_size();
    if size == old {
        return Ok(());
    }
    refuse_what_cannot_follow(image, size, options)?;
    if size > old {
        // The last cluster may hold bytes beyond the old end, which nobody has seen so far.
        image.zero_beyond_end()?;
        image.grow(size)
    } else {
        image.shrink(size)
    }
}

fn refuse_what_cannot_follow(image: &Image, size: u64, options: ResizeOptions) -> Result<()> {
    let refused = |why: &str| Err(Error::Refused(why.into()));
    let old = image.virtual_size();
    let header = image.header()?;
    if size % SECTOR != 0 {
        return refused("the size of a disk is a multiple of 512 bytes");
    }
    if size < old && !options.shrink {
        return refused(
            "making the disk shorter loses the data beyond its new end; say so with --shrink",
        );
    }
    let snapshots = image.snapshots()?;
    if !snapshots.is_empty() && header.version < 3 {
        return refused("a version 2 image with snapshots has one size for all of them");
    }
    if snapshots.iter().any(|snapshot| snapshot.disk_bytes().is_none()) {
        return refused("a snapshot does not tell its disk size");
    }
    if image.has_bitmaps() {
        return Err(Error::Unsupported("an image with bitmaps cannot be resized yet".into()));
    }
    if header.has_data_file() {
        let why = "an image with an external data file cannot be resized yet";
        return Err(Error::Unsupported(why.into()));
    }
    let backing = image.backing().map(crate::image::Backing::virtual_size).transpose()?;
    if size > old && backing.is_some_and(|bytes| bytes > old) {
        return Err(Error::Unsupported(
            "the backing file is longer than the disk and would show through where it grows".into(),
        ));
    }
    Ok(())
}
