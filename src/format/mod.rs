//! The qcow2 format: bytes to values and back. No I/O.
//!
//! Decoding is total: any bytes decode, and what is wrong with them is reported as a *defect*, so
//! that the writing engine can refuse what the checker reports.

use byteorder::{BigEndian, ByteOrder};

pub mod addr;
pub mod bitmap;
pub mod crypto;
pub mod geometry;
pub mod header;
pub mod l1;
pub mod l2;
pub mod luks;
pub mod refcount;
pub mod snapshot;

pub use addr::{
    ClusterCount, GuestCluster, GuestOffset, HostCluster, HostOffset, L1Index, L2Index,
    RefblockIndex, ReftableIndex,
};
pub use geometry::Geometry;
pub(crate) use header::rewrite;
pub use header::{drivers, extension, feature, probe};
pub use luks::defects as luks_defects;

/// Decodes a table of 64-bit entries in bulk; a last entry cut short is dropped.
pub fn decode_entries(bytes: &[u8]) -> Vec<u64> {
    let mut entries = vec![0; bytes.len() / 8];
    BigEndian::read_u64_into(&bytes[..entries.len() * 8], &mut entries);
    entries
}

/// Encodes a table of 64-bit entries: the mirror of [`decode_entries`].
pub fn encode_entries(entries: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; entries.len() * 8];
    BigEndian::write_u64_into(entries, &mut bytes);
    bytes
}
