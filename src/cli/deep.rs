//! `--data` and `--digest`: what reading everything tells, beside the check.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use qcheck::check::{Affected, CheckOptions, CheckReport, survey};
use qcheck::convert::Disk;
use qcheck::error::Error;
use qcheck::image::{FileOpener, Opener};
use qcheck::policy::{Policy, Trait};
use qcheck::progress::Progress;
use qcheck::storage::ReadAt;
use qcheck::verify::{Algorithm, Digest, Digests, Files, Wanted, deep, digest, digests};
use serde_json::{Value, json};

use super::ui::Ui;

/// What to read.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Data")]
#[group(skip)]
pub struct Args {
    /// Read and unpack all guest data, of snapshots too, and the data of bitmaps, and look whether the
    /// external data file and all backing files are there
    #[arg(long, conflicts_with = "repair")]
    data: bool,

    /// Print a digest of the disk as a guest sees it, and of each snapshot's: the same for each format
    #[arg(long, value_enum, value_name = "sha256|blake3", conflicts_with = "repair")]
    digest: Option<Kind>,
}

/// Algorithms by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// What sha256sum prints of the raw disk
    Sha256,
    /// What b3sum prints of the raw disk, made by several threads
    Blake3,
}

/// What is read of each image, and how.
#[derive(Debug, Clone, Copy)]
pub struct Deep {
    data: bool,
    digest: Option<Wanted>,
    opener: Option<FileOpener>,
}

/// What came out for one image.
#[derive(Debug)]
pub struct Checked {
    /// The findings.
    pub report: CheckReport,
    /// What they mean for guests.
    pub affected: Affected,
    /// The digests, where they were asked for.
    pub digests: Digests,
}

impl Args {
    /// With a policy that denies files that an image names, none is opened.
    pub fn deep(&self, policy: &Policy, force_share: bool) -> Deep {
        let denied = [Trait::Backing, Trait::DataFile];
        let denied = denied.iter().any(|word| policy.denied.contains(word));
        let digest = self.digest.map(|kind| Wanted {
            algorithm: match kind {
                Kind::Sha256 => Algorithm::Sha256,
                Kind::Blake3 => Algorithm::Blake3,
            },
            max_bytes: policy.max_virtual_bytes,
            snapshots: !policy.denied.contains(&Trait::Snapshots),
        });
        Deep { data: self.data, digest, opener: (!denied).then_some(FileOpener { force_share }) }
    }
}

impl Deep {
    /// Checks a qcow2 image, and reads of it what is wanted.
    pub fn check(
        &self,
        image: Arc<dyn ReadAt>,
        path: &Path,
        options: &CheckOptions,
        progress: &dyn Progress,
    ) -> Result<Checked, Error> {
        let source = image.as_ref();
        let mut survey = survey(source, options, progress)?;
        let opener = self.opener.as_ref().map(|opener| opener as &dyn Opener);
        let files = Files { path, opener };
        if self.data {
            deep(source, &mut survey, &files, options, progress);
        }
        let digests = match self.digest {
            Some(wanted) => digests(&image, &mut survey, &files, wanted, options, progress),
            None => Digests::default(),
        };
        let affected = Affected::find(source, &survey);
        Ok(Checked { report: survey.report, affected, digests })
    }

    /// Whether digests are wanted.
    pub const fn has_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// The digest of a raw image, where one is wanted.
    pub fn raw(
        &self,
        image: Arc<dyn ReadAt>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Digests> {
        let Some(wanted) = self.digest else { return Ok(Digests::default()) };
        match digest(&Disk::Raw(image), &wanted, threads, progress) {
            Ok(digest) => Ok(Digests { active: Some(digest), snapshots: Vec::new() }),
            Err(error) => bail!("no digest: {}", error.reason),
        }
    }
}

/// Prints the digest of a raw image, of which nothing else can be told.
pub fn tell_raw(path: &Path, digests: &Digests, as_json: bool, ui: &mut Ui) -> Result<()> {
    if as_json {
        let mut value = json!({ "filename": path.to_string_lossy(), "format": "raw" });
        add_to(&mut value, digests);
        super::json::write(&mut ui.out, &value)?;
    } else {
        text(&mut ui.out, "", digests)?;
    }
    ui.out.flush().context("could not write the result")
}

/// A line for each digest, behind `prefix`.
pub fn text(out: &mut dyn Write, prefix: &str, digests: &Digests) -> io::Result<()> {
    if let Some(digest) = &digests.active {
        writeln!(out, "{prefix}{}: {}", digest.algorithm.name(), digest.hex())?;
    }
    for one in &digests.snapshots {
        let Some(digest) = &one.digest else { continue };
        // A name must not pass for another line.
        let (id, name) = (one.snapshot.id.escape_debug(), one.snapshot.name.escape_debug());
        let algorithm = digest.algorithm.name();
        writeln!(out, "{prefix}{algorithm} of snapshot {id} ({name}): {}", digest.hex())?;
    }
    Ok(())
}

/// Adds the digests to an image's object, behind qemu-img's keys.
pub fn add_to(value: &mut Value, digests: &Digests) {
    if let Some(digest) = &digests.active {
        value["digest"] = describe(digest);
    }
    if !digests.snapshots.is_empty() {
        let one = |one: &qcheck::verify::SnapshotDigest| {
            let mut value = json!({ "id": one.snapshot.id, "name": one.snapshot.name });
            if let Some(digest) = &one.digest {
                value["digest"] = describe(digest);
            }
            value
        };
        value["snapshots"] = digests.snapshots.iter().map(one).collect();
    }
}

fn describe(digest: &Digest) -> Value {
    json!({ "algorithm": digest.algorithm.name(), "value": digest.hex(), "size": digest.size })
}
