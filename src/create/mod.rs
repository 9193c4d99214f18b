//! Making a new image. Its layout is computed first and written in bulk, and the header comes last:
//! what is left behind by a failure is not an image.

mod layout;
mod write;

use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::extension::{self, encode_extension};
use crate::format::feature::{autoclear, compatible, encode_known_feature_names, incompatible};
use crate::format::geometry::{GeometryError, MAX_CLUSTER_BITS, MIN_CLUSTER_BITS};
use crate::format::header::{Header, MAX_BACKING_NAME_BYTES, V2_BYTES, V3_BYTES_WITH_COMPRESSION};
use crate::format::{Geometry, HostOffset};
use crate::progress::Progress;
use crate::storage::{Capacity, Storage};

use layout::Layout;
pub(crate) use layout::refcount_clusters;
pub(crate) use write::cut_off;

pub use crate::image::Preallocation;

/// Sectors are the unit of virtual sizes.
const SECTOR_BYTES: u64 = 512;

/// The compatibility level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// "0.10".
    V2,
    /// "1.1".
    #[default]
    V3,
}

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// zlib.
    #[default]
    Zlib,
    /// zstd.
    Zstd,
}

/// The external data file of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its name as the image tells it.
    pub name: Vec<u8>,
    /// Whether it is to read as a raw image by itself.
    pub raw: bool,
}

/// The backing file of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its name as the image tells it.
    pub name: Vec<u8>,
    /// Its format.
    pub format: Vec<u8>,
}

/// What a new qcow2 image is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// Bytes of the disk; rounded up to sectors.
    pub size: u64,
    /// The compatibility level.
    pub version: Version,
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// Bits of a refcount.
    pub refcount_bits: u64,
    /// Whether refcount updates may be postponed.
    pub lazy_refcounts: bool,
    /// What it has from the start.
    pub preallocation: Preallocation,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// Whether L2 entries have subclusters.
    pub extended_l2: bool,
    /// Its external data file.
    pub data_file: Option<DataFile>,
    /// Its backing file.
    pub backing: Option<Backing>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            size: 0,
            version: Version::V3,
            cluster_bytes: 1 << 16,
            refcount_bits: 16,
            lazy_refcounts: false,
            preallocation: Preallocation::Off,
            compression: Compression::Zlib,
            extended_l2: false,
            data_file: None,
            backing: None,
        }
    }
}

/// A new image that can be written: options that fit together, and where everything goes.
#[derive(Debug, Clone)]
pub struct NewImage {
    options: CreateOptions,
    geometry: Geometry,
    layout: Layout,
    header: Vec<u8>,
    preallocation: Preallocation,
    external: bool,
}

impl NewImage {
    /// Checks the options and computes the layout. Nothing is written.
    pub fn new(options: &CreateOptions) -> Result<Self> {
        let geometry = geometry(options)?;
        refuse_misfits(options)?;
        let external = options.data_file.as_ref();
        // A raw data file is one in which every cluster has its place from the start.
        let preallocation = match options.preallocation {
            Preallocation::Off if external.is_some_and(|d| d.raw) => Preallocation::Metadata,
            other => other,
        };
        let tables = preallocation != Preallocation::Off;
        let layout = Layout::new(&geometry, tables, tables && external.is_none())?;
        let header = encode_header(options, &geometry, &Roots::of(&layout, &geometry), &[])?;
        let external = external.is_some();
        let options = options.clone();
        Ok(Self { options, geometry, layout, header, preallocation, external })
    }

    /// Cluster size, refcount width, L2 entry size and virtual size.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether it has clusters from the start: preallocated, or an external data file that is to be raw.
    pub fn is_preallocated(&self) -> bool {
        self.preallocation != Preallocation::Off
    }

    /// Whether its data lies in an external file.
    pub const fn is_external(&self) -> bool {
        self.external
    }

    /// How its clusters are compressed.
    pub const fn compression(&self) -> Compression {
        self.options.compression
    }

    /// Whether it is of version 3.
    pub fn is_version_3(&self) -> bool {
        self.options.version == Version::V3
    }

    /// The header of an image with these options whose disk and roots are others. `extensions` are header extensions,
    /// encoded, that it has besides its own.
    pub(crate) fn header_with(
        &self,
        size: u64,
        roots: &Roots,
        extensions: &[u8],
    ) -> Result<Vec<u8>> {
        let geometry = self.geometry.with_virtual_size(size);
        encode_header(&self.options, &geometry, roots, extensions)
    }

    /// Writes the image over whatever the storage has, and its data file where it has one. Once
    /// this has begun, the old content is lost.
    pub fn write(
        &self,
        storage: &dyn Storage,
        data_file: Option<&dyn Storage>,
        progress: &dyn Progress,
    ) -> Result<()> {
        if self.external != data_file.is_some() {
            return Err(Error::Refused("the data file has to be given where there is one".into()));
        }
        need_room(storage, self.layout.file_bytes(&self.geometry), "the new image")?;
        self.preallocation.require_on(data_file.unwrap_or(storage))?;
        if let Some(data_file) = data_file {
            write::raw(data_file, self.geometry.virtual_size(), self.preallocation, progress)?;
        }
        write::image(self, storage, progress)
    }
}

/// Writes a raw image: nothing but `size` bytes, rounded up to sectors, that read as zeroes.
pub fn create_raw(
    storage: &dyn Storage,
    size: u64,
    preallocation: Preallocation,
    progress: &dyn Progress,
) -> Result<()> {
    preallocation.require_on_raw(storage)?;
    write::raw(storage, round_up(size)?, preallocation, progress)
}

fn need_room(storage: &dyn Storage, needed: u64, purpose: &str) -> Result<()> {
    match storage.capacity() {
        Capacity::Fixed(bytes) if bytes < needed => {
            Err(Error::NoRoom { needed, purpose: purpose.into() })
        }
        _ => Ok(()),
    }
}

fn round_up(size: u64) -> Result<u64> {
    let rounded = size.checked_next_multiple_of(SECTOR_BYTES);
    rounded
        .filter(|&bytes| bytes <= i64::MAX.unsigned_abs())
        .ok_or_else(|| Error::Refused(format!("a disk of {size} bytes is too large")))
}

fn geometry(options: &CreateOptions) -> Result<Geometry> {
    let refuse = |text: String| Err(Error::Refused(text));
    let cluster_bits = options.cluster_bytes.trailing_zeros();
    let range = MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS;
    if !options.cluster_bytes.is_power_of_two() || !range.contains(&cluster_bits) {
        return refuse(format!(
            "a cluster size of {} bytes is no power of two between 512 and 2M",
            options.cluster_bytes
        ));
    }
    if !options.refcount_bits.is_power_of_two() || options.refcount_bits > 64 {
        return refuse(format!(
            "a refcount width of {} bits is no power of two up to 64",
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

/// Where the roots of an image lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roots {
    /// The L1 table.
    pub(crate) l1: HostOffset,
    /// Its entries.
    pub(crate) l1_entries: u32,
    /// The refcount table.
    pub(crate) reftable: HostOffset,
    /// Its clusters.
    pub(crate) reftable_clusters: u32,
    /// Autoclear feature bits besides those of the options.
    pub(crate) autoclear: u64,
}

impl Roots {
    #[expect(clippy::cast_possible_truncation, reason = "a table of 8 MiB at most")]
    fn of(layout: &Layout, geometry: &Geometry) -> Self {
        Self {
            l1: match layout.l1_entries {
                0 => HostOffset::new(0),
                _ => geometry.offset_of(layout.l1.first),
            },
            l1_entries: layout.l1_entries,
            reftable: geometry.offset_of(layout.reftable.first),
            reftable_clusters: layout.reftable.count.get() as u32,
            autoclear: 0,
        }
    }
}

/// The header with its extensions and the backing file's name.
fn encode_header(
    options: &CreateOptions,
    geometry: &Geometry,
    roots: &Roots,
    more: &[u8],
) -> Result<Vec<u8>> {
    let v3 = options.version == Version::V3;
    let length = if v3 { V3_BYTES_WITH_COMPRESSION } else { V2_BYTES };
    let mut extensions = Vec::new();
    if let Some(backing) = &options.backing {
        encode_extension(&mut extensions, extension::BACKING_FORMAT, &backing.format);
    }
    if let Some(data_file) = &options.data_file {
        encode_extension(&mut extensions, extension::DATA_FILE, &data_file.name);
    }
    extensions.extend_from_slice(more);
    let name: &[u8] = options.backing.as_ref().map_or(&[], |b| &b.name);
    let mut names = Vec::new();
    encode_extension(&mut names, extension::FEATURE_NAMES, &encode_known_feature_names());
    let end_mark = extension::EXTENSION_HEADER_BYTES;
    let needed = length + extensions.len() + end_mark + name.len();
    // The names of features are only a help for programs that do not know them.
    if v3 && needed + names.len() <= geometry.cluster_len() {
        extensions.append(&mut names);
    }
    if needed > geometry.cluster_len() || name.len() > MAX_BACKING_NAME_BYTES as usize {
        return Err(Error::Refused(
            "the names of backing file and data file are too long for the first cluster".into(),
        ));
    }
    encode_extension(&mut extensions, extension::END, &[]);

    let header = header_fields(options, geometry, roots, length + extensions.len());
    let mut bytes = header.encode();
    bytes.append(&mut extensions);
    bytes.extend_from_slice(name);
    Ok(bytes)
}

/// The header's fields; the backing file's name begins at `name_offset`.
#[expect(clippy::cast_possible_truncation, reason = "lengths in one cluster of 2 MiB at most")]
fn header_fields(
    options: &CreateOptions,
    geometry: &Geometry,
    roots: &Roots,
    name_offset: usize,
) -> Header {
    let flag = |set: bool, bit: u64| if set { bit } else { 0 };
    let data_file = options.data_file.as_ref();
    let v3 = options.version == Version::V3;
    let backing = options.backing.as_ref();
    let zstd = options.compression == Compression::Zstd;
    Header {
        version: if v3 { 3 } else { 2 },
        backing_name_offset: backing.map_or(0, |_| name_offset as u64),
        backing_name_len: backing.map_or(0, |b| b.name.len() as u32),
        cluster_bits: geometry.cluster_bits(),
        size: geometry.virtual_size(),
        crypt_method: CryptMethod::None,
        l1_entries: roots.l1_entries,
        l1_table: roots.l1,
        reftable: roots.reftable,
        reftable_clusters: roots.reftable_clusters,
        snapshot_count: 0,
        snapshot_table: HostOffset::new(0),
        incompatible: flag(data_file.is_some(), incompatible::DATA_FILE)
            | flag(zstd, incompatible::COMPRESSION)
            | flag(options.extended_l2, incompatible::EXTENDED_L2),
        compatible: flag(options.lazy_refcounts, compatible::LAZY_REFCOUNTS),
        autoclear: flag(data_file.is_some_and(|d| d.raw), autoclear::DATA_FILE_RAW)
            | roots.autoclear,
        refcount_order: geometry.refcount_order(),
        header_length: if v3 { V3_BYTES_WITH_COMPRESSION } else { V2_BYTES } as u32,
        compression_type: u8::from(zstd),
    }
}
