//! The image file as the engine writes it: every metadata write goes through here, where it is
//! checked against the regions of other metadata, and where a failure stops all that follow.
//!
//! While a change is built aside (see `switch`) only clusters that nothing in the file uses are
//! written, and the disk refuses every other write. A failure then leaves nothing missing, so it
//! stops nothing.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::feature::incompatible;
use crate::format::header::{Header, HeaderField, encode_field};
use crate::format::{Geometry, HostOffset};
use crate::storage::{Capacity, RangeSet, Storage};

use super::regions::{Owner, Regions};
use crate::image::run::ClusterRun;

/// Bytes at the start of the file that are kept in memory to patch header fields.
pub(in crate::image) const HEAD_BYTES: usize = 512;

/// The image file, its header, and what is known of the state of its writes.
pub(in crate::image) struct Disk {
    pub(in crate::image) file: Arc<dyn Storage>,
    pub(in crate::image) data_file: Option<Arc<dyn Storage>>,
    pub(in crate::image) geometry: Geometry,
    pub(in crate::image) regions: Regions,
    head: Vec<u8>,
    header: Header,
    file_unsynced: bool,
    data_unsynced: bool,
    failed: bool,
    /// Bytes of metadata that were written.
    written: u64,
    /// While a change is built aside: the bytes of the clusters allocated for it.
    aside: Option<RangeSet>,
}

impl Disk {
    /// A disk whose first bytes are `head`, decoded as `header`.
    pub(in crate::image) fn new(
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
            written: 0,
            aside: None,
        }
    }

    /// The header as stored in the file.
    pub(in crate::image) const fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of metadata that were written since the image was opened.
    pub(in crate::image) const fn written(&self) -> u64 {
        self.written
    }

    /// An error where an earlier failure has left it open what the file holds.
    pub(in crate::image) fn usable(&self) -> Result<()> {
        if self.failed {
            let why = "an earlier write of metadata failed, so nothing more is written";
            return Err(Error::Refused(why.into()));
        }
        Ok(())
    }

    /// From here on nothing more is written.
    pub(in crate::image) const fn stop(&mut self) {
        self.failed = true;
    }

    /// From here on only what [`Disk::note_fresh`] names is written.
    pub(in crate::image) fn begin_aside(&mut self) {
        self.aside = Some(RangeSet::default());
    }

    /// Everything may be written again. Returns the bytes that were allocated meanwhile.
    pub(in crate::image) fn end_aside(&mut self) -> RangeSet {
        self.aside.take().unwrap_or_default()
    }

    /// These clusters were allocated just now.
    pub(in crate::image) fn note_fresh(&mut self, run: ClusterRun) {
        if let Some(fresh) = &mut self.aside {
            let at = self.geometry.offset_of(run.first).get();
            fresh.insert(at..at + self.geometry.bytes_of(run.count));
        }
    }

    /// Whether what is here has to stay as it is: a change is built aside, and this is not part
    /// of it.
    pub(in crate::image) fn is_fixed(&self, at: HostOffset) -> bool {
        let at = at.get();
        self.aside.as_ref().is_some_and(|fresh| !fresh.covers(&(at..at + 1)))
    }

    /// The file's length limit in bytes: of a block device; otherwise none.
    pub(in crate::image) fn limit(&self) -> u64 {
        match self.file.capacity() {
            Capacity::Fixed(bytes) => bytes,
            Capacity::Growable => u64::MAX,
        }
    }

    /// Reads metadata; bytes past the file's end are zero.
    pub(in crate::image) fn read(
        &self,
        at: HostOffset,
        bytes: &mut [u8],
        what: &str,
    ) -> Result<()> {
        self.file
            .read_padded_at(at.get(), bytes)
            .map_err(|source| Error::io(format!("read {what}"), at.get(), source))
    }

    /// Writes metadata that belongs to `owner`, unless other metadata is there.
    pub(in crate::image) fn write(
        &mut self,
        owner: Owner,
        at: HostOffset,
        bytes: &[u8],
        what: &str,
    ) -> Result<()> {
        self.check_owner(owner, at, bytes, what)?;
        self.write_raw(at, bytes, what)
    }

    /// [`Disk::write`] into clusters that nothing refers to: a failure leaves nothing missing, so
    /// it stops nothing.
    pub(in crate::image) fn write_unreferenced(
        &mut self,
        owner: Owner,
        at: HostOffset,
        bytes: &[u8],
        what: &str,
    ) -> Result<()> {
        self.check_owner(owner, at, bytes, what)?;
        let failed = self.failed;
        let done = self.write_raw(at, bytes, what);
        self.failed = failed;
        done
    }

    fn check_owner(
        &mut self,
        owner: Owner,
        at: HostOffset,
        bytes: &[u8],
        what: &str,
    ) -> Result<()> {
        self.usable()?;
        let run = ClusterRun::of(&self.geometry, at, bytes.len() as u64);
        match self.regions.conflict(run, Some(owner)) {
            Some(hit) => Err(self.mark_corrupt(at, &format!("a write of {what} would hit {hit}"))),
            None => Ok(()),
        }
    }

    /// Checks that a write of guest data into the image file hits no metadata.
    pub(in crate::image) fn check_data(&mut self, at: HostOffset, length: u64) -> Result<()> {
        self.usable()?;
        if self.data_file.is_some() {
            return Ok(());
        }
        self.require_fresh(at, length);
        match self.regions.conflict(ClusterRun::of(&self.geometry, at, length), None) {
            Some(hit) => {
                Err(self.mark_corrupt(at, &format!("a write of guest data would hit {hit}")))
            }
            None => Ok(()),
        }
    }

    /// Guest data was written that a mapping is about to refer to.
    pub(in crate::image) const fn note_data(&mut self) {
        if self.data_file.is_some() {
            self.data_unsynced = true;
        } else {
            self.file_unsynced = true;
        }
    }

    /// Returns once everything written so far is on stable storage.
    pub(in crate::image) fn sync(&mut self) -> Result<()> {
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
    pub(in crate::image) fn patch_header(&mut self, fields: &[(HeaderField, u64)]) -> Result<()> {
        self.usable()?;
        self.patch_head(&encode_fields(fields))
    }

    /// Changes header fields, and a 64-bit value that is in the head but is not one of them, with
    /// one write.
    pub(in crate::image) fn patch_header_and(
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
    pub(in crate::image) fn write_header_part(
        &mut self,
        at: HostOffset,
        bytes: &[u8],
    ) -> Result<()> {
        self.usable()?;
        let start = usize::try_from(at.get()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
        let end = (start + bytes.len()).min(HEAD_BYTES);
        self.head[start..end].copy_from_slice(&bytes[..end - start]);
        self.write_raw(at, bytes, "the header")?;
        if let Ok(header) = Header::decode(&self.head) {
            self.header = header;
        }
        Ok(())
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

    /// Marks the image corrupt where its version has the bit, and stops every further write.
    pub(in crate::image) fn mark_corrupt(&mut self, at: HostOffset, why: &str) -> Error {
        if self.aside.is_some() {
            // Nothing was harmed, and the change is given up.
            return crate::image::damage::damaged(at, why.to_owned());
        }
        if self.header.version >= 3 && !self.failed {
            let bits = self.header.incompatible | incompatible::CORRUPT;
            // The error that is returned is more useful than a failure of these two would.
            let _ = self.patch_head(&encode_fields(&[(HeaderField::Incompatible, bits)]));
            let _ = self.sync();
        }
        self.failed = true;
        crate::image::damage::damaged(at, why.to_owned())
    }

    fn require_fresh(&self, at: HostOffset, length: u64) {
        let range = at.get()..at.get() + length;
        let allowed = self.aside.as_ref().is_none_or(|fresh| fresh.covers(&range));
        assert!(
            allowed,
            "a change built aside writes to its own clusters only, not to {range:#x?}"
        );
    }

    fn write_raw(&mut self, at: HostOffset, bytes: &[u8], what: &str) -> Result<()> {
        self.require_fresh(at, bytes.len() as u64);
        self.file_unsynced = true;
        self.written += bytes.len() as u64;
        let done = self.file.write_at(at.get(), bytes);
        self.failed |= done.is_err() && self.aside.is_none();
        done.map_err(|source| Error::io(format!("write {what}"), at.get(), source))
    }
}

fn encode_fields(fields: &[(HeaderField, u64)]) -> Vec<(u64, Vec<u8>)> {
    let encoded = |&(field, value): &(HeaderField, u64)| {
        (field.place().0, encode_field(field, value).to_vec())
    };
    fields.iter().map(encoded).collect()
}
