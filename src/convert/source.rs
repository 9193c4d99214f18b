//! What is read: one or several disks, one after the other.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::GuestOffset;
use crate::image::{Backing, Image, RunKind};
use crate::storage::{FileId, ReadAt, Storage};

/// Disks are counted in sectors.
const SECTOR: u64 = 512;

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

/// Bytes of which it is known without reading what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// How many, at least 1.
    pub(super) bytes: u64,
    /// Whether they surely are zeroes.
    pub(super) zero: bool,
    /// How many images of the chain leave them to the next one.
    pub(super) depth: usize,
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
            let bytes = disk.size()?;
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
            Some(Disk::Raw(raw)) => vec![identity_of_raw(raw.storage())],
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

    /// What is known of the bytes from `at` on, at most `most` of them.
    pub(super) fn extent(&self, at: u64, most: u64) -> Result<Known> {
        let Some(part) = self.part(at) else {
            return Ok(Known { bytes: most, zero: true, depth: 0 });
        };
        let most = most.min(part.start + part.bytes - at);
        let extent = part.disk.extent(at - part.start, most)?;
        Ok(Known { bytes: extent.length, zero: extent.zero, depth: extent.left })
    }

    /// Where the bytes from `at` on lie as they are, at most `most` of them; `None` where they have
    /// to be read.
    pub(super) fn plain(&self, at: u64, most: u64) -> Result<Option<Plain<'_>>> {
        let Some(part) = self.part(at) else { return Ok(None) };
        let (at, most) = (at - part.start, most.min(part.start + part.bytes - at));
        match &part.disk {
            Disk::Raw(raw) => {
                let storage = raw.storage();
                let data = storage.next_data(at).map_err(|e| Error::io("look for data", at, e))?;
                Ok(data.filter(|range| range.start <= at).map(|range| Plain {
                    storage,
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
            let rest = part.start + part.bytes - at;
            let length = usize::try_from(rest).unwrap_or(usize::MAX).min(buf.len());
            let (head, rest) = buf.split_at_mut(length);
            part.disk.read_at(head, at - part.start)?;
            at += length as u64;
            buf = rest;
        }
        Ok(())
    }
}
