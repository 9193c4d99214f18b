//! The header of a new image.

use super::blueprint::Blueprint;
use super::options::{Compression, CreateOptions, Version};
use crate::error::{Error, Result};
use crate::format::crypto::{CryptMethod, CryptoHeader};
use crate::format::extension::{self, encode_extension};
use crate::format::feature::{autoclear, compatible, encode_known_feature_names, incompatible};
use crate::format::header::{Header, MAX_BACKING_NAME_BYTES, V2_BYTES, V3_BYTES_WITH_COMPRESSION};
use crate::format::{Geometry, HostOffset};

/// The positions of the roots of an image.
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
    /// The encryption header, where there is one.
    pub(crate) crypto: Option<CryptoHeader>,
    /// Autoclear feature bits besides those of the options.
    pub(crate) autoclear: u64,
}

impl Roots {
    #[expect(clippy::cast_possible_truncation, reason = "a table of 8 MiB at most")]
    pub(super) fn of(blueprint: &Blueprint, geometry: &Geometry, crypto_bytes: u64) -> Self {
        Self {
            l1: match blueprint.l1_entries {
                0 => HostOffset::new(0),
                _ => geometry.offset_of(blueprint.l1.first),
            },
            l1_entries: blueprint.l1_entries,
            reftable: geometry.offset_of(blueprint.reftable.first),
            reftable_clusters: blueprint.reftable.count.get() as u32,
            crypto: (crypto_bytes > 0).then(|| CryptoHeader {
                offset: geometry.offset_of(blueprint.crypto.first),
                length: crypto_bytes,
            }),
            autoclear: 0,
        }
    }
}

/// The header with its extensions and the backing file's name.
pub(super) fn encode_header(
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
    if let Some(crypto) = &roots.crypto {
        encode_extension(&mut extensions, extension::CRYPTO, &crypto.encode());
    }
    extensions.extend_from_slice(more);
    let name: &[u8] = options.backing.as_ref().map_or(&[], |b| &b.name);
    let mut names = Vec::new();
    encode_extension(&mut names, extension::FEATURE_NAMES, &encode_known_feature_names());
    let end_mark = extension::EXTENSION_HEADER_BYTES;
    let needed = length + extensions.len() + end_mark + name.len();
    // The names of features are only a help for programs that do not support them.
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
        crypt_method: roots.crypto.map_or(CryptMethod::None, |_| CryptMethod::Luks),
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
