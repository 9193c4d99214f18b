//! The header's fields with their values (specification, "Header").

use byteorder::{BigEndian, ByteOrder};

use super::feature::{compatible, incompatible};
use crate::format::addr::HostOffset;
use crate::format::crypto::CryptMethod;
use crate::format::geometry::{Geometry, GeometryError};

/// The first four bytes: "QFI" and 0xFB.
pub const MAGIC: u32 = 0x5146_49FB;
/// Length of a version 2 header in bytes.
pub const V2_BYTES: usize = 72;
/// Least length of a version 3 header in bytes.
pub const V3_BYTES: usize = 104;
/// Length of a version 3 header that has the compression type, padded to 8.
pub const V3_BYTES_WITH_COMPRESSION: usize = 112;
/// Longest name of a backing file in bytes (specification).
pub const MAX_BACKING_NAME_BYTES: u32 = 1023;

/// The values of the header's fields, as stored in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3; others decode too.
    pub version: u32,
    /// Host offset of the backing file's name; 0 means none.
    pub backing_name_offset: u64,
    /// Length of the backing file's name in bytes.
    pub backing_name_len: u32,
    /// log2 of the cluster size.
    pub cluster_bits: u32,
    /// Virtual size in bytes.
    pub size: u64,
    /// Encryption method.
    pub crypt_method: CryptMethod,
    /// Entries of the active L1 table.
    pub l1_entries: u32,
    /// Host offset of the active L1 table.
    pub l1_table: HostOffset,
    /// Host offset of the refcount table.
    pub reftable: HostOffset,
    /// Clusters of the refcount table.
    pub reftable_clusters: u32,
    /// How many snapshots there are.
    pub snapshot_count: u32,
    /// Host offset of the snapshot table.
    pub snapshot_table: HostOffset,
    /// Incompatible feature bits; 0 in version 2.
    pub incompatible: u64,
    /// Compatible feature bits; 0 in version 2.
    pub compatible: u64,
    /// Autoclear feature bits; 0 in version 2.
    pub autoclear: u64,
    /// log2 of the refcount width; 4 in version 2.
    pub refcount_order: u32,
    /// Length of the header in bytes; 72 in version 2.
    pub header_length: u32,
    /// Compression type: 0 zlib, 1 zstd; 0 where the header is too short to have one.
    pub compression_type: u8,
}

/// Bytes that are not a header at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The magic number is missing.
    NoMagic,
    /// The file ends inside the header.
    TooShort,
}

impl Header {
    /// Decodes the first bytes of a file; further bytes do no harm. Any values decode.
    pub fn decode(b: &[u8]) -> Result<Self, HeaderError> {
        if b.len() < 4 || BigEndian::read_u32(b) != MAGIC {
            return Err(HeaderError::NoMagic);
        }
        if b.len() < V2_BYTES {
            return Err(HeaderError::TooShort);
        }
        let mut header = Self {
            version: BigEndian::read_u32(&b[4..]),
            backing_name_offset: BigEndian::read_u64(&b[8..]),
            backing_name_len: BigEndian::read_u32(&b[16..]),
            cluster_bits: BigEndian::read_u32(&b[20..]),
            size: BigEndian::read_u64(&b[24..]),
            crypt_method: CryptMethod::decode(BigEndian::read_u32(&b[32..])),
            l1_entries: BigEndian::read_u32(&b[36..]),
            l1_table: HostOffset::new(BigEndian::read_u64(&b[40..])),
            reftable: HostOffset::new(BigEndian::read_u64(&b[48..])),
            reftable_clusters: BigEndian::read_u32(&b[56..]),
            snapshot_count: BigEndian::read_u32(&b[60..]),
            snapshot_table: HostOffset::new(BigEndian::read_u64(&b[64..])),
            incompatible: 0,
            compatible: 0,
            autoclear: 0,
            refcount_order: 4,
            header_length: 72,
            compression_type: 0,
        };
        if header.version < 3 {
            return Ok(header);
        }
        if b.len() < V3_BYTES {
            return Err(HeaderError::TooShort);
        }
        header.incompatible = BigEndian::read_u64(&b[72..]);
        header.compatible = BigEndian::read_u64(&b[80..]);
        header.autoclear = BigEndian::read_u64(&b[88..]);
        header.refcount_order = BigEndian::read_u32(&b[96..]);
        header.header_length = BigEndian::read_u32(&b[100..]);
        if header.header_length as usize > V3_BYTES {
            header.compression_type = b.get(V3_BYTES).copied().unwrap_or(0);
        }
        Ok(header)
    }

    /// The bytes of a new image's header: the mirror of [`Self::decode`], for `create` alone. A
    /// header that is already in a file is patched by [`HeaderField`](super::HeaderField), never
    /// written back.
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; self.header_length as usize];
        BigEndian::write_u32(&mut b, MAGIC);
        BigEndian::write_u32(&mut b[4..], self.version);
        BigEndian::write_u64(&mut b[8..], self.backing_name_offset);
        BigEndian::write_u32(&mut b[16..], self.backing_name_len);
        BigEndian::write_u32(&mut b[20..], self.cluster_bits);
        BigEndian::write_u64(&mut b[24..], self.size);
        let crypt_method = match self.crypt_method {
            CryptMethod::None => 0,
            CryptMethod::Aes => 1,
            CryptMethod::Luks => 2,
            CryptMethod::Unknown(other) => other,
        };
        BigEndian::write_u32(&mut b[32..], crypt_method);
        BigEndian::write_u32(&mut b[36..], self.l1_entries);
        BigEndian::write_u64(&mut b[40..], self.l1_table.get());
        BigEndian::write_u64(&mut b[48..], self.reftable.get());
        BigEndian::write_u32(&mut b[56..], self.reftable_clusters);
        BigEndian::write_u32(&mut b[60..], self.snapshot_count);
        BigEndian::write_u64(&mut b[64..], self.snapshot_table.get());
        if self.version < 3 {
            return b;
        }
        BigEndian::write_u64(&mut b[72..], self.incompatible);
        BigEndian::write_u64(&mut b[80..], self.compatible);
        BigEndian::write_u64(&mut b[88..], self.autoclear);
        BigEndian::write_u32(&mut b[96..], self.refcount_order);
        BigEndian::write_u32(&mut b[100..], self.header_length);
        if let Some(compression) = b.get_mut(V3_BYTES) {
            *compression = self.compression_type;
        }
        b
    }

    /// The geometry that the header gives, where its fields are in range.
    pub const fn geometry(&self) -> Result<Geometry, GeometryError> {
        let extended_l2 = self.has_incompatible(incompatible::EXTENDED_L2);
        Geometry::new(self.cluster_bits, self.refcount_order, extended_l2, self.size)
    }

    /// Whether any of these incompatible bits is set.
    pub const fn has_incompatible(&self, bits: u64) -> bool {
        self.incompatible & bits != 0
    }

    /// Whether guest data is in an external data file.
    pub const fn has_data_file(&self) -> bool {
        self.has_incompatible(incompatible::DATA_FILE)
    }

    /// Whether refcount updates may be postponed.
    pub const fn has_lazy_refcounts(&self) -> bool {
        self.compatible & compatible::LAZY_REFCOUNTS != 0
    }

    /// Where header extensions end: at the backing file's name, or at the end of the first cluster.
    pub const fn extensions_end(&self) -> u64 {
        if self.backing_name_offset != 0 {
            self.backing_name_offset
        } else {
            1 << self.cluster_bits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header that `qemu-img create -f qcow2 x 10M` (10.0.2) writes.
    fn golden() -> Vec<u8> {
        let mut b = vec![0; 112];
        b[..8].copy_from_slice(&[0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3]);
        b[23] = 16;
        b[29] = 0xA0;
        b[39] = 1;
        b[45] = 3;
        b[53] = 1;
        b[59] = 1;
        b[99] = 4;
        b[103] = 112;
        b
    }

    #[test]
    fn a_header_of_qemu_decodes_and_encodes_to_the_same_bytes() {
        let header = Header::decode(&golden()).unwrap();
        assert_eq!((header.size, header.cluster_bits), (10 << 20, 16));
        assert_eq!((header.l1_table.get(), header.l1_entries), (0x30000, 1));
        assert_eq!((header.reftable.get(), header.reftable_clusters), (0x10000, 1));
        assert_eq!(header.encode(), golden());
    }

    #[test]
    fn version_2_has_the_defaults_of_the_specification() {
        let mut bytes = golden();
        bytes[7] = 2;
        let header = Header::decode(&bytes[..72]).unwrap();
        assert_eq!((header.refcount_order, header.header_length, header.incompatible), (4, 72, 0));
        assert_eq!(header.encode().len(), 72);
    }

    #[test]
    fn other_bytes_are_not_a_header() {
        assert_eq!(Header::decode(b"QFI"), Err(HeaderError::NoMagic));
        assert_eq!(Header::decode(&golden()[..100]), Err(HeaderError::TooShort));
        assert_eq!(Header::decode(&[0; 512]), Err(HeaderError::NoMagic));
    }
}
