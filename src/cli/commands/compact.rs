//! `qcheck compact`: make the file of an image shorter, in place.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::codec::Method;
use qcheck::compact::{CompactOptions, Outcome, compact, plan};
use qcheck::convert::Control;
use qcheck::file::Intent;
use qcheck::image::{BackingPolicy, Image, OpenOptions};
use qcheck::storage::Storage;

use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, QCOW2_ONLY};
use crate::cli::args::image_name::Named;
use crate::cli::args::image_name::changed::Changed;
use crate::cli::args::output::Output;
use crate::cli::args::size::{human_size, parse_size};
use crate::cli::files::guard::Guard;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::json::compacted::Compacted;
use crate::cli::render::json::document;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Make the file of an image shorter, in place, and keep all that it holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, which must be qcow2; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// Free guest clusters that hold only zeroes too, of the disk and of all snapshots
    #[arg(long)]
    zeroes: bool,

    /// Store guest data compressed too, of the disk and of all snapshots, by the method that the
    /// image records or by this one
    #[arg(long, value_name = "zlib|zstd", num_args = 0..=1, require_equals = true,
          conflicts_with_all = ["punch_only", "until", "max_moves"], hide_possible_values = true)]
    compress: Option<Option<Compression>>,

    /// Put data in the order of the guest too, and metadata together at the front
    #[arg(long, conflicts_with_all = ["punch_only", "until"])]
    defragment: bool,

    /// Move nothing: make holes of free clusters, and cut off the free end of the file
    #[arg(long, conflicts_with_all = ["until", "target_size", "max_moves", "rate"])]
    punch_only: bool,

    /// Stop where the file is no longer than SIZE
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    until: Option<u64>,

    /// Move everything below SIZE, so that a volume can be cut to that size; where that is not
    /// possible, change nothing
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    target_size: Option<u64>,

    /// Move at most so many bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    max_moves: Option<u64>,

    /// Move at most so many bytes a second
    #[arg(short, long, value_name = "RATE", value_parser = parse_size)]
    rate: Option<u64>,

    /// Report what would be done, exactly, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// How to print the result
    #[arg(long, value_enum, value_name = "human|json", default_value_t = Output::Human,
          hide_possible_values = true)]
    output: Output,

    #[command(flatten)]
    changed: Changed,
}

/// How data are compressed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Compression {
    Zlib,
    Zstd,
}

impl From<Compression> for Method {
    fn from(named: Compression) -> Self {
        match named {
            Compression::Zlib => Self::Zlib,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let named = args.changed.named(args.format)?;
    let path = named.written()?;
    let meter = args.changed.meter(ui);
    let cancel = signals::interruption();
    let control = Control { cancel: &cancel, progress: &meter };
    let outcome = match args.dry_run {
        true => args.plan(path, &named, control),
        false => args.compact(path, &named, control, ui),
    };
    meter.finish();
    let outcome = outcome?;
    match args.output {
        Output::Json => document::write(&mut ui.out, &Compacted::new(&outcome, args.dry_run))?,
        Output::Human if args.changed.quiet => {}
        Output::Human => args.print(&outcome, ui)?,
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

impl Args {
    fn options(&self) -> CompactOptions {
        CompactOptions::default()
            .zeroes(self.zeroes)
            .compress(self.compress.is_some())
            .method(self.compress.flatten().map(Method::from))
            .defragment(self.defragment)
            .punch_only(self.punch_only)
            .until(self.until)
            .target(self.target_size)
            .max_moves(self.max_moves)
            .rate(self.rate.filter(|&rate| rate > 0))
    }

    fn compact(
        &self,
        path: &Path,
        named: &Named,
        control: Control<'_>,
        ui: &mut Ui,
    ) -> Result<Outcome> {
        let guard = Guard::default();
        let allowed = guard.writes("the image", path)?;
        let opened = open::open(path, named.format, Intent::Change, false)?;
        allowed.opened(&opened.storage)?;
        require_qcow2(path, opened.format)?;
        let options = OpenOptions::default().backing(BackingPolicy::Leave).key(named.key.clone());
        let image = writable::open_qcow2(opened.storage, path, options, &remote::opener(), ui)?;
        compact(image, &self.options(), control).with_context(|| quoted(path).to_string())
    }

    fn plan(&self, path: &Path, named: &Named, control: Control<'_>) -> Result<Outcome> {
        let opened = open::open(path, named.format, Intent::ReadData, false)?;
        require_qcow2(path, opened.format)?;
        let capacity = opened.storage.capacity();
        let options = OpenOptions::default()
            .path(Some(path.to_owned()))
            .backing(BackingPolicy::Leave)
            .key(named.key.clone());
        let image = Image::open_read(Arc::new(opened.storage), &options, &remote::opener());
        let image = image.with_context(|| could_not_open(path))?;
        let planned = plan(&image, capacity, &self.options(), control);
        planned.with_context(|| quoted(path).to_string())
    }

    fn print(&self, outcome: &Outcome, ui: &mut Ui) -> Result<()> {
        let verb = |done: &'static str, planned: &'static str| match self.dry_run {
            true => planned,
            false => done,
        };
        let is_device =
            outcome.file_before == outcome.file_after && outcome.end_after < outcome.end_before;
        let (before, after) = match is_device {
            true => (outcome.end_before, outcome.end_after),
            false => (outcome.file_before, outcome.file_after),
        };
        let what = if is_device { "image" } else { "file" };
        let does = verb("ends", "would end");
        let line = format!("The {what} {does} at {} instead of {}.", exact(after), exact(before));
        ui.out.line(&line)?;
        let moved = exact(outcome.moved);
        let written = exact(outcome.written);
        ui.out.line(&format!(
            "{moved} {} moved, and {written} of metadata {} written.",
            verb("were", "would be"),
            verb("were", "would be"),
        ))?;
        let rest = [
            (
                outcome.recovered,
                verb(
                    "that an earlier run had leaked were freed",
                    "that an earlier run had leaked would be freed",
                ),
            ),
            (outcome.zeroes, verb("of zeroes were freed", "of zeroes would be freed")),
            (outcome.compressed, verb("were compressed", "would be compressed")),
            (
                outcome.external,
                verb(
                    "of zeroes in the data file were made holes",
                    "of zeroes in the data file would be made holes",
                ),
            ),
            (
                outcome.punched,
                verb("of free space were made holes", "of free space would be made holes"),
            ),
        ];
        for (bytes, what) in rest.into_iter().filter(|&(bytes, _)| bytes > 0) {
            ui.out.line(&format!("{} {what}.", exact(bytes)))?;
        }
        Ok(())
    }
}

fn require_qcow2(path: &Path, format: ImageFormat) -> Result<()> {
    if format != ImageFormat::Qcow2 {
        bail!("{}: cannot compact the format {}: {QCOW2_ONLY}", quoted(path), format.name());
    }
    Ok(())
}

fn exact(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", human_size(bytes))
}
