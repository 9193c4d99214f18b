//! The sector of virtual disks: the unit of QEMU's sizes and accesses, and of the lengths of
//! compressed data (specification, "Compressed Clusters Descriptor").

/// Bytes of a sector. A disk writes a sector whole or not at all.
pub const SECTOR: u64 = 512;
/// Bytes of a sector, as a length in memory.
pub const SECTOR_LEN: usize = 512;
