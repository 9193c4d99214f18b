//! What an image is, without a look at its data or at any file that it names.

pub use crate::format::luks::LuksHeader;

use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::bitmap::flag;
use crate::format::crypto::CryptMethod;
use crate::format::extension;
use crate::format::feature::{autoclear, incompatible};
use crate::format::luks::LUKS_BYTES;
use crate::format::snapshot::MAX_SNAPSHOTS;
use crate::storage::ReadAt;
use crate::tables::{BitmapDirectory, HeaderArea, SnapshotTable};

/// A snapshot as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Bytes of VM state.
    pub vm_state_bytes: u64,
    /// When it was taken, seconds since 1970.
    pub date_sec: u32,
    /// When it was taken, nanoseconds.
    pub date_nsec: u32,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nsec: u64,
    /// Instruction count of record and replay.
    pub icount: Option<u64>,
}

/// A persistent bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// Guest bytes for each bit.
    pub granularity: u64,
    /// Whether it was not stored when the image was last closed.
    pub in_use: bool,
    /// Whether it records writes.
    pub auto: bool,
}

/// How an image is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// The legacy method.
    Aes,
    /// LUKS; `None` where its header cannot be read.
    Luks(Option<LuksHeader>),
}

/// The external data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFileInfo {
    /// Its name, where the image has one.
    pub name: Option<String>,
    /// Whether it reads as a raw image by itself.
    pub raw: bool,
}

/// What the metadata of a qcow2 image contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qcow2Info {
    /// Cluster size, refcount width and disk size.
    pub geometry: Geometry,
    /// 2 or 3.
    pub version: u32,
    /// Whether refcounts may be stale.
    pub dirty: bool,
    /// Whether damage was met.
    pub corrupt: bool,
    /// Whether refcount updates may be postponed.
    pub lazy_refcounts: bool,
    /// Whether compressed clusters are compressed with zstd; otherwise with zlib.
    pub zstd: bool,
    /// How it is encrypted.
    pub encryption: Option<Encryption>,
    /// Its external data file.
    pub data_file: Option<DataFileInfo>,
    /// The name of its backing file.
    pub backing_name: Option<String>,
    /// The format of its backing file.
    pub backing_format: Option<String>,
    /// Its bitmaps, where they are consistent with the image.
    pub bitmaps: Vec<BitmapInfo>,
    /// Its snapshots.
    pub snapshots: Vec<SnapshotInfo>,
}

/// Reads what the metadata of a qcow2 image contains.
pub fn qcow2_info(source: &dyn ReadAt) -> Result<Qcow2Info> {
    let area = HeaderArea::load(source)?;
    let header = &area.header;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let data_file = header.has_data_file().then(|| DataFileInfo {
        name: area.extension(extension::DATA_FILE).map(text),
        raw: header.autoclear & autoclear::DATA_FILE_RAW != 0,
    });
    Ok(Qcow2Info {
        geometry: area.geometry,
        version: header.version,
        dirty: header.has_incompatible(incompatible::DIRTY),
        corrupt: header.has_incompatible(incompatible::CORRUPT),
        lazy_refcounts: header.has_lazy_refcounts(),
        zstd: header.compression_type == 1,
        encryption: encryption(source, &area)?,
        data_file,
        backing_name: area.backing_name.as_deref().map(text),
        backing_format: area.extension(extension::BACKING_FORMAT).map(text),
        bitmaps: bitmaps(source, &area)?,
        snapshots: snapshots(source, &area)?,
    })
}

/// The header of a LUKS image. Fails with [`Error::Io`], and with [`Error::Refused`] where it is
/// not one of version 1.
pub fn luks_info(source: &dyn ReadAt) -> Result<LuksHeader> {
    let mut bytes = [0; LUKS_BYTES];
    let failed = |e| Error::io("read the LUKS header", 0, e);
    let n = source.read_at(0, &mut bytes).map_err(failed)?;
    let refused = || Error::Refused("the file has no LUKS header of version 1".into());
    LuksHeader::decode(&bytes[..n]).ok_or_else(refused)
}

fn encryption(source: &dyn ReadAt, area: &HeaderArea) -> Result<Option<Encryption>> {
    match area.header.crypt_method {
        CryptMethod::None => Ok(None),
        CryptMethod::Aes => Ok(Some(Encryption::Aes)),
        CryptMethod::Luks => {
            let Some(place) = area.crypto_header() else { return Ok(Some(Encryption::Luks(None))) };
            let mut bytes = [0; LUKS_BYTES];
            let at = place.offset.get();
            let n = source
                .read_at(at, &mut bytes)
                .map_err(|e| Error::io("read the encryption header", at, e))?;
            Ok(Some(Encryption::Luks(LuksHeader::decode(&bytes[..n]))))
        }
        CryptMethod::Unknown(method) => Err(Error::Header {
            offset: 32,
            message: format!("unknown encryption method {method}"),
        }),
    }
}

fn bitmaps(source: &dyn ReadAt, area: &HeaderArea) -> Result<Vec<BitmapInfo>> {
    let consistent = area.header.autoclear & autoclear::BITMAPS != 0;
    let Some(extension) = area.bitmaps().filter(|_| consistent) else { return Ok(Vec::new()) };
    let at = extension.directory.get();
    let directory = BitmapDirectory::load(source, &extension)
        .map_err(|e| Error::io("read the bitmap directory", at, e))?;
    if let Some(problem) = directory.problems.first() {
        log::warn!("bitmap directory: {problem}");
    }
    let entries = directory.entries.iter();
    let infos = entries.map(|entry| BitmapInfo {
        name: entry.name_text(),
        granularity: 1u64.checked_shl(entry.granularity_bits.into()).unwrap_or(0),
        in_use: entry.flags & flag::IN_USE != 0,
        auto: entry.flags & flag::AUTO != 0,
    });
    Ok(infos.collect())
}

fn snapshots(source: &dyn ReadAt, area: &HeaderArea) -> Result<Vec<SnapshotInfo>> {
    let count = area.header.snapshot_count.min(MAX_SNAPSHOTS);
    let table = SnapshotTable::load(source, area.header.snapshot_table, count);
    if let Some(problem) = &table.problem {
        source.require_reachable()?;
        log::warn!("snapshot table: {problem}");
    }
    let entries = table.entries.iter();
    let infos = entries.map(|entry| SnapshotInfo {
        id: entry.id_text(),
        name: entry.name_text(),
        vm_state_bytes: entry.vm_state_bytes(),
        date_sec: entry.header.date_sec,
        date_nsec: entry.header.date_nsec,
        vm_clock_nsec: entry.header.vm_clock_nsec,
        icount: entry.icount().filter(|&count| count != u64::MAX),
    });
    Ok(infos.collect())
}
