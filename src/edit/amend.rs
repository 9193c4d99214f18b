//! Options of an image that exists: version, refcounts, size, passphrases, and what it records of
//! its data file.
//!
//! Each change is made by a switch of its own, one after the other: a crash, a failure or an
//! interruption leaves the image with some of the changes, and valid.

use crate::convert::Control;
use crate::create::Version;
use crate::crypt::luks::SlotChange;
use crate::edit::resize::{ResizeOptions, require_possible_in, resize};
use crate::error::{Error, Result};
use crate::format::feature::{autoclear, incompatible};
use crate::format::header::Header;
use crate::image::Image;
use crate::setters::setters;

/// Widest refcounts, in bits (specification).
const MAX_REFCOUNT_BITS: u64 = 64;
/// The refcounts of version 2, in bits.
const V2_REFCOUNT_BITS: u64 = 16;
/// Incompatible features that do not outlast an image's use.
const TRANSIENT: u64 = incompatible::DIRTY | incompatible::CORRUPT;

/// What is to change; `None` stays.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Amendments {
    /// The version of the format.
    pub version: Option<Version>,
    /// Whether refcount updates are postponed; version 3 only.
    pub lazy_refcounts: Option<bool>,
    /// Width of refcounts in bits: a power of two up to 64, in version 2 only 16.
    pub refcount_bits: Option<u64>,
    /// The disk's size in bytes, a multiple of 512.
    pub size: Option<u64>,
    /// Whether the disk may get shorter, which loses what is past its new end.
    pub shrink: bool,
    /// The name of the external data file, of an image that has one; empty: none is recorded.
    pub data_file: Option<String>,
    /// Whether the external data file has to be readable as a raw disk by itself. That can be taken
    /// back only.
    pub data_file_raw: Option<bool>,
    /// Which passphrases open it, of an image that is encrypted with LUKS.
    pub keys: Option<SlotChange>,
}

setters!(Amendments {
    version: Option<Version>,
    lazy_refcounts: Option<bool>,
    refcount_bits: Option<u64>,
    size: Option<u64>,
    shrink: bool,
    data_file: Option<String>,
    data_file_raw: Option<bool>,
    keys: Option<SlotChange>,
});

/// Changes options of an image that is open for writing. What is not possible is refused before the
/// first write.
///
/// Fails with [`Error::Refused`] or [`Error::Unsupported`], with [`Error::Cancelled`] if `control`
/// asks for that, and with the error of a read, write or flush.
pub fn amend(mut image: Image, amendments: &Amendments, control: Control<'_>) -> Result<()> {
    require_amendable(&image, amendments)?;
    let keys = amendments.keys.as_ref().map(|change| image.plan_slots(change)).transpose()?;
    let is_version_3 = image.header()?.version >= 3;
    let wanted = amendments.version.map_or(is_version_3, |version| version == Version::V3);
    let total = image.virtual_size();
    control.progress.stage("amending", total);
    if wanted && !is_version_3 {
        image.upgrade()?;
    }
    if let Some(plan) = &keys {
        image.change_slots(plan)?;
    }
    if let Some(bits) = amendments.refcount_bits {
        image.set_refcount_order(bits.ilog2())?;
    }
    if let Some(name) = &amendments.data_file {
        image.set_data_file_name(name.as_bytes())?;
    }
    if amendments.data_file_raw == Some(false) {
        image.forget_raw_data_file()?;
    }
    if let Some(lazy) = amendments.lazy_refcounts.filter(|_| wanted) {
        image.set_lazy_refcounts(lazy)?;
    }
    if let Some(size) = amendments.size {
        let options = ResizeOptions { shrink: amendments.shrink, ..ResizeOptions::default() };
        resize(&mut image, size, options)?;
    }
    if !wanted && is_version_3 {
        image.expand_zeroes(|bytes| control.advance(bytes))?;
        image.downgrade()?;
    } else {
        control.progress.advance(total);
    }
    image.close()
}

fn refused(why: impl Into<String>) -> Result<()> {
    Err(Error::Refused(why.into()))
}

/// The beginnings are qemu-img's words.
fn require_amendable(image: &Image, amendments: &Amendments) -> Result<()> {
    let header = image.header()?;
    let is_version_2 =
        amendments.version.map_or(header.version < 3, |version| version == Version::V2);
    let bits = amendments.refcount_bits;
    if bits.is_some_and(|bits| !bits.is_power_of_two() || bits > MAX_REFCOUNT_BITS) {
        return refused("Refcount width must be a power of two and may not exceed 64 bits");
    }
    if is_version_2 && bits.is_some_and(|bits| bits != V2_REFCOUNT_BITS) {
        return refused(
            "Refcount widths other than 16 bits require compatibility level 1.1 or above (use \
             compat=1.1 or greater)",
        );
    }
    if is_version_2 && amendments.lazy_refcounts == Some(true) {
        return refused(
            "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 \
             or greater)",
        );
    }
    if amendments.data_file.is_some() && !header.has_data_file() {
        return refused("data-file can only be set for images that use an external data file");
    }
    let is_raw = header.autoclear & autoclear::DATA_FILE_RAW != 0;
    if amendments.data_file_raw == Some(true) && !is_raw {
        return refused("data-file-raw cannot be set on existing images");
    }
    if let Some(size) = amendments.size {
        let options = ResizeOptions { shrink: amendments.shrink, ..ResizeOptions::default() };
        // The upgrade comes first, the downgrade last.
        let version = if is_version_2 { header.version } else { header.version.max(3) };
        require_possible_in(version, image, size, options)?;
    }
    match is_version_2 && header.version >= 3 {
        true => require_version_2(image, &header, amendments),
        false => Ok(()),
    }
}

/// An error where version 2 does not have what the image has.
fn require_version_2(image: &Image, header: &Header, amendments: &Amendments) -> Result<()> {
    let bits = u64::from(image.geometry().refcount_bits());
    if amendments.refcount_bits.is_none() && bits != V2_REFCOUNT_BITS {
        return refused("compat=0.10 requires refcount_bits=16");
    }
    if header.has_data_file() {
        return refused("Cannot downgrade an image with a data file");
    }
    let features = header.incompatible & !TRANSIENT;
    if features != 0 {
        return refused(format!(
            "Cannot downgrade an image with incompatible features {features:#x} set"
        ));
    }
    if header.autoclear & autoclear::BITMAPS != 0 {
        return refused("Cannot downgrade an image with bitmaps: version 2 cannot keep them");
    }
    let size = amendments.size.unwrap_or(image.virtual_size());
    let snapshots = image.snapshots()?;
    if snapshots.iter().any(|snapshot| snapshot.disk_bytes() != Some(size)) {
        return refused(
            "Internal snapshots prevent downgrade of image: version 2 has one disk size for all",
        );
    }
    if image.snapshots_have_zeroes()? {
        return refused(
            "Internal snapshots prevent downgrade of image: they have zero clusters, which \
             version 2 does not know",
        );
    }
    Ok(())
}
