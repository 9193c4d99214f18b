//! `qcheck convert`: copy disks into a new image, or into an existing one.

mod args;
mod job;
pub(super) mod target;

use anyhow::{Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::convert::{Control, ConvertOptions, ConvertReport, DEFAULT_SPARSE};
use qcheck::crypt::{Key, Secrets};

use crate::cli::args::format::{ALL, parse_format};
use crate::cli::args::image_name::{ImageName, Named};
use crate::cli::args::options::{self, Table};
use crate::cli::args::output::Output;
use crate::cli::files::disks::Opening;
use crate::cli::files::guard::Guard;
use crate::cli::files::spool;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::json;
use crate::cli::render::json::losses::Losses;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

pub use args::Args;

use job::Job;
use target::Asked;

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    // The last one given counts, so that only that one has to be right.
    let parse = |name: &str| parse_format(name).map_err(|error| anyhow!(error));
    let format = parse(&args.target_format)?;
    let source_format = args.format.as_deref().map(parse).transpose()?;
    let Some(table) = Table::of_convert(format) else {
        bail!("cannot write the format {}: {ALL}", format.name());
    };
    let given = match options::parse(&args.target_options, table)? {
        options::Asked::Help => {
            options::help(&mut ui.out, table, !args.files.is_empty())?;
            return Ok(ExitCode::Success);
        }
        options::Asked::Options(given) => given,
    };
    let Some((target, sources)) =
        args.files.split_last().filter(|(_, sources)| !sources.is_empty())
    else {
        bail!("a source and a target are needed");
    };
    args.refuse_misfits(format == ImageFormat::Qcow2, sources.len())?;
    let secrets = args.objects.secrets()?;
    let named = |source: &ImageName| source.disk(args.image_opts, source_format, &secrets);
    let sources = sources.iter().map(named).collect::<Result<Vec<_>>>()?;
    let Named { path: target, key, .. } = &args.target(target, format, &secrets)?;
    let cancel = signals::interruption();
    let guard = Guard::default();
    let sources_open = args.opening(&guard).open_all(&sources)?;
    let mut asked = Asked::new(format, given, args.target_cache, key.clone())?;
    // An existing image keeps its own.
    if !args.no_create {
        asked.set_backing(args.backing.as_deref(), args.backing_format.as_deref(), target)?;
    }
    let meter = args.meter(ui, spool::is_stream(target));
    let control = Control { cancel: &cancel, progress: &meter };
    let options = args.options(asked.compression_level(args.compress)?);
    let job = Job { args, options, guard: &guard, control };
    let report = match spool::is_stream(target) {
        true => job.to_stream(sources_open, asked, target),
        false => job.to_file(sources_open, asked, target, ui),
    };
    meter.finish();
    args.tell(&report?, ui)?;
    Ok(ExitCode::Success)
}

impl Args {
    fn refuse_misfits(&self, qcow2: bool, sources: usize) -> Result<()> {
        let backing = self.backing.is_some() && !self.no_create;
        let misfits = [
            (self.target_is_zero && !self.no_create, "--target-is-zero needs -n"),
            (
                self.no_create && !self.target_options.is_empty(),
                "-o has no effect when skipping image creation",
            ),
            (self.compress && !qcow2, "raw images cannot be compressed"),
            (
                self.copy_range_offloading && self.sparse_size.is_some(),
                "-C copies without looking, so -S cannot be kept",
            ),
            (
                self.target_image_opts && !self.no_create,
                "--target-image-opts requires use of -n flag",
            ),
            (self.copy_range_offloading && self.compress, "-C cannot compress"),
            (self.skip_broken_bitmaps && !self.bitmaps, "--skip-broken-bitmaps needs --bitmaps"),
            (self.bitmaps && sources > 1, "bitmaps can be copied from a single source only"),
            (self.bitmaps && !qcow2, "raw images have no bitmaps"),
            (
                backing && sources > 1,
                "Having a backing file for the target makes no sense when concatenating multiple \
                 input images",
            ),
            (backing && !qcow2, "a raw image cannot have a backing file"),
            (
                self.backing_format.is_some() && self.backing.is_none() && !qcow2,
                "a raw image cannot have a backing file",
            ),
        ];
        match misfits.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => bail!("{why}"),
            None => Ok(()),
        }
    }

    /// The target. One that is made is given by the name of its file.
    fn target(&self, name: &ImageName, format: ImageFormat, secrets: &Secrets) -> Result<Named> {
        if !self.no_create {
            let key = Key { secrets: secrets.clone(), name: None };
            return Ok(Named::file(name.new_file()?, Some(format), key));
        }
        let named = match self.target_image_opts {
            true => name.named(true, None, secrets)?,
            false => name.named(false, Some(format), secrets)?,
        };
        named.written()?;
        Ok(named)
    }

    fn opening<'a>(&'a self, guard: &'a Guard) -> Opening<'a> {
        Opening {
            snapshot: self.source_snapshot.as_ref().or(self.snapshot.as_ref()),
            force_share: self.force_share,
            live: false,
            backing_format: self.source_backing_format.as_deref(),
            cache: self.source_cache,
            guard,
        }
    }

    fn options(&self, level: Option<u8>) -> ConvertOptions {
        ConvertOptions::default()
            .sparse(self.sparse_size.unwrap_or(DEFAULT_SPARSE))
            .compress(self.compress)
            .level(level)
            .threads(self.parallel.map_or(0, usize::from))
            .offload(self.copy_range_offloading)
            .only_different(self.no_create && self.backing.is_some())
            .layers(None)
            .salvage(self.salvage)
            .bitmaps(self.bitmaps)
            .skip_broken_bitmaps(self.skip_broken_bitmaps)
            .rate(self.rate.filter(|&rate| rate > 0))
    }

    fn meter(&self, ui: &Ui, to_stdout: bool) -> Meter {
        match to_stdout {
            true => Meter::new(ui.name(), self.progress, self.quiet, ui.err.is_terminal()),
            false => Meter::of_qemu(ui, self.progress, self.quiet),
        }
    }

    /// Reports what was lost.
    fn tell(&self, report: &ConvertReport, ui: &mut Ui) -> Result<()> {
        for name in &report.skipped_bitmaps {
            let name = name.escape_debug();
            ui.message(&format!("the bitmap '{name}' is not consistent and was left out"))?;
        }
        if self.output == Output::Json {
            json::document::write(&mut ui.out, &Losses::from(report))?;
            std::io::Write::flush(&mut ui.out)?;
        } else if !self.quiet {
            for loss in &report.losses {
                let (start, end) = (loss.range.start, loss.range.end);
                ui.message(&format!("lost: guest offset {start:#x} to {end:#x}: {}", loss.reason))?;
            }
        }
        Ok(())
    }
}
