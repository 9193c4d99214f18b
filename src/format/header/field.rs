//! A field of the header: its name, its place, and its bytes.

use byteorder::{BigEndian, ByteOrder};

/// A field of the header, for patching it in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderField {
    /// Host offset of the backing file's name.
    BackingNameOffset,
    /// Length of the backing file's name.
    BackingNameLength,
    /// log2 of the cluster size.
    ClusterBits,
    /// Virtual size in bytes.
    Size,
    /// Encryption method.
    CryptMethod,
    /// Entries of the active L1 table.
    L1Entries,
    /// Host offset of the active L1 table.
    L1Offset,
    /// Host offset of the refcount table.
    ReftableOffset,
    /// Clusters of the refcount table.
    ReftableClusters,
    /// How many snapshots there are.
    SnapshotCount,
    /// Host offset of the snapshot table.
    SnapshotTableOffset,
    /// Incompatible feature bits.
    Incompatible,
    /// Compatible feature bits.
    Compatible,
    /// Autoclear feature bits.
    Autoclear,
    /// log2 of the refcount width.
    RefcountOrder,
    /// Length of the header.
    HeaderLength,
    /// Compression type.
    CompressionType,
}

impl HeaderField {
    /// All fields after magic and version, in file order.
    pub const ALL: [Self; 17] = [
        Self::BackingNameOffset,
        Self::BackingNameLength,
        Self::ClusterBits,
        Self::Size,
        Self::CryptMethod,
        Self::L1Entries,
        Self::L1Offset,
        Self::ReftableOffset,
        Self::ReftableClusters,
        Self::SnapshotCount,
        Self::SnapshotTableOffset,
        Self::Incompatible,
        Self::Compatible,
        Self::Autoclear,
        Self::RefcountOrder,
        Self::HeaderLength,
        Self::CompressionType,
    ];

    /// The name in the specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BackingNameOffset => "backing_file_offset",
            Self::BackingNameLength => "backing_file_size",
            Self::ClusterBits => "cluster_bits",
            Self::Size => "size",
            Self::CryptMethod => "crypt_method",
            Self::L1Entries => "l1_size",
            Self::L1Offset => "l1_table_offset",
            Self::ReftableOffset => "refcount_table_offset",
            Self::ReftableClusters => "refcount_table_clusters",
            Self::SnapshotCount => "nb_snapshots",
            Self::SnapshotTableOffset => "snapshots_offset",
            Self::Incompatible => "incompatible_features",
            Self::Compatible => "compatible_features",
            Self::Autoclear => "autoclear_features",
            Self::RefcountOrder => "refcount_order",
            Self::HeaderLength => "header_length",
            Self::CompressionType => "compression_type",
        }
    }

    /// Offset in the file and width, in bytes.
    pub const fn place(self) -> (u64, usize) {
        match self {
            Self::BackingNameOffset => (8, 8),
            Self::BackingNameLength => (16, 4),
            Self::ClusterBits => (20, 4),
            Self::Size => (24, 8),
            Self::CryptMethod => (32, 4),
            Self::L1Entries => (36, 4),
            Self::L1Offset => (40, 8),
            Self::ReftableOffset => (48, 8),
            Self::ReftableClusters => (56, 4),
            Self::SnapshotCount => (60, 4),
            Self::SnapshotTableOffset => (64, 8),
            Self::Incompatible => (72, 8),
            Self::Compatible => (80, 8),
            Self::Autoclear => (88, 8),
            Self::RefcountOrder => (96, 4),
            Self::HeaderLength => (100, 4),
            Self::CompressionType => (104, 1),
        }
    }
}

/// The number of up to 8 bytes at this place of the file's first bytes; 0 where they end before it
/// does.
pub fn read_field(bytes: &[u8], offset: u64, width: usize) -> u64 {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(width.min(8));
    bytes.get(start..end).map_or(0, |field| BigEndian::read_uint(field, field.len()))
}

/// A feature bit field, a count or an offset encoded for a [`HeaderField`] of this width.
pub fn encode_field(field: HeaderField, value: u64) -> Vec<u8> {
    let (_, width) = field.place();
    value.to_be_bytes()[8 - width..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_encoded_in_its_own_width() {
        assert_eq!(encode_field(HeaderField::L1Entries, 0x102), [0, 0, 1, 2]);
        assert_eq!(encode_field(HeaderField::CompressionType, 1), [1]);
    }
}
