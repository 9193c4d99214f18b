//! The digests of all disks of an image: the active one, and each snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::digest_with;
use super::memo::Memo;
use super::value::{Digest, NoDigest, Wanted};
use crate::check::{CheckOptions, Finding, Kind, Place, SnapshotName, Source, Survey};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::image::{Image, OpenOptions, Opener};
use crate::progress::Progress;
use crate::storage::{ReadAt, Storage};
use crate::verify::Files;

/// Digests of an image's disks, as far as they have any.
#[derive(Debug, Clone, Default)]
pub struct Digests {
    /// The active disk's.
    pub active: Option<Digest>,
    /// The snapshots', in the order of their table.
    pub snapshots: Vec<SnapshotDigest>,
}

/// A snapshot's digest.
#[derive(Debug, Clone)]
pub struct SnapshotDigest {
    /// Whose.
    pub snapshot: SnapshotName,
    /// The digest; none where not all of its disk can be read, which a finding reports.
    pub digest: Option<Digest>,
}

/// Makes the digests of all disks of a qcow2 image that was checked. Why there is none is added to
/// the report.
pub fn digests(
    image: &Arc<dyn ReadAt>,
    survey: &mut Survey,
    files: &Files<'_>,
    wanted: Wanted,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Digests {
    let is_locked =
        survey.area.header.crypt_method != CryptMethod::None && files.key.name.is_none();
    let several = wanted.snapshots && !survey.report.snapshots.is_empty();
    let memo = several.then(Memo::default);
    let work = Work { image, files, is_locked, wanted, options, progress, memo };
    let active = work.one(Source::Active, survey);
    let mut snapshots = Vec::new();
    if !wanted.snapshots {
        return Digests { active, snapshots };
    }
    for (index, snapshot) in (0u32..).zip(survey.report.snapshots.clone()) {
        let digest = work.one(Source::Snapshot(index), survey);
        snapshots.push(SnapshotDigest { snapshot, digest });
    }
    Digests { active, snapshots }
}

struct Work<'a> {
    image: &'a Arc<dyn ReadAt>,
    files: &'a Files<'a>,
    is_locked: bool,
    wanted: Wanted,
    options: &'a CheckOptions,
    progress: &'a dyn Progress,
    memo: Option<Memo>,
}

impl Work<'_> {
    fn one(&self, source: Source, survey: &mut Survey) -> Option<Digest> {
        match self.digest(source, survey) {
            Ok(digest) => Some(digest),
            Err(NoDigest { reason, damage }) => {
                // Of a damaged image it is damage: its exit code is the worse one.
                let damage = damage || survey.report.tally.corruptions > 0;
                let finding = Finding::new(Kind::NoDigest { reason, damage }, Place::Disk(source));
                survey.report.add(finding, self.options.keep);
                None
            }
        }
    }

    fn digest(&self, source: Source, survey: &Survey) -> std::result::Result<Digest, NoDigest> {
        if self.is_locked {
            let reason = "the image is encrypted, and there is no key for it".to_owned();
            return Err(NoDigest { reason, damage: false });
        }
        let (snapshot, what) = match source {
            Source::Active => (None, self.wanted.algorithm.name().to_owned()),
            Source::Snapshot(index) => {
                let what =
                    format!("{} of snapshot table entry {index}", self.wanted.algorithm.name());
                let entry = survey.snapshots.entries.get(index as usize).cloned();
                let reason = || "the snapshot's entry cannot be read".to_owned();
                let entry = entry.ok_or_else(|| NoDigest { reason: reason(), damage: true })?;
                (Some(entry), what)
            }
        };
        let path = Some(self.files.path.to_owned());
        let options =
            OpenOptions { path, snapshot, key: self.files.key.clone(), ..OpenOptions::default() };
        let image = Image::open_read(Arc::clone(self.image), &options, self.files);
        let image = image.map_err(|e| NoDigest::of(&e))?;
        let disk = Disk::Qcow2(Box::new(image));
        let memo = self.memo.as_ref();
        digest_with(&disk, &self.wanted, self.options.threads, self.progress, &what, memo)
    }
}

impl Files<'_> {
    fn allowed<'b>(path: &Path, opener: Option<&'b dyn Opener>) -> Result<&'b dyn Opener> {
        opener.ok_or_else(|| {
            let why = format!("the policy denies '{}', and its data is needed", path.display());
            Error::Refused(why)
        })
    }
}

/// Opens what is allowed.
impl Opener for Files<'_> {
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Self::allowed(path, self.backing)?.open_read(path)
    }

    fn open_data_file(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Self::allowed(path, self.data_file)?.open_data_file(path)
    }

    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        Self::allowed(path, self.data_file)?.open_write(path)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        let opener = self.backing.or(self.data_file);
        opener.map_or_else(|| path.to_owned(), |opener| opener.identity(path))
    }
}
