//! The persistent bitmaps that a conversion copies.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::bitmap::BitmapEntry;
use crate::image::Image;

use super::source::SourceDisk;

/// The bitmaps that are copied.
pub(super) struct Bitmaps<'a> {
    pub(super) image: &'a Image,
    pub(super) entries: Vec<BitmapEntry>,
}

impl<'a> Bitmaps<'a> {
    /// The bitmaps of the only source. Broken ones are an error, or else their names are added to
    /// `skipped`.
    pub(super) fn of(
        source: &'a SourceDisk,
        skip_broken: bool,
        skipped: &mut Vec<String>,
    ) -> Result<Self> {
        let Some(Disk::Qcow2(image)) = source.only() else {
            let why = "only a single qcow2 source has bitmaps to copy";
            return Err(Error::Refused(why.into()));
        };
        let mut entries = image.stored_bitmaps()?;
        let mut broken = None;
        entries.retain(|entry| {
            let sound = entry.defects(&image.geometry()).is_empty()
                && !entry.is_in_use()
                && image.bitmap_bits(entry).is_ok();
            if !sound {
                let name = entry.name_text();
                broken.get_or_insert_with(|| name.clone());
                skipped.push(name);
            }
            sound
        });
        match broken {
            Some(name) if !skip_broken => Err(Error::Refused(format!(
                "the bitmap '{}' is not consistent and cannot be copied",
                name.escape_debug()
            ))),
            _ => Ok(Self { image, entries }),
        }
    }

    /// An error where an image cannot take them.
    pub(super) fn require_room_in(&self, target: &Image) -> Result<()> {
        target.require_room_for_bitmaps(&self.entries)
    }

    /// Adds the bitmaps to an image that is open for writing.
    pub(super) fn add_to(&self, target: &Image) -> Result<()> {
        let with_bits = |entry: &BitmapEntry| Ok((entry.clone(), self.image.bitmap_bits(entry)?));
        target.add_bitmaps(&self.entries.iter().map(with_bits).collect::<Result<Vec<_>>>()?)
    }
}
