//! What is read: one or several guest disks, one behind the other.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::GuestOffset;
use crate::format::crypto::CryptMethod;
use crate::image::{Backing, Image, RunKind};
use crate::storage::{FileId, ReadAt, Storage};

use super::zeroes::data_runs;

/// Disks are counted in sectors.
const SECTOR: u64 = 512;

/// Bytes that are read together where only their being zero matters.
const READ_BYTES: u64 = 1 << 20;

/// Data past some guest offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPast {
    /// How many bytes, in whole sectors.
    pub bytes: u64,
    /// From the first to the end of the last, as guest offsets.
    pub range: Range<u64>,
}

/// A disk that is read.
pub enum Disk {
    /// A raw image.
    Raw(Arc<dyn ReadAt>),
    /// A qcow2 image, or one of its snapshots, with what lies below.
    Qcow2(Box<Image>),
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw(_) => "Disk::Raw",
            Self::Qcow2(_) => "Disk::Qcow2",
        })
    }
}

impl Disk {
    /// Its size in bytes; that of a raw image is rounded up to sectors.
    pub fn bytes(&self) -> Result<u64> {
        match self {
            Self::Raw(storage) => {
                let length = storage.len().map_err(|e| Error::file("get the length", e))?;
                Ok(length.next_multiple_of(SECTOR))
            }
            Self::Qcow2(image) => Ok(image.virtual_size()),
        }
    }

    /// Bytes that should be read together: a cluster, since compressed ones are unpacked as a
    /// whole.
    fn grain(&self) -> u64 {
        match self {
            Self::Raw(_) => SECTOR,
            Self::Qcow2(image) => image.geometry().cluster_bytes(),
        }
    }

    /// Bytes that should be read together because of this image or one below it.
    pub(crate) fn whole_grain(&self) -> u64 {
        let mut grain = self.grain();
        let mut below = match self {
            Self::Raw(_) => None,
            Self::Qcow2(image) => image.backing(),
        };
        while let Some(Backing::Qcow2(image)) = below {
            grain = grain.max(image.geometry().cluster_bytes());
            below = image.backing();
        }
        grain
    }

    /// Reads bytes; past the end there are zeroes.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Raw(storage) => {
                storage.read_padded_at(at, buf).map_err(|e| Error::io("read guest data", at, e))
            }
            Self::Qcow2(image) => {
                let inside = inside(image.virtual_size(), at, buf.len());
                let (low, high) = buf.split_at_mut(inside);
                high.fill(0);
                image.read(GuestOffset::new(at), low)
            }
        }
    }

    /// The data from `from` on, looked at in sectors of 512 bytes: those with a byte that is not
    /// zero. In an encrypted image all that is mapped counts as data. `None`: there is none.
    pub fn data_past(&self, from: u64) -> Result<Option<DataPast>> {
        let end = self.bytes()?;
        let mut found: Option<DataPast> = None;
        let mut buffer = vec![0; usize::try_from(self.whole_grain().max(READ_BYTES)).unwrap_or(0)];
        let mut at = from;
        while at < end {
            let extent = self.extent(at, end - at)?;
            let mut bytes = extent.bytes;
            if !extent.zero {
                bytes = bytes.min(buffer.len() as u64);
                let length = usize::try_from(bytes).unwrap_or(buffer.len());
                let encrypted = self.is_encrypted()?;
                if !encrypted {
                    self.read(at, &mut buffer[..length])?;
                }
                let sparse = if encrypted { 0 } else { SECTOR };
                for run in data_runs(&buffer[..length], at, sparse) {
                    let run = at + run.start as u64..at + run.end as u64;
                    let data = found.get_or_insert(DataPast { bytes: 0, range: run.clone() });
                    data.bytes += run.end - run.start;
                    data.range.end = run.end;
                }
            }
            at += bytes;
        }
        Ok(found)
    }

    fn is_encrypted(&self) -> Result<bool> {
        match self {
            Self::Raw(_) => Ok(false),
            Self::Qcow2(image) => Ok(image.header()?.crypt_method != CryptMethod::None),
        }
    }

    /// What is known of the bytes from `at` on, at most `most` of them.
    pub(crate) fn extent(&self, at: u64, most: u64) -> Result<Extent> {
        match self {
            Self::Raw(storage) => raw_extent(storage.as_ref(), at, most),
            Self::Qcow2(image) => image_extent(image, at, most),
        }
    }
}

/// How many of `wanted` bytes at `at` lie on a disk of this size.
fn inside(bytes: u64, at: u64, wanted: usize) -> usize {
    usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX).min(wanted)
}

/// Bytes of which it is known without reading what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// How many, at least 1.
    pub(crate) bytes: u64,
    /// Whether they surely are zeroes.
    pub(crate) zero: bool,
    /// How many images of the chain leave them to the next one.
    pub(super) depth: usize,
}

impl Extent {
    const fn new(bytes: u64, zero: bool) -> Self {
        Self { bytes, zero, depth: 0 }
    }
}

fn raw_extent(storage: &dyn ReadAt, at: u64, most: u64) -> Result<Extent> {
    let data = storage.next_data(at).map_err(|e| Error::io("look for data", at, e))?;
    Ok(match data {
        Some(range) if range.start <= at => Extent::new((range.end - at).min(most), false),
        Some(range) => Extent::new((range.start - at).min(most), true),
        None => Extent::new(most, true),
    })
}

fn image_extent(image: &Image, at: u64, most: u64) -> Result<Extent> {
    let inside = image.virtual_size().saturating_sub(at);
    if inside == 0 {
        return Ok(Extent::new(most, true));
    }
    let run = image.map(GuestOffset::new(at), most.min(inside))?;
    let extent = match run.kind {
        RunKind::Zero => Extent::new(run.length, true),
        RunKind::Data(_) | RunKind::Compressed(_) => Extent::new(run.length, false),
        RunKind::Unallocated => match image.backing() {
            None => Extent::new(run.length, true),
            Some(backing) => {
                let below = backing_extent(backing, at, run.length)?;
                Extent { depth: below.depth + 1, ..below }
            }
        },
    };
    Ok(extent)
}

/// What is known of a backing file's bytes from `at` on.
pub(super) fn backing_extent(backing: &Backing, at: u64, most: u64) -> Result<Extent> {
    match backing {
        Backing::Raw(raw) => raw_extent(raw.storage(), at, most),
        Backing::Qcow2(image) => image_extent(image, at, most),
        Backing::Closed => Ok(Extent::new(most, false)),
    }
}

/// The files that an image of a chain is read from: the same ones, read as the same format, have
/// the same bytes.
type Identity = (Option<FileId>, Option<FileId>, bool);

fn identity_of_raw(storage: &dyn ReadAt) -> Identity {
    (storage.file().and_then(|file| FileId::of_open(file).ok()), None, false)
}

/// What the images of a chain are read from, from this one down.
fn identities_of(image: &Image) -> Vec<Identity> {
    let id = |storage: &dyn ReadAt| FileId::of_open(storage.file()?).ok();
    let mut all = vec![(id(image.storage()), id(image.data_source()), true)];
    match image.backing() {
        None | Some(Backing::Closed) => {}
        Some(Backing::Raw(raw)) => all.push(identity_of_raw(raw.storage())),
        Some(Backing::Qcow2(below)) => all.extend(identities_of(below)),
    }
    all
}

/// The same of a backing file.
fn identities_below(backing: &Backing) -> Vec<Identity> {
    match backing {
        Backing::Raw(raw) => vec![identity_of_raw(raw.storage())],
        Backing::Qcow2(image) => identities_of(image),
        Backing::Closed => Vec::new(),
    }
}

/// Bytes of the disk as they lie in a file.
pub(super) struct Plain<'a> {
    /// The file.
    pub(super) storage: &'a dyn ReadAt,
    /// Where in it.
    pub(super) at: u64,
    /// How many.
    pub(super) bytes: u64,
}

impl Plain<'_> {
    /// Has the system copy them; `false` where it cannot.
    pub(super) fn copy_to(&self, target: &dyn Storage, at: u64) -> Result<bool> {
        let copied = target.copy_from(at, self.storage, self.at, self.bytes);
        copied.map_err(|e| Error::io("copy guest data", at, e))
    }
}

/// All disks as one.
#[derive(Debug)]
pub struct Source {
    parts: Vec<Part>,
    bytes: u64,
    grain: u64,
}

#[derive(Debug)]
struct Part {
    disk: Disk,
    start: u64,
    bytes: u64,
}

impl Source {
    /// The disks in this order. One that is encrypted is refused, also where nothing of it would
    /// have to be read.
    pub fn new(disks: Vec<Disk>) -> Result<Self> {
        let (mut start, mut grain) = (0u64, SECTOR);
        let mut parts = Vec::with_capacity(disks.len());
        for disk in disks {
            if let Disk::Qcow2(image) = &disk {
                image.require_plain()?;
            }
            let bytes = disk.bytes()?;
            grain = grain.max(disk.grain());
            parts.push(Part { disk, start, bytes });
            let end = start.checked_add(bytes).filter(|&end| end <= i64::MAX.unsigned_abs());
            start =
                end.ok_or_else(|| Error::Refused("the sources together are too long".into()))?;
        }
        Ok(Self { parts, bytes: start, grain })
    }

    /// The size of all together in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn identities(&self) -> Vec<Identity> {
        match self.only() {
            Some(Disk::Raw(storage)) => vec![identity_of_raw(storage.as_ref())],
            Some(Disk::Qcow2(image)) => identities_of(image),
            None => Vec::new(),
        }
    }

    /// How many images lie above the one from which on the chain is this other one; `None` where it
    /// never is.
    pub(super) fn depth_of(&self, other: &Self) -> Option<usize> {
        self.depth_where(&other.identities())
    }

    /// [`Source::depth_of`] for a backing file.
    pub(super) fn depth_of_backing(&self, backing: &Backing) -> Option<usize> {
        self.depth_where(&identities_below(backing))
    }

    fn depth_where(&self, other: &[Identity]) -> Option<usize> {
        let known = !other.is_empty() && other.iter().all(|(file, _, _)| file.is_some());
        let own = self.identities();
        let above = own.len().checked_sub(other.len()).filter(|_| known)?;
        // The image itself is not left to the backing file: all of it may be other data there.
        (above > 0 && own[above..] == *other).then_some(above)
    }

    /// The only disk, where there is one.
    pub fn only(&self) -> Option<&Disk> {
        match self.parts.as_slice() {
            [part] => Some(&part.disk),
            _ => None,
        }
    }

    /// The largest unit that is read as a whole, in bytes.
    pub(super) const fn grain(&self) -> u64 {
        self.grain
    }

    fn part(&self, at: u64) -> Option<&Part> {
        let index = self.parts.partition_point(|part| part.start + part.bytes <= at);
        self.parts.get(index)
    }

    /// What is known of the bytes from `at` on, at most `most` of them, all on the disk.
    pub(super) fn extent(&self, at: u64, most: u64) -> Result<Extent> {
        let Some(part) = self.part(at) else { return Ok(Extent::new(most, true)) };
        part.disk.extent(at - part.start, most.min(part.start + part.bytes - at))
    }

    /// Where the bytes from `at` on lie as they are, at most `most` of them; `None` where they have
    /// to be read.
    pub(super) fn plain(&self, at: u64, most: u64) -> Result<Option<Plain<'_>>> {
        let Some(part) = self.part(at) else { return Ok(None) };
        let (at, most) = (at - part.start, most.min(part.start + part.bytes - at));
        match &part.disk {
            Disk::Raw(storage) => {
                let data = storage.next_data(at).map_err(|e| Error::io("look for data", at, e))?;
                Ok(data.filter(|range| range.start <= at).map(|range| Plain {
                    storage: storage.as_ref(),
                    at,
                    bytes: most.min(range.end - at),
                }))
            }
            Disk::Qcow2(image) => {
                let most = most.min(image.virtual_size().saturating_sub(at));
                if most == 0 {
                    return Ok(None);
                }
                let run = image.map(GuestOffset::new(at), most)?;
                let RunKind::Data(host) = run.kind else { return Ok(None) };
                Ok(Some(Plain { storage: image.data_source(), at: host.get(), bytes: run.length }))
            }
        }
    }

    /// Reads bytes; past the end there are zeroes.
    pub(super) fn read(&self, mut at: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let Some(part) = self.part(at) else {
                buf.fill(0);
                return Ok(());
            };
            let length = inside(part.start + part.bytes, at, buf.len());
            let (head, rest) = buf.split_at_mut(length);
            part.disk.read(at - part.start, head)?;
            at += length as u64;
            buf = rest;
        }
        Ok(())
    }
}
