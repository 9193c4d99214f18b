//! `qcheck measure`: how long the file of a new image will be.

use std::io::Write;

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::measure::{Measure, TargetFormat, measure_disk, measure_size};

use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::quoted;
use crate::cli::args::format::{self, ALL, parse_format};
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::new_image::create_options;
use crate::cli::args::new_image::encryption::Given;
use crate::cli::args::options::{self, Asked, Options, Table};
use crate::cli::args::output::Output;
use crate::cli::args::size::{SizeError, parse_size};
use crate::cli::args::snapshot::{Choice, parse_choice};
use crate::cli::files::disks::Opening;
use crate::cli::files::guard::Guard;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::json::document;
use crate::cli::render::json::measured::Measured;
use crate::cli::terminal::ui::Ui;

/// Calculate the length of a new image's file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The format of the image that is measured, qcow2 or raw; detected from its first bytes if not
    /// given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// The format of the new image
    #[arg(short = 'O', long, value_name = "FMT", default_value = "raw",
          value_parser = format::name_parser(), hide_possible_values = true)]
    target_format: String,

    /// Options of the new image, as name=value,...; "help" lists them
    #[arg(short = 'o', long = "options", value_name = "OPTIONS",
          action = clap::ArgAction::Append)]
    target_options: Vec<String>,

    /// Measure a new image of this size without data
    #[arg(short = 's', long, value_name = "SIZE", value_parser = parse_bytes)]
    size: Option<u64>,

    /// Measure this snapshot of the image: its id or name, or snapshot.id=..,snapshot.name=..
    #[arg(short = 'l', long, value_name = "SNAPSHOT", value_parser = parse_choice)]
    snapshot: Option<Choice>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    output: Output,

    /// Take the image as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// Read the image even if another program has it open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// Measure a new image with the content of this one
    #[arg(value_parser = image_name::parser())]
    image: Option<ImageName>,
}

fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    parse_size(text)
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let target = parse_format(&args.target_format).map_err(|error| anyhow!(error))?;
    let Some(table) = Table::of_create(target) else {
        bail!("cannot measure for the format {}: {ALL}", target.name());
    };
    args.refuse_misfits()?;
    let given = match options::parse(&args.target_options, table)? {
        Asked::Help => {
            options::help(&mut ui.out, table, true)?;
            return Ok(ExitCode::Success);
        }
        Asked::Options(given) => given,
    };
    print(&args.measure(target, &given)?, args.output, ui)?;
    Ok(ExitCode::Success)
}

impl Args {
    fn refuse_misfits(&self) -> Result<()> {
        match (&self.image, self.size) {
            (Some(_), Some(_)) => bail!("--size N cannot be used together with a filename."),
            (None, None) => bail!("Either --size N or one filename must be specified."),
            (None, Some(_)) if self.format.is_some() || self.snapshot.is_some() => {
                bail!("-f and -l require a filename argument.")
            }
            _ => Ok(()),
        }
    }

    fn measure(&self, target: ImageFormat, given: &Options) -> Result<Measure> {
        let secrets = self.objects.secrets()?;
        let encryption = Given::of(given, target)?;
        let luks = encryption.map(|encryption| encryption.luks(&secrets)).transpose()?;
        let options = match target {
            ImageFormat::Qcow2 => Some(create_options(given)?),
            _ => None,
        };
        let format = match (&options, luks) {
            (Some(options), None) => TargetFormat::Qcow2(options),
            (Some(options), Some(luks)) => TargetFormat::EncryptedQcow2(options, luks),
            (None, Some(luks)) => TargetFormat::Luks(luks),
            (None, None) => TargetFormat::Raw,
        };
        let Some(name) = &self.image else {
            return Ok(measure_size(self.size.unwrap_or(0), &format)?);
        };
        let image = name.disk(self.image_opts, self.format, &secrets)?;
        let opening = Opening {
            snapshot: self.snapshot.as_ref(),
            force_share: self.force_share,
            live: true,
            backing_format: None,
            cache: Cache::Writeback,
            guard: &Guard::default(),
        };
        let disk = opening.open_metadata(&image)?;
        measure_disk(&disk, &format).with_context(|| quoted(&image.path).to_string())
    }
}

fn print(measure: &Measure, output: Output, ui: &mut Ui) -> Result<()> {
    match output {
        Output::Human => {
            ui.out.line(&format!("required size: {}", measure.required))?;
            ui.out.line(&format!("fully allocated size: {}", measure.fully_allocated))?;
            if let Some(bytes) = measure.bitmaps {
                ui.out.line(&format!("bitmaps size: {bytes}"))?;
            }
        }
        Output::Json => {
            document::write(&mut ui.out, &Measured::from(measure))?;
        }
    }
    ui.out.flush().context("could not write the result")
}
