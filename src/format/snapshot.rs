//! The snapshot table (specification, "Snapshots").

use byteorder::{BigEndian, ByteOrder};

use super::addr::HostOffset;

/// Bytes of an entry before its extra data.
pub const SNAPSHOT_HEADER_BYTES: usize = 40;
/// Most snapshots in an image (QEMU's limit).
pub const MAX_SNAPSHOTS: u32 = 65536;
/// Most bytes of extra data of an entry (QEMU's limit).
pub const MAX_EXTRA_BYTES: u32 = 1024;
/// Greatest snapshot table in bytes (QEMU's limit).
pub const MAX_TABLE_BYTES: u64 = 1024 * MAX_SNAPSHOTS as u64;
/// Extra data that a version 3 image must have: VM state size and disk size.
pub const V3_EXTRA_BYTES: u32 = 16;
/// Extra data that has a meaning: the instruction count too.
pub const KNOWN_EXTRA_BYTES: u32 = 24;
/// An instruction count that is not known.
const NO_ICOUNT: u64 = u64::MAX;

/// The part of an entry that has a fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Host offset of the snapshot's L1 table; cluster aligned if valid.
    pub l1_table: HostOffset,
    /// Entries of the snapshot's L1 table.
    pub l1_entries: u32,
    /// Length of the id in bytes.
    pub id_len: u16,
    /// Length of the name in bytes.
    pub name_len: u16,
    /// When it was taken, seconds since 1970.
    pub date_sec: u32,
    /// When it was taken, nanoseconds.
    pub date_nsec: u32,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nsec: u64,
    /// VM state size in bytes, where it fits into 32 bits.
    pub vm_state_bytes: u32,
    /// Length of the extra data in bytes.
    pub extra_len: u32,
}

impl SnapshotHeader {
    /// Decodes the fixed part.
    pub fn decode(b: &[u8; SNAPSHOT_HEADER_BYTES]) -> Self {
        Self {
            l1_table: HostOffset::new(BigEndian::read_u64(b)),
            l1_entries: BigEndian::read_u32(&b[8..]),
            id_len: BigEndian::read_u16(&b[12..]),
            name_len: BigEndian::read_u16(&b[14..]),
            date_sec: BigEndian::read_u32(&b[16..]),
            date_nsec: BigEndian::read_u32(&b[20..]),
            vm_clock_nsec: BigEndian::read_u64(&b[24..]),
            vm_state_bytes: BigEndian::read_u32(&b[32..]),
            extra_len: BigEndian::read_u32(&b[36..]),
        }
    }

    /// The mirror of [`Self::decode`].
    pub fn encode(&self) -> [u8; SNAPSHOT_HEADER_BYTES] {
        let mut b = [0; SNAPSHOT_HEADER_BYTES];
        BigEndian::write_u64(&mut b, self.l1_table.get());
        BigEndian::write_u32(&mut b[8..], self.l1_entries);
        BigEndian::write_u16(&mut b[12..], self.id_len);
        BigEndian::write_u16(&mut b[14..], self.name_len);
        BigEndian::write_u32(&mut b[16..], self.date_sec);
        BigEndian::write_u32(&mut b[20..], self.date_nsec);
        BigEndian::write_u64(&mut b[24..], self.vm_clock_nsec);
        BigEndian::write_u32(&mut b[32..], self.vm_state_bytes);
        BigEndian::write_u32(&mut b[36..], self.extra_len);
        b
    }

    /// Bytes of the entry without padding.
    pub fn entry_bytes(&self) -> u64 {
        SNAPSHOT_HEADER_BYTES as u64
            + u64::from(self.extra_len)
            + u64::from(self.id_len)
            + u64::from(self.name_len)
    }
}

/// One entry of the snapshot table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The fixed part as stored in the file.
    pub header: SnapshotHeader,
    /// The extra data, at most [`MAX_EXTRA_BYTES`] of it; unknown parts are kept verbatim.
    pub extra: Vec<u8>,
    /// Bytes of the extra data, within that limit, that follow in the file and were not loaded:
    /// such an entry is not encoded.
    pub unloaded: u32,
    /// The id; any bytes.
    pub id: Vec<u8>,
    /// The name; any bytes.
    pub name: Vec<u8>,
}

impl SnapshotEntry {
    /// VM state size in bytes: the 64-bit field where there is one.
    pub fn vm_state_bytes(&self) -> u64 {
        match self.extra.get(..8) {
            Some(wide) => BigEndian::read_u64(wide),
            None => u64::from(self.header.vm_state_bytes),
        }
    }

    /// Disk size in bytes, or `None` where the entry does not have it.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.extra.get(8..16).map(BigEndian::read_u64)
    }

    /// Instruction count of record and replay, or `None` where the entry does not have it.
    pub fn icount(&self) -> Option<u64> {
        self.extra.get(16..24).map(BigEndian::read_u64)
    }

    /// The id as text, with invalid UTF-8 replaced.
    pub fn id_text(&self) -> String {
        String::from_utf8_lossy(&self.id).into_owned()
    }

    /// The name as text, with invalid UTF-8 replaced.
    pub fn name_text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Encodes the entry with what it holds of each part, without padding.
    ///
    /// # Panics
    ///
    /// Where extra data was not loaded, since it would be lost.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.unloaded == 0, "an entry is encoded with all of its extra data");
        #[expect(clippy::cast_possible_truncation, reason = "lengths come from fields this wide")]
        let header = SnapshotHeader {
            id_len: self.id.len() as u16,
            name_len: self.name.len() as u16,
            extra_len: self.extra.len() as u32,
            ..self.header
        };
        let mut out = header.encode().to_vec();
        out.extend_from_slice(&self.extra);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.name);
        out
    }

    /// Whether the entry has the extra data that version 3 asks for.
    pub fn is_complete(&self) -> bool {
        self.extra.len() >= V3_EXTRA_BYTES as usize
    }

    /// The entry with the extra data that version 3 asks for, VM state size and disk size, and the
    /// instruction count that QEMU adds to them: not known.
    pub fn completed(mut self, disk_bytes: u64) -> Self {
        if !self.is_complete() {
            let vm_state = self.vm_state_bytes();
            self.extra.clear();
            for word in [vm_state, disk_bytes, NO_ICOUNT] {
                self.extra.extend_from_slice(&word.to_be_bytes());
            }
        }
        self
    }
}

/// Encodes a whole table, each entry padded to 8 bytes.
pub fn encode_table(entries: &[SnapshotEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.resize(out.len().next_multiple_of(8), 0);
        out.extend_from_slice(&entry.encode());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> SnapshotEntry {
        let mut extra = vec![0; 24];
        extra[7] = 9;
        extra[14] = 2;
        let header = SnapshotHeader {
            l1_table: HostOffset::new(0x30000),
            l1_entries: 4,
            id_len: 1,
            name_len: 5,
            date_sec: 7,
            date_nsec: 8,
            vm_clock_nsec: 1 << 40,
            vm_state_bytes: 3,
            extra_len: 24,
        };
        SnapshotEntry { header, extra, unloaded: 0, id: b"1".into(), name: b"first".into() }
    }

    #[test]
    fn the_fixed_part_survives_encoding_and_decoding() {
        let header = entry().header;
        assert_eq!(SnapshotHeader::decode(&header.encode()), header);
    }

    #[test]
    fn extra_data_overrides_the_narrow_vm_state_size() {
        assert_eq!(entry().vm_state_bytes(), 9);
        assert_eq!(entry().disk_bytes(), Some(512));
        let narrow = SnapshotEntry { extra: vec![], ..entry() };
        assert_eq!((narrow.vm_state_bytes(), narrow.disk_bytes()), (3, None));
        let complete = narrow.completed(1024);
        assert_eq!((complete.vm_state_bytes(), complete.disk_bytes()), (3, Some(1024)));
    }

    #[test]
    fn entries_of_a_table_begin_at_multiples_of_eight() {
        let table = encode_table(&[entry(), entry()]);
        assert_eq!(table.len(), 72 + 70);
        assert_eq!(&table[64..70], b"1first");
    }
}
