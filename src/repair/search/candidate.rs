//! A header that may be the right one, and the bytes that it would be.

use super::basis::Names;
use super::remains::Remains;
use crate::format::bitmap::BitmapsExtension;
use crate::format::crypto::{CRYPTO_POINTER_BYTES, CryptMethod, CryptoHeader};
use crate::format::extension::{self, encode_extension};
use crate::format::header::{Header, HeaderField, MAGIC, encode_field};
use crate::format::{HostOffset, encode_entries};
use crate::sector::SECTOR_LEN;

/// Bytes of a header that nothing is left of: version 3 with the compression type.
const NEW_HEADER_BYTES: u32 = 112;

/// A header that may be the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its fields.
    pub header: Header,
    /// The encryption header, where extensions are rewritten.
    pub crypto: Option<CryptoHeader>,
    /// The bitmaps, where extensions are rewritten.
    pub bitmaps: Option<BitmapsExtension>,
    /// The files to name, where nothing of the old header is left.
    pub names: Names,
    /// Whether what is there is kept but for the fields.
    pub kept: bool,
    /// The file's length at least, for tables that are nothing but zeroes yet.
    pub least_bytes: u64,
}

impl Candidate {
    /// The first bytes of the file with this header in it.
    pub fn head(&self, remains: &Remains) -> Vec<u8> {
        if self.kept {
            return patched(&remains.bytes[..SECTOR_LEN], &self.header);
        }
        let mut header = self.header.clone();
        let mut extensions = self.extensions();
        if let Some((name, _)) = &self.names.backing {
            header.backing_name_offset = u64::from(header.header_length) + extensions.len() as u64;
            header.backing_name_len = u32::try_from(name.len()).unwrap_or(u32::MAX);
            extensions.extend_from_slice(name.as_bytes());
        }
        let mut head = header.encode();
        head.append(&mut extensions);
        head.resize(head.len().next_multiple_of(SECTOR_LEN), 0);
        head
    }

    /// The extensions of a header that nothing is left of, with the end mark.
    fn extensions(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(crypto) = &self.crypto {
            encode_extension(&mut out, extension::CRYPTO, &crypto_data(crypto));
        }
        if let Some(bitmaps) = &self.bitmaps {
            encode_extension(&mut out, extension::BITMAPS, &bitmaps.encode());
        }
        if let Some((_, format)) = &self.names.backing {
            encode_extension(&mut out, extension::BACKING_FORMAT, format.as_bytes());
        }
        if let Some(name) = &self.names.data_file {
            encode_extension(&mut out, extension::DATA_FILE, name.as_bytes());
        }
        encode_extension(&mut out, extension::END, &[]);
        out
    }
}

fn crypto_data(crypto: &CryptoHeader) -> Vec<u8> {
    let data = encode_entries(&[crypto.offset.get(), crypto.length]);
    debug_assert_eq!(data.len(), CRYPTO_POINTER_BYTES, "two numbers");
    data
}

/// The fields of a header that nothing is left of.
pub fn blank() -> Header {
    Header {
        version: 3,
        backing_name_offset: 0,
        backing_name_len: 0,
        cluster_bits: 16,
        size: 0,
        crypt_method: CryptMethod::None,
        l1_entries: 0,
        l1_table: HostOffset::new(0),
        reftable: HostOffset::new(0),
        reftable_clusters: 0,
        snapshot_count: 0,
        snapshot_table: HostOffset::new(0),
        incompatible: 0,
        compatible: 0,
        autoclear: 0,
        refcount_order: 4,
        header_length: NEW_HEADER_BYTES,
        compression_type: 0,
    }
}

/// The old bytes with the fields that are not as they should be.
fn patched(old: &[u8], header: &Header) -> Vec<u8> {
    let mut head = old.to_vec();
    head[..4].copy_from_slice(&MAGIC.to_be_bytes());
    head[4..8].copy_from_slice(&header.version.to_be_bytes());
    for (field, value) in fields(header) {
        let (at, width) = field.place();
        let at = usize::try_from(at).unwrap_or(0);
        head[at..at + width].copy_from_slice(&encode_field(field, value));
    }
    head
}

/// The fields that a search may change.
fn fields(header: &Header) -> Vec<(HeaderField, u64)> {
    let mut fields = vec![
        (HeaderField::ClusterBits, u64::from(header.cluster_bits)),
        (HeaderField::Size, header.size),
        (HeaderField::L1Entries, u64::from(header.l1_entries)),
        (HeaderField::L1Offset, header.l1_table.get()),
        (HeaderField::ReftableOffset, header.reftable.get()),
        (HeaderField::ReftableClusters, u64::from(header.reftable_clusters)),
        (HeaderField::SnapshotCount, u64::from(header.snapshot_count)),
        (HeaderField::SnapshotTableOffset, header.snapshot_table.get()),
    ];
    if header.version >= 3 {
        fields.extend([
            (HeaderField::Incompatible, header.incompatible),
            (HeaderField::Autoclear, header.autoclear),
            (HeaderField::RefcountOrder, u64::from(header.refcount_order)),
            (HeaderField::HeaderLength, u64::from(header.header_length)),
        ]);
    }
    fields
}
