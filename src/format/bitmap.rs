//! Persistent dirty bitmaps (specification, "Bitmaps").

use byteorder::{BigEndian, ByteOrder};

use super::addr::HostOffset;
use super::geometry::Geometry;

/// Bytes of the bitmaps extension.
pub const BITMAPS_EXTENSION_BYTES: usize = 24;
/// Most bitmaps in an image (QEMU's limit).
pub const MAX_BITMAPS: u32 = 65535;
/// Greatest bitmap directory in bytes (QEMU's limit: 1024 for each bitmap).
pub const MAX_DIRECTORY_BYTES: u64 = 1024 * MAX_BITMAPS as u64;
/// Bytes of a directory entry without its extra data and name.
pub const DIRECTORY_ENTRY_BYTES: usize = 24;
/// Most entries of a bitmap table (QEMU's limit).
pub const MAX_TABLE_ENTRIES: u32 = 0x800_0000;
/// Most bytes of the data of one bitmap (QEMU's limit).
pub const MAX_DATA_BYTES: u64 = 0x2000_0000;
/// Longest name in bytes (QEMU's limit).
pub const MAX_NAME_BYTES: u16 = 1023;
/// Smallest granularity as a power of two.
pub const MIN_GRANULARITY_BITS: u8 = 9;
/// Greatest granularity as a power of two.
pub const MAX_GRANULARITY_BITS: u8 = 31;
/// The only type of bitmap: dirty tracking.
pub const TYPE_DIRTY_TRACKING: u8 = 1;

/// The bitmaps extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapsExtension {
    /// How many bitmaps the directory has.
    pub count: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Length of the directory in bytes.
    pub directory_bytes: u64,
    /// Host offset of the directory; cluster aligned if valid.
    pub directory: HostOffset,
}

impl BitmapsExtension {
    /// Decodes the extension's data; `None` where it has another length than 24 bytes.
    pub fn decode(data: &[u8]) -> Option<Self> {
        (data.len() == BITMAPS_EXTENSION_BYTES).then(|| Self {
            count: BigEndian::read_u32(data),
            reserved: BigEndian::read_u32(&data[4..]),
            directory_bytes: BigEndian::read_u64(&data[8..]),
            directory: HostOffset::new(BigEndian::read_u64(&data[16..])),
        })
    }

    /// The extension's data.
    pub fn encode(&self) -> [u8; BITMAPS_EXTENSION_BYTES] {
        let mut data = [0; BITMAPS_EXTENSION_BYTES];
        BigEndian::write_u32(&mut data, self.count);
        BigEndian::write_u32(&mut data[4..], self.reserved);
        BigEndian::write_u64(&mut data[8..], self.directory_bytes);
        BigEndian::write_u64(&mut data[16..], self.directory.get());
        data
    }
}

/// Flags of a directory entry.
pub mod flag {
    /// The bitmap was not stored when the image was last closed; its data is stale.
    pub const IN_USE: u32 = 1 << 0;
    /// The bitmap records writes.
    pub const AUTO: u32 = 1 << 1;
    /// The bitmap may be used though its extra data is not understood.
    pub const EXTRA_DATA_COMPATIBLE: u32 = 1 << 2;
    /// All others are reserved.
    pub const RESERVED: u32 = !(IN_USE | AUTO | EXTRA_DATA_COMPATIBLE);
}

/// One entry of the bitmap directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitmapEntry {
    /// Host offset of the bitmap table; cluster aligned if valid.
    pub table: HostOffset,
    /// Entries of the bitmap table.
    pub table_entries: u32,
    /// See [`flag`].
    pub flags: u32,
    /// 1: dirty tracking.
    pub kind: u8,
    /// log2 of the guest bytes for each bit.
    pub granularity_bits: u8,
    /// Kept verbatim.
    pub extra: Vec<u8>,
    /// Any bytes.
    pub name: Vec<u8>,
}

/// The directory ends in the middle of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated;

impl BitmapEntry {
    /// Decodes the entry at the start of `bytes`; returns it and its length with padding.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Truncated> {
        let fixed = bytes.get(..DIRECTORY_ENTRY_BYTES).ok_or(Truncated)?;
        let name_len = usize::from(BigEndian::read_u16(&fixed[18..]));
        let extra_len = BigEndian::read_u32(&fixed[20..]) as usize;
        let rest = &bytes[DIRECTORY_ENTRY_BYTES..];
        let extra = rest.get(..extra_len).ok_or(Truncated)?;
        let name = rest.get(extra_len..extra_len + name_len).ok_or(Truncated)?;
        let length = (DIRECTORY_ENTRY_BYTES + extra_len + name_len).next_multiple_of(8);
        let entry = Self {
            table: HostOffset::new(BigEndian::read_u64(fixed)),
            table_entries: BigEndian::read_u32(&fixed[8..]),
            flags: BigEndian::read_u32(&fixed[12..]),
            kind: fixed[16],
            granularity_bits: fixed[17],
            extra: extra.to_vec(),
            name: name.to_vec(),
        };
        if length > bytes.len() { Err(Truncated) } else { Ok((entry, length)) }
    }

    /// Appends the entry with its padding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; DIRECTORY_ENTRY_BYTES];
        BigEndian::write_u64(&mut fixed, self.table.get());
        BigEndian::write_u32(&mut fixed[8..], self.table_entries);
        BigEndian::write_u32(&mut fixed[12..], self.flags);
        fixed[16] = self.kind;
        fixed[17] = self.granularity_bits;
        let name_len = u16::try_from(self.name.len()).unwrap_or(u16::MAX);
        BigEndian::write_u16(&mut fixed[18..], name_len);
        let extra_len = u32::try_from(self.extra.len()).unwrap_or(u32::MAX);
        BigEndian::write_u32(&mut fixed[20..], extra_len);
        out.extend_from_slice(&fixed);
        out.extend_from_slice(&self.extra);
        out.extend_from_slice(&self.name);
        out.resize(out.len().next_multiple_of(8), 0);
    }

    /// Its length in the directory, with padding.
    pub fn entry_bytes(&self) -> u64 {
        let bytes = DIRECTORY_ENTRY_BYTES + self.extra.len() + self.name.len();
        bytes.next_multiple_of(8) as u64
    }

    /// How many bits it has for a disk of this size.
    pub fn bits_for(&self, disk_bytes: u64) -> u64 {
        disk_bytes.div_ceil(1 << self.granularity_bits.min(MAX_GRANULARITY_BITS))
    }

    /// The name as text, with invalid UTF-8 replaced.
    pub fn name_text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Whether it was not stored when the image was last closed.
    pub const fn is_in_use(&self) -> bool {
        self.flags & flag::IN_USE != 0
    }

    /// Whether it records writes.
    pub const fn is_recording(&self) -> bool {
        self.flags & flag::AUTO != 0
    }

    /// The table entries that a disk of the geometry's virtual size needs. QEMU stores a bitmap in
    /// whole 64-bit words.
    pub fn table_entries_for(&self, geometry: &Geometry) -> u64 {
        let bits = self.bits_for(geometry.virtual_size());
        (bits.div_ceil(64) * 8).div_ceil(geometry.cluster_bytes())
    }

    /// Whether QEMU's limits allow a bitmap of this granularity for a disk of the geometry's
    /// virtual size.
    pub fn is_within_limits(&self, geometry: &Geometry) -> bool {
        let entries = self.table_entries_for(geometry);
        entries <= u64::from(MAX_TABLE_ENTRIES)
            && entries.saturating_mul(geometry.cluster_bytes()) <= MAX_DATA_BYTES
    }

    /// What is wrong with this entry for a disk of the geometry's virtual size.
    pub fn defects(&self, geometry: &Geometry) -> Vec<&'static str> {
        let data_bytes = u64::from(self.table_entries).saturating_mul(geometry.cluster_bytes());
        let sound_granularity =
            (MIN_GRANULARITY_BITS..=MAX_GRANULARITY_BITS).contains(&self.granularity_bits);
        let covered =
            (u128::from(data_bytes) * 8) << self.granularity_bits.min(MAX_GRANULARITY_BITS);
        [
            (self.table_entries == 0, "its table is empty"),
            (self.table_entries > MAX_TABLE_ENTRIES, "its table is too large"),
            (self.table.get() == 0, "its table has no offset"),
            (!geometry.is_aligned(self.table), "its table is not cluster aligned"),
            (self.flags & flag::RESERVED != 0, "it has reserved flags set"),
            (
                self.flags & flag::EXTRA_DATA_COMPATIBLE != 0,
                "it has the flag for extra data set, which QEMU does not support",
            ),
            (self.kind != TYPE_DIRTY_TRACKING, "its type is unknown"),
            (!sound_granularity, "its granularity is out of range"),
            (self.name.is_empty(), "its name is empty"),
            (self.name.contains(&0), "its name has a zero byte, which ends it for QEMU"),
            (self.name.len() > usize::from(MAX_NAME_BYTES), "its name is too long"),
            (!self.extra.is_empty(), "it has extra data that is not known"),
            (data_bytes > MAX_DATA_BYTES, "its data is too large"),
            (
                sound_granularity
                    && self.flags & flag::IN_USE == 0
                    && covered < u128::from(geometry.virtual_size()),
                "its table is too short for the disk",
            ),
            (
                sound_granularity
                    && self.flags & flag::IN_USE == 0
                    && u64::from(self.table_entries) > self.table_entries_for(geometry),
                "its table is too long for the disk",
            ),
        ]
        .into_iter()
        .filter_map(|(wrong, what)| wrong.then_some(what))
        .collect()
    }
}

/// One entry of a bitmap table; any bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapTableEntry(pub u64);

impl BitmapTableEntry {
    const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
    const ALL_ONES: u64 = 1;
    const RESERVED: u64 = 0xFF00_0000_0000_01FE;

    /// The entry for a cluster of these bits where all are alike, so that it needs no data.
    pub fn of_alike(bits: &[u8]) -> Option<Self> {
        let &first = bits.first()?;
        let entry = match first {
            0 => Self(0),
            0xFF => Self(Self::ALL_ONES),
            _ => return None,
        };
        bits.iter().all(|&byte| byte == first).then_some(entry)
    }

    /// Host offset of the bitmap data cluster, or `None` where all bits are alike.
    pub const fn data(self) -> Option<HostOffset> {
        match self.0 & Self::OFFSET {
            0 => None,
            offset => Some(HostOffset::new(offset)),
        }
    }

    /// Whether there is no data cluster and all bits are ones.
    pub const fn is_all_ones(self) -> bool {
        self.data().is_none() && self.0 & Self::ALL_ONES != 0
    }

    /// Whether the entry breaks the specification.
    pub fn is_broken(self, geometry: &Geometry) -> bool {
        self.0 & Self::RESERVED != 0
            || self
                .data()
                .is_some_and(|at| self.0 & Self::ALL_ONES != 0 || !geometry.is_aligned(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_bytes() -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes[5] = 1; // table at 0x10000
        bytes[11] = 1; // one entry
        bytes[15] = 2; // auto
        bytes[16] = 1; // dirty tracking
        bytes[17] = 16; // 64 KiB
        bytes[19] = 3; // name length
        bytes[24..27].copy_from_slice(b"day");
        bytes
    }

    #[test]
    fn a_directory_entry_decodes_with_its_padding() {
        let (entry, length) = BitmapEntry::decode(&entry_bytes()).unwrap();
        assert_eq!((entry.table, length), (HostOffset::new(0x10000), 32));
        assert_eq!(entry.name, b"day");
        let mut encoded = Vec::new();
        entry.encode(&mut encoded);
        assert_eq!(encoded, entry_bytes());
        let geometry = Geometry::new(16, 4, false, 1 << 30).unwrap();
        assert!(entry.defects(&geometry).is_empty());
    }

    #[test]
    fn an_entry_cut_short_is_distinguished_from_a_whole_one() {
        assert_eq!(BitmapEntry::decode(&entry_bytes()[..26]), Err(Truncated));
        assert_eq!(BitmapEntry::decode(&[0; 8]), Err(Truncated));
    }

    #[test]
    fn bits_that_are_all_alike_need_no_data() {
        assert_eq!(BitmapTableEntry::of_alike(&[0; 9]), Some(BitmapTableEntry(0)));
        assert!(BitmapTableEntry::of_alike(&[0xFF; 9]).is_some_and(BitmapTableEntry::is_all_ones));
        assert_eq!(BitmapTableEntry::of_alike(&[0xFF, 0xFE]), None);
        assert_eq!(BitmapTableEntry::of_alike(&[7; 9]), None);
    }

    #[test]
    fn all_ones_beside_an_offset_is_broken() {
        let geometry = Geometry::new(16, 4, false, 0).unwrap();
        assert!(BitmapTableEntry(0x10001).is_broken(&geometry));
        assert!(!BitmapTableEntry(1).is_broken(&geometry));
        assert!(BitmapTableEntry(0x200).is_broken(&geometry));
    }
}
