//! What a new image is to be.

use crate::image::Preallocation;
use crate::setters::setters;

/// The compatibility level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Version {
    /// "0.10".
    V2,
    /// "1.1".
    #[default]
    V3,
}

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
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
    /// Its name as stored in the image.
    pub name: Vec<u8>,
    /// Whether it is to read as a raw image by itself.
    pub raw: bool,
}

/// The backing file of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingName {
    /// Its name as stored in the image.
    pub name: Vec<u8>,
    /// Its format.
    pub format: Vec<u8>,
}

/// What a new qcow2 image is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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
    pub backing: Option<BackingName>,
}

setters!(CreateOptions {
    size: u64,
    version: Version,
    cluster_bytes: u64,
    refcount_bits: u64,
    lazy_refcounts: bool,
    preallocation: Preallocation,
    compression: Compression,
    extended_l2: bool,
    data_file: Option<DataFile>,
    backing: Option<BackingName>,
});

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
