//! A new image before it is written.

use std::sync::Arc;

use super::blueprint::Blueprint;
use super::header::{Roots, encode_header};
use super::options::{Compression, CreateOptions, Version};
use crate::crypt::luks::NewHeader;
use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::geometry::{GeometryError, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS};
use crate::image::Preallocation;
use crate::sector::SECTOR;

/// A new image that can be written: options that fit together, and where everything goes.
#[derive(Debug, Clone)]
pub struct NewImage {
    pub(super) options: CreateOptions,
    pub(super) geometry: Geometry,
    pub(super) blueprint: Blueprint,
    pub(super) header: Vec<u8>,
    pub(super) preallocation: Preallocation,
    pub(super) external: bool,
    pub(super) encryption: Option<Arc<NewHeader>>,
}

impl NewImage {
    /// Checks the options and computes the blueprint. Nothing is written.
    pub fn new(options: &CreateOptions) -> Result<Self> {
        Self::with(options, None)
    }

    /// The same for an image that is encrypted under this header.
    pub fn encrypted(options: &CreateOptions, header: NewHeader) -> Result<Self> {
        if options.data_file.as_ref().is_some_and(|data| data.raw) {
            let why = "a data file that is encrypted cannot be read as a raw image";
            return Err(Error::Refused(why.into()));
        }
        Self::with(options, Some(Arc::new(header)))
    }

    fn with(options: &CreateOptions, encryption: Option<Arc<NewHeader>>) -> Result<Self> {
        let crypto_bytes = encryption.as_ref().map_or(0, |header| header.payload_offset());
        let geometry = geometry(options)?;
        refuse_misfits(options)?;
        let external = options.data_file.as_ref();
        // A raw data file is one in which every cluster has its place from the start.
        let preallocation = match options.preallocation {
            Preallocation::Off if external.is_some_and(|d| d.raw) => Preallocation::Metadata,
            other => other,
        };
        let tables = preallocation != Preallocation::Off;
        let blueprint =
            Blueprint::new(&geometry, tables, tables && external.is_none(), crypto_bytes)?;
        let roots = Roots::of(&blueprint, &geometry, crypto_bytes);
        let header = encode_header(options, &geometry, &roots, &[])?;
        let external = external.is_some();
        let options = options.clone();
        Ok(Self { options, geometry, blueprint, header, preallocation, external, encryption })
    }

    /// Cluster size, refcount width, L2 entry size and virtual size.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether it has clusters from the start: preallocated, or an external data file that is to be
    /// raw.
    pub fn is_preallocated(&self) -> bool {
        self.preallocation != Preallocation::Off
    }

    /// Whether its data is in an external file.
    pub const fn is_external(&self) -> bool {
        self.external
    }

    /// The header of its encryption, where it has one.
    pub(crate) fn encryption(&self) -> Option<&NewHeader> {
        self.encryption.as_deref()
    }

    /// How its clusters are compressed.
    pub const fn compression(&self) -> Compression {
        self.options.compression
    }

    /// Whether it is of version 3.
    pub fn is_version_3(&self) -> bool {
        self.options.version == Version::V3
    }

    /// The header of an image with these options whose disk and roots are others. `extensions` are
    /// header extensions, encoded, that it has besides its own.
    pub(crate) fn header_with(
        &self,
        size: u64,
        roots: &Roots,
        extensions: &[u8],
    ) -> Result<Vec<u8>> {
        let geometry = self.geometry.with_virtual_size(size);
        encode_header(&self.options, &geometry, roots, extensions)
    }
}

/// A disk of so many bytes, in whole sectors.
pub(crate) fn round_up(size: u64) -> Result<u64> {
    let rounded = size.checked_next_multiple_of(SECTOR);
    rounded
        .filter(|&bytes| bytes <= i64::MAX.unsigned_abs())
        .ok_or_else(|| Error::Refused(format!("a disk of {size} bytes is too large")))
}

/// Cluster size, refcount width, L2 entry size and size of an image with these options.
pub(crate) fn geometry(options: &CreateOptions) -> Result<Geometry> {
    let refuse = |text: String| Err(Error::Refused(text));
    let cluster_bits = options.cluster_bytes.trailing_zeros();
    let range = MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS;
    if !options.cluster_bytes.is_power_of_two() || !range.contains(&cluster_bits) {
        return refuse(format!(
            "a cluster size of {} bytes is not a power of two between 512 and 2M",
            options.cluster_bytes
        ));
    }
    if !options.refcount_bits.is_power_of_two() || options.refcount_bits > 64 {
        return refuse(format!(
            "a refcount width of {} bits is not a power of two up to 64",
            options.refcount_bits
        ));
    }
    let order = options.refcount_bits.trailing_zeros();
    match Geometry::new(cluster_bits, order, options.extended_l2, round_up(options.size)?) {
        Ok(geometry) => Ok(geometry),
        Err(GeometryError::ExtendedL2(_)) => {
            refuse("extended_l2 needs a cluster size of 16 KiB at least".into())
        }
        Err(_) => refuse("cluster size or refcount width out of range".into()),
    }
}

/// Options that exclude each other.
fn refuse_misfits(options: &CreateOptions) -> Result<()> {
    let raw_data = options.data_file.as_ref().is_some_and(|d| d.raw);
    let has_backing = options.backing.is_some();
    let only_v3 = [
        (options.refcount_bits != 16, "refcount_bits other than 16"),
        (options.lazy_refcounts, "lazy_refcounts"),
        (options.compression != Compression::Zlib, "compression_type other than zlib"),
        (options.extended_l2, "extended_l2"),
        (options.data_file.is_some(), "data_file"),
    ];
    if options.version == Version::V2 {
        if let Some((_, what)) = only_v3.iter().find(|(asked, _)| *asked) {
            return Err(Error::Refused(format!("{what} needs compat=1.1 (version 3)")));
        }
    }
    if has_backing && options.preallocation != Preallocation::Off && !options.extended_l2 {
        return Err(Error::Refused(
            "preallocation would hide the backing file; with extended_l2=on it does not".into(),
        ));
    }
    if has_backing && raw_data {
        return Err(Error::Refused("a raw data file would hide the backing file".into()));
    }
    Ok(())
}
