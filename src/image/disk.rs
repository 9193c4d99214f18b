//! The image file as the engine writes it: every metadata write goes through here, where it is
//! checked against the regions of other metadata, and where a failure stops all that follow.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::feature::incompatible;
use crate::format::header::{Header, HeaderField, encode_field};
use crate::format::{Geometry, HostOffset};
use crate::storage::{Capacity, Storage};

use super::ClusterRun;
use super::regions::{Owner, Regions};

/// Bytes at the start of the file that are kept in memory to patch header fields.
pub(super) const HEAD_BYTES: usize = 512;

/// The image file, its header, and what is known of the state of its writes.
pub(super) struct Disk {
    pub(super) file: Arc<dyn Storage>,
    pub(super) data_file: Option<Arc<dyn Storage>>,
    pub(super) geometry: Geometry,
    pub(super) regions: Regions,
    head: Vec<u8>,
    header: Header,
    file_unsynced: bool,
    data_unsynced: bool,
    failed: bool,
}

impl Disk {
    /// A disk whose first bytes are `head`, decoded as `header`.
    pub(super) fn new(
        file: Arc<dyn Storage>,
        head: &[u8],
        header: Header,
        geometry: Geometry,
    ) -> Self {
        Self {
            file,
            data_file: None,
            geometry,
            regions: Regions::default(),
            head: head[..head.len().min(HEAD_BYTES)].to_vec(),
            header,
            file_unsynced: false,
            data_unsynced: false,
            failed: false,
        }
    }

    /// The header as it stands in the file.
    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// An error where an earlier failure has left it open what the file holds.
    pub(super) fn usable(&self) -> Result<()> {
        if self.failed {
            let why = "an earlier write of metadata failed, so nothing more is written";
            return Err(Error::Refused(why.into()));
        }
        Ok(())
    }

    /// The file's length limit in bytes: of a block device; otherwise none.
    pub(super) fn limit(&self) -> u64 {
        match self.file.capacity() {
            Capacity::Fixed(bytes) => bytes,
            Capacity::Growable => u64::MAX,
        }
    }

    /// Reads metadata; what lies past the file's end is zero.
    pub(super) fn read(&self, at: HostOffset, bytes: &mut [u8], what: &str) -> Result<()> {
        self.file
            .read_padded_at(at.get(), bytes)
            .map_err(|source| Error::io(format!("read {what}"), at.get(), source))
    }

    /// Writes metadata that belongs to `owner`, unless other metadata lies there.
    pub(super) fn write(
        &mut self,
        owner: Owner,
        at: HostOffset,
        bytes: &[u8],
        what: &str,
    ) -> Result<()> {
        self.usable()?;
        let (first, count) = self.geometry.span(at, bytes.len() as u64);
        if let Some(hit) = self.regions.conflict(ClusterRun::new(first, count), Some(owner)) {
            return Err(self.mark_corrupt(at, &format!("a write of {what} would hit {hit}")));
        }
        self.write_raw(at, bytes, what)
    }

    /// Checks that a write of guest data into the image file hits no metadata.
    pub(super) fn check_data(&mut self, at: HostOffset, length: u64) -> Result<()> {
        self.usable()?;
        if self.data_file.is_some() {
            return Ok(());
        }
        let (first, count) = self.geometry.span(at, length);
        match self.regions.conflict(ClusterRun::new(first, count), None) {
            Some(hit) => {
                Err(self.mark_corrupt(at, &format!("a write of guest data would hit {hit}")))
            }
            None => Ok(()),
        }
    }

    /// Guest data was written that a mapping is about to refer to.
    pub(super) const fn note_data(&mut self) {
        if self.data_file.is_some() {
            self.data_unsynced = true;
        } else {
            self.file_unsynced = true;
        }
    }

    /// Returns once everything written so far is on stable storage.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.usable()?;
        if self.data_unsynced {
            if let Some(data) = &self.data_file {
                let done = data.sync();
                self.failed |= done.is_err();
                done.map_err(|source| Error::file("flush the data file", source))?;
            }
            self.data_unsynced = false;
        }
        if self.file_unsynced {
            let done = self.file.sync();
            self.failed |= done.is_err();
            done.map_err(|source| Error::file("flush the image", source))?;
            self.file_unsynced = false;
        }
        Ok(())
    }

    /// Changes header fields with one write, which spans from the first to the last of them.
    pub(super) fn patch_header(&mut self, fields: &[(HeaderField, u64)]) -> Result<()> {
        self.usable()?;
        self.patch_head(&encode_fields(fields))
    }

    /// Changes header fields, and a 64-bit value that lies in the head but is none of them, with one write.
    pub(super) fn patch_header_and(
        &mut self,
        fields: &[(HeaderField, u64)],
        (place, value): (HostOffset, u64),
    ) -> Result<()> {
        self.usable()?;
        let mut patches = encode_fields(fields);
        patches.push((place.get(), value.to_be_bytes().to_vec()));
        self.patch_head(&patches)
    }

    /// Writes a part of the header cluster that is not to be one write with a field.
    pub(super) fn write_header_part(&mut self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.usable()?;
        let start = usize::try_from(at.get()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
        let end = (start + bytes.len()).min(HEAD_BYTES);
        self.head[start..end].copy_from_slice(&bytes[..end - start]);
        self.write_raw(at, bytes, "the header")
    }

    fn patch_head(&mut self, patches: &[(u64, Vec<u8>)]) -> Result<()> {
        let (mut start, mut end) = (HEAD_BYTES, 0);
        for (place, bytes) in patches {
            let at = usize::try_from(*place).unwrap_or(HEAD_BYTES);
            self.head[at..at + bytes.len()].copy_from_slice(bytes);
            (start, end) = (start.min(at), end.max(at + bytes.len()));
        }
        if start < end {
            let bytes = self.head[start..end].to_vec();
            self.write_raw(HostOffset::new(start as u64), &bytes, "the header")?;
        }
        if let Ok(header) = Header::decode(&self.head) {
            self.header = header;
        }
        Ok(())
    }

    /// Marks the image corrupt where its version can say so, and stops every further write.
    pub(super) fn mark_corrupt(&mut self, at: HostOffset, why: &str) -> Error {
        if self.header.version >= 3 && !self.failed {
            let bits = self.header.incompatible | incompatible::CORRUPT;
            // The error that is returned says more than a failure of these two would.
            let _ = self.patch_head(&encode_fields(&[(HeaderField::Incompatible, bits)]));
            let _ = self.sync();
        }
        self.failed = true;
        super::damaged(at, why.to_owned())
    }

    fn write_raw(&mut self, at: HostOffset, bytes: &[u8], what: &str) -> Result<()> {
        self.file_unsynced = true;
        let done = self.file.write_at(at.get(), bytes);
        self.failed |= done.is_err();
        done.map_err(|source| Error::io(format!("write {what}"), at.get(), source))
    }
}

fn encode_fields(fields: &[(HeaderField, u64)]) -> Vec<(u64, Vec<u8>)> {
    let encoded = |&(field, value): &(HeaderField, u64)| {
        (field.place().0, encode_field(field, value).to_vec())
    };
    fields.iter().map(encoded).collect()
}
