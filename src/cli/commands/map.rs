//! `qcheck map`: where the bytes of a disk are.

use std::io::Write;

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::disk::{Disk, ExtentKind};

use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::quoted;
use crate::cli::args::format;
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::output::Output;
use crate::cli::args::size::{SizeError, parse_size};
use crate::cli::files::disks::Opening;
use crate::cli::files::guard::Guard;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::extents::Printer;
use crate::cli::terminal::ui::Ui;

/// Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// How to print the result; for people, only data is printed
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    output: Output,

    /// Begin at this guest offset
    #[arg(short, long, value_name = "OFFSET", value_parser = parse_bytes, default_value = "0",
          hide_default_value = true)]
    start_offset: u64,

    /// End after this many bytes
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = parse_bytes)]
    max_length: Option<u64>,

    /// Take the image as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// Read the image even if another program has it open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// The image
    #[arg(value_parser = image_name::parser())]
    image: ImageName,
}

fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    parse_size(text)
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let image = args.image.disk(args.image_opts, args.format, &args.objects.secrets()?)?;
    let opening = Opening {
        snapshot: None,
        force_share: args.force_share,
        live: true,
        backing_format: None,
        cache: Cache::Writeback,
        guard: &Guard::default(),
    };
    let disk = opening.open_metadata(&image)?;
    let mut printer = Printer::new(&mut ui.out, args.output);
    let outcome = print(args, &disk, &mut printer);
    if outcome.is_err() {
        // What was found before it is printed.
        printer.write_text()?;
    }
    ui.out.flush().context("could not write the result")?;
    outcome.map(|()| ExitCode::Success)
}

fn print(args: &Args, disk: &Disk, printer: &mut Printer<impl Write>) -> Result<()> {
    let start = args.start_offset;
    let end = args.max_length.map_or(u64::MAX, |length| start.saturating_add(length));
    for extent in disk.extents(start..end) {
        let extent = extent.with_context(|| quoted(args.image.text()).to_string())?;
        // The table has offsets only.
        let is_elsewhere = extent.kind == ExtentKind::Data && extent.host.is_none();
        if args.output == Output::Human && is_elsewhere {
            bail!(
                "File contains external, encrypted or compressed clusters. \
                 --output json prints their map"
            );
        }
        printer.add(&extent)?;
    }
    Ok(printer.end(start)?)
}
