//! One conversion with everything that it needs: into a file, or into a stream.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use qcheck::convert::{Control, ConvertOptions, ConvertReport, SourceDisk, verify};
use qcheck::image::FileOpener;

use super::args::Args;
use super::target::{Asked, Target};
use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::quoted;
use crate::cli::args::image_name::Named;
use crate::cli::args::output::Output;
use crate::cli::files::disks::{Opening, Sources};
use crate::cli::files::guard::Guard;
use crate::cli::files::remote;
use crate::cli::files::spool;
use crate::cli::terminal::ui::Ui;

/// A conversion.
pub struct Job<'a> {
    /// What the user requested.
    pub args: &'a Args,
    /// How to convert.
    pub options: ConvertOptions,
    /// The files that are read and written.
    pub guard: &'a Guard,
    /// Cancellation and progress.
    pub control: Control<'a>,
}

impl Job<'_> {
    /// Makes a file, or writes into one that exists.
    pub fn to_file(
        &self,
        mut sources: Sources,
        asked: Asked,
        path: &Path,
        ui: &mut Ui,
    ) -> Result<ConvertReport> {
        let context = || quoted(path).to_string();
        let made = Named::file(path.to_owned(), Some(asked.format()), asked.key().clone());
        if self.args.verify || (asked.needs_size() && !self.args.no_create) {
            // A stream is gone once it is read.
            sources = Sources::Disks(sources.into_disks()?);
        }
        let target = match self.args.no_create {
            true => {
                self.guard.writes("the target", path)?;
                let opener = self.guard.opener(FileOpener {
                    force_share: self.args.force_share,
                    unflushed: self.args.target_cache == Cache::Unsafe,
                    ..remote::opener()
                });
                Target::open(path, asked, self.args.target_is_zero, &opener, ui)
            }
            false => Target::create(path, asked, sources.bytes().unwrap_or(0), self.guard),
        };
        let target = target?;
        match target.convert(sources.input(), &self.options, self.control) {
            Ok(report) => {
                target.close().with_context(context)?;
                if let (true, Sources::Disks(source)) = (self.args.verify, &sources) {
                    self.verify(source, &made).with_context(context)?;
                }
                Ok(report)
            }
            Err(error) => {
                let left = target.give_up();
                Err(error.context(format!("{}{left}", context())))
            }
        }
    }

    /// Writes a stream.
    pub fn to_stream(&self, sources: Sources, asked: Asked, path: &Path) -> Result<ConvertReport> {
        if self.args.no_create || self.args.verify || self.args.output == Output::Json {
            bail!("-n, --verify and --output json need a target that is a file");
        }
        let mut out = spool::output(path)?;
        self.guard.writes_open(&out, path)?;
        let is_spooled = asked.needs_size()
            || asked.is_qcow2() && !asked.streams(self.args.compress || self.args.bitmaps);
        match is_spooled {
            true => self.by_way_of_a_file(sources, asked, path, &mut out),
            false => asked.write_into(sources, &mut out, &self.options, self.control),
        }
        .with_context(|| quoted(path).to_string())
    }

    /// Makes the target in a file without a name first.
    fn by_way_of_a_file(
        &self,
        mut sources: Sources,
        asked: Asked,
        path: &Path,
        out: &mut File,
    ) -> Result<ConvertReport> {
        if asked.needs_size() {
            sources = Sources::Disks(sources.into_disks()?);
        }
        let size = sources.bytes().unwrap_or(0);
        let target = Target::create(path, asked, size, self.guard)?;
        let report = target.convert(sources.input(), &self.options, self.control)?;
        target.give_out(out)?;
        Ok(report)
    }

    fn verify(&self, source: &SourceDisk, made: &Named) -> Result<()> {
        let opening = Opening {
            snapshot: None,
            force_share: false,
            live: false,
            backing_format: None,
            cache: self.args.target_cache,
            guard: &Guard::default(),
        };
        let made = SourceDisk::new(vec![opening.open(made)?])?;
        Ok(verify(source, &made, &self.options, self.control)?)
    }
}
