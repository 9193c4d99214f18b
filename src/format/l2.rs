//! L2 table entries (specification, "Cluster mapping" and "Extended L2 Entries").

use byteorder::{BigEndian, ByteOrder};

use super::addr::{GuestOffset, HostCluster, HostOffset};
use super::geometry::{Geometry, SUBCLUSTERS};
use super::header::Header;
use super::l1::{COPIED, OFFSET_MASK};
use crate::sector::SECTOR;

/// Bit 62: the rest of the entry is a compressed cluster descriptor.
pub const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of a standard entry: the cluster reads as zeroes (version 3, without subclusters).
pub const ZERO: u64 = 1;
/// Bytes of the sectors in which a compressed cluster's length is counted.
pub const SECTOR_BYTES: u64 = SECTOR;

/// One entry of an L2 table with the bitmap that follows it when it is extended; any bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L2Entry {
    /// The first 64 bits.
    pub bits: u64,
    /// The subcluster bitmap: allocated in the low half, zero in the high half. 0 where standard.
    pub bitmap: u64,
}

/// The meaning of an entry for its guest cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing here: the backing file's data, or zeroes. With subclusters, some may be zero.
    Unallocated,
    /// Reads as zeroes without a host cluster.
    Zero,
    /// Reads as zeroes, with a host cluster kept for later.
    ZeroAllocated(HostOffset),
    /// Data in a host cluster; with subclusters, in some of them.
    Data(HostOffset),
    /// Compressed data.
    Compressed(CompressedExtent),
}

/// The position of compressed data: byte-granular, in whole or part of sectors and clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressedExtent {
    /// Host offset of its first byte.
    pub offset: HostOffset,
    /// Bytes up to the end of its last sector: the data may end before that.
    pub bytes: u64,
}

impl L2Entry {
    /// Bits 1 - 8 and 56 - 61 of a standard entry.
    pub const RESERVED: u64 = 0x3F00_0000_0000_01FE;
    /// The low half of the bitmap: allocated subclusters.
    pub const ALLOCATED_SUBCLUSTERS: u64 = u32::MAX as u64;

    /// Decodes an entry of 8 bytes, or of 16 where extended.
    pub fn decode(bytes: &[u8]) -> Self {
        let bitmap = if bytes.len() < 16 { 0 } else { BigEndian::read_u64(&bytes[8..]) };
        Self { bits: BigEndian::read_u64(bytes), bitmap }
    }

    /// Encodes the entry in as many bytes as the image's entries have.
    pub fn encode(self, geometry: &Geometry) -> Vec<u8> {
        let mut bytes = vec![0; geometry.l2_entry_bytes()];
        BigEndian::write_u64(&mut bytes, self.bits);
        if geometry.extended_l2() {
            BigEndian::write_u64(&mut bytes[8..], self.bitmap);
        }
        bytes
    }

    /// The same entry without its cluster.
    #[must_use]
    pub const fn without_cluster(self) -> Self {
        Self { bits: self.bits & !(OFFSET_MASK | COPIED), ..self }
    }

    /// An entry without a cluster that reads as zeroes; version 3 has it.
    pub const fn all_zero(geometry: &Geometry) -> Self {
        if geometry.extended_l2() {
            Self { bits: 0, bitmap: !Self::ALLOCATED_SUBCLUSTERS }
        } else {
            Self::standard(ZERO)
        }
    }

    /// The entry of compressed data of this length at an offset of the file; `None` where the
    /// format cannot have them so far into the file.
    pub const fn compressed(geometry: &Geometry, at: HostOffset, bytes: u64) -> Option<Self> {
        let x = 62 - (geometry.cluster_bits() - 8);
        let additional = (at.get() % SECTOR_BYTES + bytes - 1) / SECTOR_BYTES;
        if at.get() >> x != 0 {
            return None;
        }
        Some(Self::standard(COMPRESSED | additional << x | at.get()))
    }

    /// A standard entry.
    pub const fn standard(bits: u64) -> Self {
        Self { bits, bitmap: 0 }
    }

    /// Whether the entry describes compressed data.
    pub const fn is_compressed(self) -> bool {
        self.bits & COMPRESSED != 0
    }

    /// Whether the COPIED flag is set.
    pub const fn copied(self) -> bool {
        self.bits & COPIED != 0
    }

    /// The host cluster that an entry of an image without an external data file points to, data or
    /// space kept for later; `None` without one, where it is compressed, and where the offset is
    /// inside a cluster.
    pub fn host_cluster(self, geometry: &Geometry) -> Option<HostCluster> {
        match self.meaning(geometry, false) {
            Meaning::Data(at) | Meaning::ZeroAllocated(at) => geometry.cluster_exact(at),
            Meaning::Unallocated | Meaning::Zero | Meaning::Compressed(_) => None,
        }
    }

    /// Host offset of a standard entry; 0 means none unless a data file is used.
    pub const fn offset(self) -> HostOffset {
        HostOffset::new(self.bits & OFFSET_MASK)
    }

    /// Subclusters with data, bit N for subcluster N.
    pub const fn allocated(self) -> u64 {
        self.bitmap & Self::ALLOCATED_SUBCLUSTERS
    }

    /// Subclusters that read as zeroes, bit N for subcluster N.
    pub const fn zero(self) -> u64 {
        self.bitmap >> SUBCLUSTERS
    }

    /// Whether a subcluster is both allocated and zero, which is invalid.
    pub const fn has_conflicting_subclusters(self) -> bool {
        self.allocated() & self.zero() != 0
    }

    /// Whether a standard entry has a reserved bit set. With subclusters bit 0 is reserved too.
    pub const fn has_reserved_bits(self, geometry: &Geometry) -> bool {
        let reserved = if geometry.extended_l2() { Self::RESERVED | ZERO } else { Self::RESERVED };
        !self.is_compressed() && self.bits & reserved != 0
    }

    /// The position of the compressed data of this descriptor (specification, "Compressed Clusters
    /// Descriptor"): x = 62 - (cluster_bits - 8); offset in bits 0 - x-1, number of *additional*
    /// sectors above.
    pub const fn compressed_extent(self, geometry: &Geometry) -> CompressedExtent {
        let x = 62 - (geometry.cluster_bits() - 8);
        let offset = self.bits & ((1 << x) - 1);
        let additional = (self.bits & (COMPRESSED - 1)) >> x;
        CompressedExtent {
            offset: HostOffset::new(offset),
            bytes: (additional + 1) * SECTOR_BYTES - (offset & (SECTOR_BYTES - 1)),
        }
    }

    /// A compressed entry with another number of sectors after the first one.
    pub const fn with_sectors(self, geometry: &Geometry, additional: u64) -> Self {
        let x = 62 - (geometry.cluster_bits() - 8);
        let mask = (COMPRESSED - 1) >> x << x;
        Self { bits: self.bits & !mask | (additional << x) & mask, ..self }
    }

    /// The entry with another host offset: the same flags, and the same length where compressed.
    pub const fn moved(self, geometry: &Geometry, to: HostOffset) -> Self {
        let mask = if self.is_compressed() {
            (1 << (62 - (geometry.cluster_bits() - 8))) - 1
        } else {
            OFFSET_MASK
        };
        Self { bits: self.bits & !mask | to.get(), bitmap: self.bitmap }
    }

    /// Why nothing can be read through the entry of the cluster at a guest offset, in words.
    /// Reserved bits do not matter, as in QEMU.
    pub fn flaw(
        self,
        header: &Header,
        geometry: &Geometry,
        guest: GuestOffset,
    ) -> Option<&'static str> {
        let data_file = header.has_data_file();
        if self.is_compressed() {
            return data_file.then_some("compressed beside an external data file");
        }
        if self.bits & ZERO != 0 && header.version < 3 {
            return Some("a zero flag in version 2");
        }
        if !geometry.is_aligned(self.offset()) {
            return Some("its cluster is not aligned");
        }
        if !data_file && self.bitmap == 0 {
            return None;
        }
        let host = match self.meaning(geometry, data_file) {
            Meaning::Data(host) | Meaning::ZeroAllocated(host) => Some(host),
            _ => None,
        };
        if self.has_conflicting_subclusters() {
            Some("a subcluster is both allocated and zero")
        } else if host.is_none() && self.allocated() != 0 {
            Some("subclusters without a cluster")
        } else if data_file && host.is_some_and(|host| host.get() != guest.get()) {
            Some("its cluster is elsewhere in the external data file")
        } else {
            None
        }
    }

    /// What the entry means. With a data file an offset of 0 counts as allocated when COPIED is
    /// set, as only there host offset 0 is a place for data.
    pub const fn meaning(self, geometry: &Geometry, data_file: bool) -> Meaning {
        if self.is_compressed() {
            return Meaning::Compressed(self.compressed_extent(geometry));
        }
        let offset = self.offset();
        let zero = self.bits & ZERO != 0 && !geometry.extended_l2();
        match (offset.get() != 0, zero) {
            (false, true) => Meaning::Zero,
            (true, true) => Meaning::ZeroAllocated(offset),
            (true, false) => Meaning::Data(offset),
            (false, false) if data_file && self.copied() => Meaning::Data(offset),
            (false, false) => Meaning::Unallocated,
        }
    }
}

/// How many entries of `table` from `index` on go on like `entry`, the one before them: entry N
/// after it has the same bits with an offset `step` bytes further each time. At most `most` are
/// looked at.
pub fn repeats(
    table: &[u8],
    geometry: &Geometry,
    index: usize,
    entry: L2Entry,
    step: u64,
    most: usize,
) -> usize {
    let width = geometry.l2_entry_bytes();
    let rest = table.get(index * width..).unwrap_or_default();
    // An offset that overflows would change the flags.
    let fits = (OFFSET_MASK - entry.offset().get()).checked_div(step).unwrap_or(u64::MAX);
    let most = most.min(usize::try_from(fits).unwrap_or(usize::MAX));
    let mut bits = entry.bits;
    rest.chunks_exact(width)
        .take(most)
        .take_while(|next| {
            bits += step;
            L2Entry::decode(next) == L2Entry { bits, bitmap: entry.bitmap }
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32, extended: bool) -> Geometry {
        Geometry::new(cluster_bits, 4, extended, 0).unwrap()
    }

    #[test]
    fn a_compressed_descriptor_counts_additional_sectors_from_the_start_of_its_first() {
        let g = geometry(16, false); // x = 54
        let entry = L2Entry::standard(COMPRESSED | 1 << 54 | 0x5_0010);
        let extent = CompressedExtent { offset: HostOffset::new(0x5_0010), bytes: 1024 - 16 };
        assert_eq!(entry.meaning(&g, false), Meaning::Compressed(extent));
        let small = geometry(9, false); // x = 61: one bit of sectors
        let entry = L2Entry::standard(COMPRESSED | 1 << 61 | 0x200);
        assert_eq!(entry.compressed_extent(&small).bytes, 1024);
    }

    #[test]
    fn the_zero_flag_is_reserved_with_subclusters() {
        let entry = L2Entry::standard(COPIED | 0x10000 | ZERO);
        let plain = geometry(16, false);
        assert_eq!(entry.meaning(&plain, false), Meaning::ZeroAllocated(HostOffset::new(0x10000)));
        assert!(!entry.has_reserved_bits(&plain));
        assert!(entry.has_reserved_bits(&geometry(16, true)));
    }

    #[test]
    fn entries_repeat_up_to_the_first_that_is_another() {
        let g = geometry(16, false);
        let entries = [1u64, 2, 3, 5, 0, 0].map(|n| if n == 0 { 0 } else { COPIED | n << 16 });
        let table = crate::format::encode_entries(&entries);
        let data = L2Entry::standard(COPIED | 1 << 16);
        assert_eq!(repeats(&table, &g, 1, data, 1 << 16, 9), 2);
        assert_eq!(repeats(&table, &g, 1, data, 1 << 16, 1), 1);
        assert_eq!(repeats(&table, &g, 5, L2Entry::standard(0), 0, 9), 1);
        assert_eq!(repeats(&table, &g, 6, L2Entry::standard(0), 0, 9), 0);
        let last = L2Entry::standard(OFFSET_MASK);
        assert_eq!(repeats(&table, &g, 1, last, 1 << 16, 9), 0);
    }

    #[test]
    fn offset_zero_is_data_only_with_a_data_file_and_copied() {
        let g = geometry(16, false);
        let entry = L2Entry::standard(COPIED);
        assert_eq!(entry.meaning(&g, false), Meaning::Unallocated);
        assert_eq!(entry.meaning(&g, true), Meaning::Data(HostOffset::new(0)));
    }

    #[test]
    fn a_subcluster_both_allocated_and_zero_is_a_conflict() {
        let entry = L2Entry { bits: 0x10000, bitmap: 1 << 33 | 1 << 1 };
        assert!(entry.has_conflicting_subclusters());
        assert!(!L2Entry { bits: 0x10000, bitmap: 1 << 33 | 1 }.has_conflicting_subclusters());
    }
}
