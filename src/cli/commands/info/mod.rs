//! `qcheck info`: what is this image.

mod inspect;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qcheck::format::probe::ImageFormat;
use qcheck::image::backing::{MAX_DEPTH, is_raw_name};
use qcheck::info::qcow2_info;
use qcheck::storage::{Capacity, ReadAt, Storage};
use serde_json::Value;

use crate::cli::args::file_name::{self, could_not_open, quoted};
use crate::cli::args::format::{BOTH, format_name, parse_format};
use crate::cli::args::output::Output;
use crate::cli::files::open::{self, Purpose};
use crate::cli::render::exit::ExitCode;
use crate::cli::render::image::ImageInfo;
use crate::cli::render::{json, text};
use crate::cli::terminal::ui::{self, Ui};

/// Tell what an image is: format, sizes, snapshots, bitmaps.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; told from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = parse_format)]
    format: Option<ImageFormat>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    output: Output,

    /// Tell of the backing file too, and of its backing file, and so on
    #[arg(short, long)]
    backing_chain: bool,

    /// Tell of every header field and every table, where it lies, and which bytes of the file are
    /// for what; not together with --map
    #[arg(long, conflicts_with_all = ["backing_chain", "map"])]
    metadata: bool,

    /// Draw the file's layout and how the disk is allocated; with --output json as runs; not
    /// together with --metadata
    #[arg(long, conflicts_with = "backing_chain")]
    map: bool,

    /// Read the image even if another program has it open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// The image
    #[arg(value_parser = file_name::parser())]
    image: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    match (args.metadata, args.map) {
        (true, _) => metadata(args, ui),
        (_, true) => map(args, ui),
        (false, false) => describe(args, ui),
    }
}

/// Tells what qemu-img tells.
fn describe(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let chain = chain(args, ui)?;
    match args.output {
        Output::Human => {
            for (number, image) in chain.iter().enumerate() {
                if number > 0 {
                    ui.out.line("")?;
                }
                text::info::print(&mut ui.out, image)?;
            }
        }
        Output::Json => {
            let mut values: Vec<Value> = chain.iter().map(json::info::image).collect();
            let value = match values.pop() {
                Some(only) if !args.backing_chain => only,
                last => values.into_iter().chain(last).collect(),
            };
            json::document::write(&mut ui.out, &value)?;
        }
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

/// Tells of the metadata. The header's fields are told of even where nothing else can be.
fn metadata(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let begun = inspect::open(&args.image, args.format, args.force_share)?;
    let fields = begun.fields.clone();
    let human = args.output == Output::Human;
    if human {
        text::metadata::head(&mut ui.out, &args.image, &fields)?;
    }
    let image = begun.inspect(ui);
    if human {
        ui.out.flush()?;
    }
    let image = image?;
    if human {
        text::metadata::rest(&mut ui.out, &image)?;
    } else {
        json::metadata::print(&mut ui.out, &image, &fields)?;
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

/// Draws the file and the disk.
fn map(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let image = inspect::open(&args.image, args.format, args.force_share)?.inspect(ui)?;
    match args.output {
        Output::Human => text::map::print(&mut ui.out, &image, ui::width())?,
        Output::Json => json::map::print(&mut ui.out, &image)?,
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

/// The image, and with `--backing-chain` those below it.
fn chain(args: &Args, ui: &mut Ui) -> Result<Vec<ImageInfo>> {
    let mut chain: Vec<ImageInfo> = Vec::new();
    let mut seen = Vec::new();
    let mut next = Some((args.image.clone(), args.format));
    while let Some((path, format)) = next {
        let identity = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if seen.contains(&identity) {
            bail!("{}: the backing chain comes back to it", quoted(&path));
        }
        if chain.len() >= MAX_DEPTH {
            bail!("{}: the backing chain is longer than {MAX_DEPTH} images", quoted(&path));
        }
        seen.push(identity);
        let image = look(&path, format, args.force_share, ui)?;
        next = match image.full_backing_name() {
            Some(name) if args.backing_chain => {
                let below = file_name::parse(name.into()).map_err(anyhow::Error::msg)?;
                Some((below, backing_format(&path, &image)?))
            }
            _ => None,
        };
        chain.push(image);
    }
    Ok(chain)
}

/// The format that an image gives for its backing file.
fn backing_format(path: &Path, image: &ImageInfo) -> Result<Option<ImageFormat>> {
    let named = image.qcow2.as_ref().and_then(|q| q.backing_format.as_deref());
    match named.map(|name| if is_raw_name(name) { "raw" } else { name }).map(parse_format) {
        Some(Ok(format)) => Ok(Some(format)),
        Some(Err(error)) => bail!("{}: backing file: {error}", quoted(path)),
        None => {
            log::warn!("{}: no format for the backing file; it is guessed", path.display());
            Ok(None)
        }
    }
}

fn look(
    path: &Path,
    format: Option<ImageFormat>,
    force_share: bool,
    ui: &mut Ui,
) -> Result<ImageInfo> {
    let image = open::open(path, format, Purpose::Describe, force_share)?;
    if let Some(notice) = open::likeness_notice(path, &image, format) {
        ui.message(&notice)?;
    }
    let context = || quoted(path).to_string();
    let sectors = |bytes: u64| bytes.checked_next_multiple_of(512).unwrap_or(bytes);
    let file_bytes = sectors(image.storage.len().with_context(context)?);
    let qcow2 = match image.format {
        ImageFormat::Qcow2 => {
            Some(qcow2_info(&image.storage).with_context(|| could_not_open(path))?)
        }
        ImageFormat::Raw => None,
        ImageFormat::Other(name) => {
            bail!("{}: cannot read the format {name}: {BOTH}", quoted(path))
        }
    };
    let is_file = image.storage.capacity() == Capacity::Growable;
    Ok(ImageInfo {
        filename: path.to_string_lossy().into_owned(),
        format: format_name(image.format),
        protocol: if is_file { "file" } else { "host_device" },
        file_bytes,
        disk_bytes: image.storage.disk_usage().with_context(context)?,
        virtual_bytes: qcow2.as_ref().map_or(file_bytes, |q| q.geometry.virtual_size()),
        qcow2,
    })
}
