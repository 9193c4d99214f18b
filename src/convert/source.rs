//! What is read: one or several disks, one after the other.

use std::ops::Range;

use crate::disk::Disk;
use crate::disk::identity::{self, Identity};
use crate::error::{Error, Result};
use crate::format::GuestOffset;
use crate::image::{Backing, RunKind};
use crate::sector::SECTOR;
use crate::storage::{ReadAt, Storage};

/// Bytes of the disk as they are in a file.
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
pub struct SourceDisk {
    parts: Vec<Part>,
    bytes: u64,
    grain: u64,
}

#[derive(Debug)]
struct Part {
    disk: Disk,
    start: u64,
    bytes: u64,
    /// Bytes at the beginning of the disk that are left out.
    skip: u64,
}

impl SourceDisk {
    /// The disks in this order. One that is encrypted, and whose secret is not
    /// given, is refused, also where nothing of it would have to be read.
    pub fn new(disks: Vec<Disk>) -> Result<Self> {
        let (mut start, mut grain) = (0u64, SECTOR);
        let mut parts = Vec::with_capacity(disks.len());
        for disk in disks {
            disk.require_key()?;
            let bytes = disk.size()?;
            grain = grain.max(disk.grain());
            parts.push(Part { disk, start, bytes, skip: 0 });
            let end = start.checked_add(bytes).filter(|&end| end <= i64::MAX.unsigned_abs());
            start =
                end.ok_or_else(|| Error::Refused("the sources together are too long".into()))?;
        }
        Ok(Self { parts, bytes: start, grain })
    }

    /// A part of a disk. In the last sector there are zeroes after its end.
    pub fn part_of(disk: Disk, range: Range<u64>) -> Result<Self> {
        let mut whole = Self::new(vec![disk])?;
        if let [part] = whole.parts.as_mut_slice() {
            let start = range.start.min(part.bytes);
            part.bytes = range.end.clamp(start, part.bytes) - start;
            part.skip = start;
            whole.bytes = part.bytes.next_multiple_of(SECTOR);
        }
        Ok(whole)
    }

    /// The size of all together in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn identities(&self) -> Vec<Identity> {
        match self.parts.as_slice() {
            [part] if part.skip == 0 => identity::of_disk(&part.disk),
            _ => Vec::new(),
        }
    }

    /// The number of images above the one from which on the chain is this other one; `None` where
    /// it never is.
    pub(super) fn depth_of(&self, other: &Self) -> Option<usize> {
        self.depth_where(&other.identities())
    }

    /// [`SourceDisk::depth_of`] for a backing file.
    pub(super) fn depth_of_backing(&self, backing: &Backing) -> Option<usize> {
        self.depth_where(&identity::below(backing))
    }

    fn depth_where(&self, other: &[Identity]) -> Option<usize> {
        let known = !other.is_empty() && other.iter().all(Identity::is_known);
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

    /// The disks, in their order.
    pub(crate) fn into_disks(self) -> Vec<Disk> {
        self.parts.into_iter().map(|part| part.disk).collect()
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
        let extent = part.disk.extent(at - part.start + part.skip, most)?;
        Ok(Known { bytes: extent.length, zero: extent.zero, depth: extent.left })
    }

    /// Where the bytes from `at` on are stored as they are, at most `most` of them; `None` where
    /// they have to be read.
    pub(super) fn plain(&self, at: u64, most: u64) -> Result<Option<Plain<'_>>> {
        let Some(part) = self.part(at) else { return Ok(None) };
        let most = most.min(part.start + part.bytes - at);
        let at = at - part.start + part.skip;
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
            Disk::Qcow2(image) if image.is_encrypted() => Ok(None),
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
            part.disk.read_at(head, at - part.start + part.skip)?;
            at += length as u64;
            buf = rest;
        }
        Ok(())
    }
}
