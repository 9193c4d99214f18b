//! What can still be read of a damaged header.

use crate::error::{Error, Result};
use crate::format::bitmap::BitmapsExtension;
use crate::format::extension::EXTENSION_HEADER_BYTES;
use crate::format::feature::{autoclear, incompatible};
use crate::format::geometry::{MAX_CLUSTER_BITS, MAX_REFCOUNT_ORDER, MIN_CLUSTER_BITS};
use crate::format::header::{
    Header, MAGIC, MAX_BACKING_NAME_BYTES, V2_BYTES, V3_BYTES, V3_BYTES_WITH_COMPRESSION,
};
use crate::format::l1::MAX_L1_BYTES;
use crate::sector::SECTOR_LEN;
use crate::storage::{ReadAt, is_zero};
use crate::tables::BitmapDirectory;

/// Bytes of the data of a bitmaps extension.
const BITMAPS_BYTES: usize = 24;

/// The beginning of the file.
#[derive(Debug)]
pub struct Remains {
    /// The bytes, up to the size of the largest cluster.
    pub bytes: Vec<u8>,
    /// The fields, where enough of them make sense; those that do not are set right or cleared.
    pub header: Option<Header>,
    /// Offset and length of what seems to be the backing file's name after the first sector.
    pub backing: Option<(u64, u32)>,
    /// Bitmaps, where the data of their extension is left.
    pub bitmaps: Option<BitmapsExtension>,
}

impl Remains {
    /// Reads them.
    pub fn read(source: &dyn ReadAt) -> Result<Self> {
        let failed = |e| Error::io("read the header", 0, e);
        let file_bytes = source.len().map_err(failed)?;
        let mut bytes = vec![0; 1 << MAX_CLUSTER_BITS];
        source.read_padded_at(0, &mut bytes).map_err(failed)?;
        let header = fields(&bytes, file_bytes);
        let (mut backing, mut bitmaps) = (None, None);
        if header.is_none() {
            backing = name(&bytes);
            bitmaps = bitmaps_in(source, &bytes[SECTOR_LEN..4 * SECTOR_LEN]);
        }
        Ok(Self { bytes, header, backing, bitmaps })
    }
}

/// The fields, where four of six that can be checked by themselves are in range.
fn fields(bytes: &[u8], file_bytes: u64) -> Option<Header> {
    let mut copy = bytes[..SECTOR_LEN].to_vec();
    let magic = copy[..4] == MAGIC.to_be_bytes();
    copy[..4].copy_from_slice(&MAGIC.to_be_bytes());
    // A version out of range decodes as 3.
    let mut header = Header::decode(&copy).ok()?;
    let version = (2..=3).contains(&header.version);
    let cluster = (MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&header.cluster_bits);
    let place = |at: u64| at != 0 && at % SECTOR_LEN as u64 == 0 && at < file_bytes;
    let limit = MAX_L1_BYTES / 8;
    let points = [
        magic,
        version,
        cluster,
        place(header.l1_table.get()),
        place(header.reftable.get()),
        header.size > 0 && (1..=limit).contains(&u64::from(header.l1_entries)),
    ];
    if points.iter().filter(|&&point| point).count() < 4 {
        return None;
    }
    if !version {
        let length = header.header_length as usize;
        let newer = [V3_BYTES, V3_BYTES_WITH_COMPRESSION].contains(&length);
        header.version = if newer && header.refcount_order <= MAX_REFCOUNT_ORDER { 3 } else { 2 };
        copy[4..8].copy_from_slice(&header.version.to_be_bytes());
        header = Header::decode(&copy).ok()?;
    }
    Some(header)
}

/// The fields as a header of the other version has them.
pub fn with_version(bytes: &[u8], version: u32) -> Option<Header> {
    let mut copy = bytes[..SECTOR_LEN].to_vec();
    copy[..4].copy_from_slice(&MAGIC.to_be_bytes());
    copy[4..8].copy_from_slice(&version.to_be_bytes());
    Header::decode(&copy).ok()
}

/// A run of characters that can be a file name, after the first sector and followed by nothing.
fn name(bytes: &[u8]) -> Option<(u64, u32)> {
    let text = |byte: &u8| !byte.is_ascii_control();
    let start = SECTOR_LEN + bytes[SECTOR_LEN..4 * SECTOR_LEN].iter().position(text)?;
    let length = bytes[start..].iter().position(|byte| !text(byte))?;
    let limit = MAX_BACKING_NAME_BYTES as usize;
    let sound = (1..=limit).contains(&length)
        && start % 8 == 0
        && std::str::from_utf8(&bytes[start..start + length]).is_ok()
        && is_zero(&bytes[start + length..start + length + 8]);
    sound.then_some((start as u64, u32::try_from(length).ok()?))
}

/// The data of a bitmaps extension whose type may be lost.
fn bitmaps_in(source: &dyn ReadAt, bytes: &[u8]) -> Option<BitmapsExtension> {
    let starts = (0..bytes.len() - BITMAPS_BYTES).step_by(EXTENSION_HEADER_BYTES);
    let mut decoded = starts
        .filter_map(|at| BitmapsExtension::decode(&bytes[at..at + BITMAPS_BYTES]))
        .filter(|found| found.count > 0 && found.directory.get() >= SECTOR_LEN as u64);
    decoded.find(|found| {
        BitmapDirectory::load(source, found)
            .is_ok_and(|directory| directory.problems.is_empty() && !directory.entries.is_empty())
    })
}

/// Whether a header's feature bits and lengths are such that nothing of them need be changed.
pub fn settle(header: &mut Header) {
    if header.version < 3 {
        return;
    }
    let length = header.header_length as usize;
    let extended = u64::from(header.cluster_bits);
    header.incompatible &= incompatible::KNOWN;
    header.autoclear &= autoclear::KNOWN;
    if extended < 14 {
        header.incompatible &= !incompatible::EXTENDED_L2;
    }
    if length < V3_BYTES || length % 8 != 0 || length > SECTOR_LEN.max(V2_BYTES) {
        header.header_length = 104;
    }
}
