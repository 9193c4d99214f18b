//! A header that was rebuilt, as JSON.

use qcheck::format::crypto::CryptMethod;
use qcheck::format::feature::incompatible;
use qcheck::repair;
use serde::Serialize;

/// A header that a repair wrote in place of a damaged one.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct RebuiltHeader {
    /// 2 or 3.
    version: u32,
    /// Bytes.
    cluster_size: u64,
    /// Bytes.
    virtual_size: u64,
    /// Whether nothing in the file proves the virtual size.
    virtual_size_guessed: bool,
    /// Host offset.
    l1_table_offset: u64,
    /// The length of the L1 table in entries.
    l1_entries: u32,
    /// Host offset.
    refcount_table_offset: u64,
    /// The length of the refcount table in clusters.
    refcount_table_clusters: u32,
    /// The width of a refcount.
    refcount_bits: u64,
    /// Whether L2 entries have subclusters.
    extended_l2: bool,
    /// Internal snapshots.
    snapshots: u32,
    /// Host offset; 0 where there is no snapshot.
    snapshot_table_offset: u64,
    /// Whether there is a backing file.
    backing_file: bool,
    /// Whether the image is encrypted.
    encrypted: bool,
    /// Whether parts of the damaged header were kept.
    kept: bool,
    /// Whether nothing of the virtual disk was found.
    empty: bool,
    /// What only the damaged header recorded, so that this one does not.
    unknown: Vec<Unknown>,
}

/// What only the header of an image records.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum Unknown {
    BackingFile,
    DataFile,
    Aes,
}

impl From<&repair::Unknown> for Unknown {
    fn from(unknown: &repair::Unknown) -> Self {
        match unknown {
            repair::Unknown::BackingFile => Self::BackingFile,
            repair::Unknown::DataFile => Self::DataFile,
            repair::Unknown::Aes => Self::Aes,
        }
    }
}

impl From<&repair::RebuiltHeader> for RebuiltHeader {
    fn from(rebuilt: &repair::RebuiltHeader) -> Self {
        let header = &rebuilt.header;
        Self {
            version: header.version,
            cluster_size: 1 << header.cluster_bits,
            virtual_size: header.size,
            virtual_size_guessed: rebuilt.size_guessed,
            l1_table_offset: header.l1_table.get(),
            l1_entries: header.l1_entries,
            refcount_table_offset: header.reftable.get(),
            refcount_table_clusters: header.reftable_clusters,
            refcount_bits: 1 << header.refcount_order,
            extended_l2: header.has_incompatible(incompatible::EXTENDED_L2),
            snapshots: header.snapshot_count,
            snapshot_table_offset: header.snapshot_table.get(),
            backing_file: header.backing_name_offset != 0,
            encrypted: header.crypt_method != CryptMethod::None,
            kept: rebuilt.kept,
            empty: rebuilt.empty,
            unknown: rebuilt.unknown.iter().map(Unknown::from).collect(),
        }
    }
}
