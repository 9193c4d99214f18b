//! `qcheck compare`: whether two images have the same content.

use std::io::Write;

use anyhow::{Context, Result, anyhow};
use qcheck::compare::{CompareOptions, Difference, Failure, Phase, Side, compare};
use qcheck::crypt::Secrets;
use qcheck::disk::Disk;

use crate::cli::args::cache::parse_cache;
use crate::cli::args::file_name::quoted;
use crate::cli::args::format::{self, parse_format};
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::files::disks::Opening;
use crate::cli::files::guard::Guard;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;
use crate::cli::terminal::{fault, signals};

/// Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments,
/// 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The format of the first image, qcow2 or raw; detected from its first bytes if not given
    #[arg(short = 'f', long = "a-format", value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    first_format: Option<String>,

    /// The format of the second image
    #[arg(short = 'F', long = "b-format", value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    second_format: Option<String>,

    /// Also compare the sizes, and which ranges the images record as data, zeroes or nothing
    #[arg(short, long)]
    strict: bool,

    /// How the images are read: writeback, writethrough, none, directsync or unsafe
    #[arg(short = 'T', long, value_name = "CACHE", default_value = "writeback")]
    cache: String,

    /// Take the images as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// Read the images even if another program has them open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// Show the progress
    #[arg(short, long)]
    progress: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,

    /// The first image
    #[arg(value_name = "FILE1", value_parser = image_name::parser())]
    first: ImageName,

    /// The second image
    #[arg(value_name = "FILE2", value_parser = image_name::parser())]
    second: ImageName,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let (first, second) = match args.open_both() {
        Ok(disks) => disks,
        Err(error) => {
            ui.error(&fault::failure(&error))?;
            return Ok(ExitCode::NOT_OPENED);
        }
    };
    let sizes = (first.size()?, second.size()?);
    let meter = Meter::of_qemu(ui, args.progress, args.quiet).cancelled_by(signals::interruption());
    let options = CompareOptions::default().strict(args.strict).threads(0);
    let outcome = compare(&first, &second, options, &meter);
    meter.finish();
    let at = match &outcome {
        Ok(Some(Difference::Content(at))) => *at,
        Err(failure) => failure.offset,
        Ok(_) => u64::MAX,
    };
    // As in qemu-img, where all that both disks have is the same.
    if sizes.0 != sizes.1 && !args.strict && at >= sizes.0.min(sizes.1) {
        args.line(ui, "Warning: Image size mismatch!")?;
    }
    let line = match outcome {
        Err(failure) => return args.failed(&failure, ui),
        Ok(None) => "Images are identical.".to_owned(),
        Ok(Some(Difference::Content(at))) => format!("Content mismatch at offset {at}!"),
        Ok(Some(Difference::Status(at))) => {
            format!("Strict mode: Offset {at} block status mismatch!")
        }
        Ok(Some(_)) => "Strict mode: Image size mismatch!".to_owned(),
    };
    args.line(ui, &line)?;
    ui.out.flush().context("could not write the result")?;
    Ok(if matches!(outcome, Ok(None)) { ExitCode::Success } else { ExitCode::Failure })
}

impl Args {
    fn open_both(&self) -> Result<(Disk, Disk)> {
        let secrets = self.objects.secrets()?;
        let first = self.open(&self.first, self.first_format.as_deref(), &secrets)?;
        let second = self.open(&self.second, self.second_format.as_deref(), &secrets)?;
        Ok((first, second))
    }

    fn open(&self, name: &ImageName, format: Option<&str>, secrets: &Secrets) -> Result<Disk> {
        let format = format.map(parse_format).transpose().map_err(|error| anyhow!(error))?;
        let image = name.disk(self.image_opts, format, secrets)?;
        let cache = parse_cache(&self.cache);
        let cache = cache.map_err(|error| anyhow!("cache mode '{}': {error}", self.cache))?;
        let opening = Opening {
            snapshot: None,
            force_share: self.force_share,
            live: true,
            backing_format: None,
            cache,
            guard: &Guard::default(),
        };
        opening.open(&image)
    }

    fn line(&self, ui: &mut Ui, text: &str) -> Result<()> {
        if !self.quiet {
            ui.out.line(text)?;
        }
        Ok(())
    }

    fn failed(&self, failure: &Failure, ui: &mut Ui) -> Result<ExitCode> {
        let path = match failure.side {
            Side::First => &self.first,
            Side::Second => &self.second,
        };
        ui.out.flush()?;
        ui.error(&format!(
            "{}: guest offset {:#x}: {failure}",
            quoted(path.text()),
            failure.offset
        ))?;
        Ok(match failure.phase {
            Phase::Mapping => ExitCode::NOT_MAPPED,
            Phase::Reading => ExitCode::NOT_READ,
        })
    }
}
