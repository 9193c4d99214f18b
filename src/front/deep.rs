//! What reading everything adds to a check: the guest's data, and digests.

use std::path::Path;
use std::sync::Arc;

use super::checked::{Checked, Verdict};
use crate::chain::{FileOpener, Opener};
use crate::check::{Affected, CheckOptions, Finding, Kind, Place, Survey, survey};
use crate::crypt::Key;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::header::HeaderField;
use crate::format::probe::ImageFormat;
use crate::live::{self, LiveOptions};
use crate::policy::{MAX_RATIO, Policy, Trait};
use crate::progress::Progress;
use crate::remote::Settings;
use crate::storage::ReadAt;
use crate::verify::{Algorithm, Digests, Files, Wanted, deep, digest, digests};

/// What is read of an image, and how.
pub struct Deep<'a> {
    pub path: &'a Path,
    pub share: bool,
    pub remote: Option<Settings>,
    pub policy: &'a Policy,
    pub data: bool,
    pub digest: Option<Algorithm>,
    pub key: &'a Key,
    pub options: &'a CheckOptions,
    pub live: Option<LiveOptions>,
    pub progress: &'a dyn Progress,
}

impl Deep<'_> {
    /// Checks a qcow2 image, and reads of it what was requested.
    pub fn check(&self, image: Arc<dyn ReadAt>) -> Result<Checked> {
        let source = image.as_ref();
        let (mut survey, view) = match self.live {
            None => (survey(source, self.options, self.progress)?, None),
            Some(live) => {
                let (survey, view) = live::check(source, self.options, live, self.progress)?;
                (survey, Some(view))
            }
        };
        let digests = match self.is_too_much(source, &mut survey)? {
            true => Digests::default(),
            false => self.read(&image, &mut survey),
        };
        let affected = Affected::find(source, &survey);
        let report = Box::new(survey.report);
        let checked = Checked::new(Verdict::Checked { report, affected }).with(digests);
        Ok(Checked { view, ..checked })
    }

    /// Reads data and makes digests, where requested; what the policy denies is not opened.
    fn read(&self, image: &Arc<dyn ReadAt>, survey: &mut Survey) -> Digests {
        let opener =
            FileOpener { force_share: self.share, remote: self.remote, ..FileOpener::default() };
        let allowed = |denied| {
            let is = !self.policy.denied.contains(&denied);
            is.then_some(&opener as &dyn Opener)
        };
        let (backing, data_file) = (allowed(Trait::Backing), allowed(Trait::DataFile));
        let files = Files { path: self.path, backing, data_file, key: self.key };
        let (options, progress) = (self.options, self.progress);
        if self.data {
            deep(image.as_ref(), survey, &files, options, progress);
        }
        match self.wanted() {
            Some(wanted) => digests(image, survey, &files, wanted, options, progress),
            None => Digests::default(),
        }
    }

    fn wanted(&self) -> Option<Wanted> {
        self.digest.map(|algorithm| Wanted {
            algorithm,
            max_bytes: self.policy.max_virtual_bytes,
            snapshots: !self.policy.denied.contains(&Trait::Snapshots),
        })
    }

    /// Whether an image holds more than the policy allows for its size, so that its data is not
    /// read.
    fn is_too_much(&self, source: &dyn ReadAt, survey: &mut Survey) -> Result<bool> {
        let bytes = source.len().map_err(|e| Error::file("read the file's length", e))?;
        let violations = self.policy.judge(&survey.report, bytes);
        let is = violations.iter().any(|violation| violation.word == MAX_RATIO);
        if is && (self.data || self.digest.is_some()) {
            let place = Place::Header(HeaderField::Size.place().0);
            let finding = Finding::new(Kind::NotOpened("the guest's data"), place);
            survey.report.add(finding, usize::MAX);
        }
        Ok(is)
    }

    /// The digest of an image that is not qcow2, where one was requested and is possible: of a raw
    /// one, or of LUKS with its secret.
    pub fn raw(&self, image: Arc<dyn ReadAt>, format: ImageFormat) -> Result<Digests> {
        let Some(wanted) = self.wanted() else { return Ok(Digests::default()) };
        let disk = match format {
            ImageFormat::Raw => Disk::raw(image),
            ImageFormat::LUKS => Disk::luks(image, self.key)?,
            _ => return Ok(Digests::default()),
        };
        match digest(&disk, &wanted, self.options.threads, self.progress) {
            Ok(digest) => Ok(Digests { active: Some(digest), snapshots: Vec::new() }),
            Err(error) => Err(Error::Refused(format!("no digest: {}", error.reason))),
        }
    }
}
