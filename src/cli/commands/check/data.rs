//! `--data` and `--digest`: what reading everything tells, beside the check.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use qcheck::check::{Affected, CheckOptions, Finding, Kind, Place, Survey, survey};
use qcheck::disk::Disk;
use qcheck::error::Error;
use qcheck::format::header::HeaderField;
use qcheck::image::{FileOpener, Opener};
use qcheck::policy::{MAX_RATIO, Policy, Trait};
use qcheck::progress::Progress;
use qcheck::storage::ReadAt;
use qcheck::verify::{Algorithm, Digests, Files, Wanted, deep, digest, digests};

use crate::cli::files::open::Purpose;
use crate::cli::render::outcome::Checked;

/// What to read.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Data")]
#[group(skip)]
pub struct Args {
    /// Read and unpack all guest data, of snapshots too, and the data of bitmaps, and look whether
    /// the external data file and all backing files are there
    #[arg(long, conflicts_with = "repair")]
    data: bool,

    /// Print a digest of the disk as a guest sees it, and of each snapshot's: the same for each
    /// format
    #[arg(long, value_enum, value_name = "sha256|blake3", conflicts_with = "repair")]
    digest: Option<Hash>,
}

/// Algorithms by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Hash {
    /// What sha256sum prints of the raw disk
    Sha256,
    /// What b3sum prints of the raw disk, made by several threads
    Blake3,
}

/// What is read of each image, and how.
#[derive(Debug, Clone)]
pub struct Deep {
    data: bool,
    digest: Option<Wanted>,
    opener: FileOpener,
    policy: Policy,
}

impl Args {
    /// What a policy denies is not opened.
    pub fn deep(&self, policy: &Policy, force_share: bool) -> Deep {
        let digest = self.digest.map(|kind| Wanted {
            algorithm: match kind {
                Hash::Sha256 => Algorithm::Sha256,
                Hash::Blake3 => Algorithm::Blake3,
            },
            max_bytes: policy.max_virtual_bytes,
            snapshots: !policy.denied.contains(&Trait::Snapshots),
        });
        let opener = FileOpener { force_share, ..FileOpener::default() };
        Deep { data: self.data, digest, opener, policy: policy.clone() }
    }
}

impl Deep {
    /// What an image is opened for.
    pub const fn purpose(&self) -> Purpose {
        match self.data || self.digest.is_some() {
            true => Purpose::ReadData,
            false => Purpose::ReadMetadata,
        }
    }

    /// Checks a qcow2 image, and reads of it what is wanted.
    pub fn check(
        &self,
        image: Arc<dyn ReadAt>,
        path: &Path,
        options: &CheckOptions,
        progress: &dyn Progress,
    ) -> Result<(Checked, Digests), Error> {
        let source = image.as_ref();
        let mut survey = survey(source, options, progress)?;
        if self.is_too_much(source, &mut survey)? {
            let affected = Affected::find(source, &survey);
            return Ok((Checked { report: survey.report, affected }, Digests::default()));
        }
        let allowed = |word| {
            let is = !self.policy.denied.contains(&word);
            is.then_some(&self.opener as &dyn Opener)
        };
        let (backing, data_file) = (allowed(Trait::Backing), allowed(Trait::DataFile));
        let files = Files { path, backing, data_file };
        if self.data {
            deep(source, &mut survey, &files, options, progress);
        }
        let digests = match self.digest {
            Some(wanted) => digests(&image, &mut survey, &files, wanted, options, progress),
            None => Digests::default(),
        };
        let affected = Affected::find(source, &survey);
        Ok((Checked { report: survey.report, affected }, digests))
    }

    /// Whether an image holds more than the policy allows for its size, so that its data is not
    /// read.
    fn is_too_much(&self, source: &dyn ReadAt, survey: &mut Survey) -> Result<bool, Error> {
        let bytes = source.len().map_err(|e| Error::file("tell the file's length", e))?;
        let violations = self.policy.judge(&survey.report, bytes);
        let is = violations.iter().any(|violation| violation.word == MAX_RATIO);
        if is && (self.data || self.digest.is_some()) {
            let place = Place::Header(HeaderField::Size.place().0);
            let finding = Finding::new(Kind::NotOpened("the guest's data"), place);
            survey.report.add(finding, usize::MAX);
        }
        Ok(is)
    }

    /// The digest of a raw image, where one is wanted.
    pub fn raw(
        &self,
        image: Arc<dyn ReadAt>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Digests> {
        let Some(wanted) = self.digest else { return Ok(Digests::default()) };
        match digest(&Disk::raw(image), &wanted, threads, progress) {
            Ok(digest) => Ok(Digests { active: Some(digest), snapshots: Vec::new() }),
            Err(error) => bail!("no digest: {}", error.reason),
        }
    }
}
