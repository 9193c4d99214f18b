//! `--since FILE`: images that did not change since they were found clean are not checked again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qcheck::policy::Policy;

use super::args::Args;
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::files::fingerprint::Fingerprint;
use crate::cli::files::targets::Target;
use crate::cli::files::whole::WholeFile;
use crate::cli::render::verdict::Judged;
use crate::cli::render::verdict::record::Record;
use crate::cli::render::verdict::summary;

/// What earlier runs recorded.
pub struct Since {
    path: PathBuf,
    /// What a verdict depends on beside the image.
    options: String,
    records: BTreeMap<String, Record>,
}

impl Since {
    /// Reads the file; one that does not exist has no records.
    pub fn load(path: &Path, args: &Args, policy: &Policy) -> Result<Self> {
        let format = args.format.map(|format| format.name());
        let options = format!("{} {format:?} {policy:?}", env!("CARGO_PKG_VERSION"));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| could_not_open(path)),
        };
        let mut records = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let record: Record = serde_json::from_str(line).with_context(|| {
                format!("{}: line {} is not a record of --since", quoted(path), number + 1)
            })?;
            records.insert(record.filename.clone(), record);
        }
        Ok(Self { path: path.to_owned(), options, records })
    }

    /// What is recorded of an image that was clean, without any finding, and has not changed. All
    /// others are checked again.
    pub fn unchanged(&self, target: &Target, now: &Fingerprint) -> Option<&Record> {
        // Other names may look alike once they are made text.
        let record = self.records.get(target.path.to_str()?)?;
        let was_clean = record.verdict == "clean"
            && record.options == self.options
            && record.summary.as_ref().is_some_and(|summary| summary.codes.is_empty());
        let is_same = record.file.as_ref().is_some_and(|file| file.proves(now));
        (was_clean && is_same).then_some(record)
    }

    /// The record of a new result.
    pub fn record(&self, judged: &Judged) -> Record {
        summary::record(judged, &self.options)
    }

    /// Writes the file with the results of this run, and what is recorded of other images.
    pub fn finish(mut self, new: Vec<Record>, targets: &[Target]) -> Result<()> {
        self.records.extend(new.into_iter().map(|record| (record.filename.clone(), record)));
        let file = WholeFile::begin(&self.path)?;
        file.require_no_image(&self.path, targets)?;
        let context = || format!("could not write {}", quoted(&self.path));
        let mut out = io::BufWriter::new(file.writer().with_context(context)?);
        for record in self.records.values() {
            serde_json::to_writer(&mut out, record).with_context(context)?;
            out.write_all(b"\n").with_context(context)?;
        }
        out.flush().with_context(context)?;
        drop(out);
        file.finish()
    }
}
