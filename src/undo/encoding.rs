//! The bytes of an undo file: see `docs/undo.md`. All numbers are big-endian.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::sector::{SECTOR, SECTOR_LEN};
use crate::storage::is_zero;

/// Most bytes of the image that one entry with a payload is about.
pub const MAX_CHUNK: u64 = 1 << 20;
/// Where the entries begin: after the header and the two commit slots.
pub const ENTRIES: u64 = 3 * SECTOR;
/// Bytes of an entry without its payload.
pub const ENTRY_BYTES: usize = 64;
/// Bytes of a sector's digest.
pub const SHORT: usize = 8;

const MAGIC: [u8; 8] = *b"QCHKUNDO";
const VERSION: u32 = 1;
/// Bytes that the digest at the end of the header or of a slot covers.
const SEALED: usize = 480;
/// Bytes of an entry that its own digest covers.
const ENTRY_SEALED: usize = ENTRY_BYTES - SHORT;

/// One sector of the undo file.
pub type Sector = [u8; SECTOR_LEN];

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The first bytes of the SHA-256: enough to see that something has changed.
pub fn short(bytes: &[u8]) -> [u8; SHORT] {
    let mut digest = [0; SHORT];
    digest.copy_from_slice(&sha256(bytes)[..SHORT]);
    digest
}

/// The range in whole sectors, cut off at `end`.
pub fn whole_sectors(range: &Range<u64>, end: u64) -> Range<u64> {
    let start = range.start - range.start % SECTOR;
    let stop = range.end.checked_next_multiple_of(SECTOR).unwrap_or(range.end).min(end);
    start.min(stop)..stop
}

fn seal(sector: &mut Sector) {
    let digest = sha256(&sector[..SEALED]);
    sector[SEALED..].copy_from_slice(&digest);
}

fn is_sealed(sector: &Sector) -> bool {
    sector[SEALED..] == sha256(&sector[..SEALED])
}

fn put(sector: &mut [u8], at: usize, bytes: &[u8]) {
    sector[at..at + bytes.len()].copy_from_slice(bytes);
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The first sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The image's length before the first write.
    pub image_bytes: u64,
}

impl Header {
    /// The sector.
    pub fn encode(&self) -> Sector {
        let mut sector = [0; SECTOR_LEN];
        put(&mut sector, 0, &MAGIC);
        put(&mut sector, 8, &VERSION.to_be_bytes());
        put(&mut sector, 16, &self.image_bytes.to_be_bytes());
        seal(&mut sector);
        sector
    }

    /// The header in a sector; what is wrong with it otherwise.
    pub fn decode(sector: &Sector) -> Result<Self, String> {
        if sector[..8] != MAGIC {
            return Err("is not an undo file".into());
        }
        match be32(sector, 8) {
            VERSION => {}
            other => return Err(format!("is an undo file of version {other}, which is not known")),
        }
        if !is_sealed(sector) {
            return Err("is damaged: the digest of its header is wrong".into());
        }
        Ok(Self { image_bytes: be64(sector, 16) })
    }
}

/// How far a repair has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It writes to the image, or was interrupted.
    Repairing,
    /// It has ended, and left the image this long.
    Ended(u64),
}

/// How much of the undo file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The slot with the higher one counts.
    pub sequence: u64,
    /// Length of the undo file up to which everything is on stable storage.
    pub file_bytes: u64,
    /// How far the repair has come.
    pub state: State,
}

impl Commit {
    /// The position of this commit's slot: the two alternate.
    pub const fn place(&self) -> u64 {
        SECTOR + self.sequence % 2 * SECTOR
    }

    /// The slot.
    pub fn encode(&self) -> Sector {
        let mut sector = [0; SECTOR_LEN];
        let (state, image_bytes) = match self.state {
            State::Repairing => (1_u32, 0),
            State::Ended(bytes) => (2, bytes),
        };
        put(&mut sector, 0, &self.sequence.to_be_bytes());
        put(&mut sector, 8, &self.file_bytes.to_be_bytes());
        put(&mut sector, 16, &state.to_be_bytes());
        put(&mut sector, 24, &image_bytes.to_be_bytes());
        seal(&mut sector);
        sector
    }

    /// The commit in a slot; `Ok(None)` where none was made there yet, `Err` where it is damaged.
    pub fn decode(sector: &Sector) -> Result<Option<Self>, ()> {
        if is_zero(sector) {
            return Ok(None);
        }
        let state = match be32(sector, 16) {
            1 => State::Repairing,
            2 => State::Ended(be64(sector, 24)),
            _ => return Err(()),
        };
        let commit = Self { sequence: be64(sector, 0), file_bytes: be64(sector, 8), state };
        if is_sealed(sector) { Ok(Some(commit)) } else { Err(()) }
    }
}

/// What an entry records of its range of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// What was there before the writes of this group.
    Old,
    /// What the check read before the first write. It is still there, unless there is an `Old` too.
    Watched,
    /// What the repair left.
    New,
}

/// One entry; its payload follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub recorded: Recorded,
    /// Everything there is zero, and there is no payload.
    pub zero: bool,
    /// Writes to the places of a higher group began when those to a lower's had been requested.
    pub group: u32,
    /// Where in the image.
    pub offset: u64,
    /// How many bytes of the image.
    pub length: u64,
    /// SHA-256 of the payload; zeroes where there is none.
    pub digest: [u8; 32],
}

impl Entry {
    /// The range of the image.
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length
    }

    /// Length of the payload: the old bytes, or a short digest a sector.
    pub const fn payload_bytes(&self) -> u64 {
        match self.recorded {
            _ if self.zero => 0,
            Recorded::Old => self.length,
            Recorded::Watched | Recorded::New => self.length.div_ceil(SECTOR) * SHORT as u64,
        }
    }

    /// The entry's bytes.
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let kind = match self.recorded {
            Recorded::Old => 1_u32,
            Recorded::Watched => 3,
            Recorded::New => 5,
        } + u32::from(self.zero);
        put(&mut bytes, 0, &kind.to_be_bytes());
        put(&mut bytes, 4, &self.group.to_be_bytes());
        put(&mut bytes, 8, &self.offset.to_be_bytes());
        put(&mut bytes, 16, &self.length.to_be_bytes());
        put(&mut bytes, 24, &self.digest);
        let digest = short(&bytes[..ENTRY_SEALED]);
        put(&mut bytes, ENTRY_SEALED, &digest);
        bytes
    }

    /// The entry in these bytes; `None` where it is damaged or cannot be.
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let kind = be32(bytes, 0);
        let recorded = match kind {
            1 | 2 => Recorded::Old,
            3 | 4 => Recorded::Watched,
            5 | 6 => Recorded::New,
            _ => return None,
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[24..ENTRY_SEALED]);
        let entry = Self {
            recorded,
            zero: kind % 2 == 0,
            group: be32(bytes, 4),
            offset: be64(bytes, 8),
            length: be64(bytes, 16),
            digest,
        };
        let end = entry.offset.checked_add(entry.length)?;
        let possible = end <= i64::MAX.unsigned_abs()
            && entry.offset % SECTOR == 0
            && entry.length > 0
            && (entry.zero || entry.length <= MAX_CHUNK);
        (possible && bytes[ENTRY_SEALED..] == short(&bytes[..ENTRY_SEALED])).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let header = Header { image_bytes: 0x1234_5678_9abc };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        for state in [State::Repairing, State::Ended(77)] {
            let commit = Commit { sequence: 5, file_bytes: 4096, state };
            assert_eq!(Commit::decode(&commit.encode()), Ok(Some(commit)));
        }
        for recorded in [Recorded::Old, Recorded::Watched, Recorded::New] {
            for zero in [false, true] {
                let digest = sha256(b"x");
                let entry = Entry { recorded, zero, group: 3, offset: 1024, length: 700, digest };
                assert_eq!(Entry::decode(&entry.encode()), Some(entry));
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let header = Header { image_bytes: 1 }.encode();
        let commit = Commit { sequence: 1, file_bytes: 2, state: State::Repairing }.encode();
        let (recorded, digest) = (Recorded::Old, [7; 32]);
        let entry = Entry { recorded, zero: false, group: 0, offset: 512, length: 512, digest };
        let entry = entry.encode();
        for bit in 0..512 * 8 {
            let flip = |bytes: &Sector| {
                let mut bytes = *bytes;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert!(Header::decode(&flip(&header)).is_err());
            assert!(Commit::decode(&flip(&commit)).is_err());
            if bit < ENTRY_BYTES * 8 {
                let mut bytes = entry;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Entry::decode(&bytes), None);
            }
        }
    }

    #[test]
    fn digests_are_sha_256() {
        // The first bytes of the digest of "abc" in FIPS 180-2, appendix B.1.
        assert_eq!(short(b"abc"), [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea]);
    }

    #[test]
    fn sectors_are_cut_off_at_the_end_of_the_file() {
        assert_eq!(whole_sectors(&(700..800), 10_000), 512..1024);
        assert_eq!(whole_sectors(&(700..800), 900), 512..900);
        assert!(whole_sectors(&(2000..3000), 900).is_empty());
    }
}
