//! `qcheck info`: what is this image.

mod inspect;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::chain::Walk;
use qcheck::file::{ImageFile, Intent};
use qcheck::info::{luks_info, qcow2_info};
use qcheck::remote::{identity, protocol, without_secrets};
use qcheck::storage::{Capacity, FileStorage, ReadAt, Storage};
use qcheck::tables::HeaderArea;

use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, BOTH};
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName, Named};
use crate::cli::args::output::Output;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::image::ImageInfo;
use crate::cli::render::json::described::image::Image;
use crate::cli::render::{json, text};
use crate::cli::terminal::ui::{self, Ui};

/// Show what an image is: format, sizes, snapshots, bitmaps.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    output: Output,

    /// Show the backing file too, and its backing file, and so on
    #[arg(short, long)]
    backing_chain: bool,

    /// Show every header field and every table with its offset, and which bytes of the file are
    /// for what; not together with --layout
    #[arg(long, conflicts_with_all = ["backing_chain", "layout"])]
    metadata: bool,

    /// Draw the layout of the file and the allocation of the disk; with --output json print runs;
    /// not together with --metadata
    #[arg(long, alias = "map", conflicts_with = "backing_chain")]
    layout: bool,

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

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let image = args.image.named(args.image_opts, args.format, &args.objects.secrets()?)?;
    match (args.metadata, args.layout) {
        (true, _) => metadata(args, &image, ui),
        (_, true) => layout(args, &image, ui),
        (false, false) => describe(args, &image, ui),
    }
}

/// Prints what qemu-img prints.
fn describe(args: &Args, image: &Named, ui: &mut Ui) -> Result<ExitCode> {
    let chain = chain(args, image, ui)?;
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
            let images: Vec<Image<'_>> = chain.iter().map(Image::from).collect();
            match images.as_slice() {
                [only] if !args.backing_chain => json::document::write(&mut ui.out, only)?,
                images => json::document::write(&mut ui.out, &images)?,
            }
        }
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

/// Prints the metadata. The header's fields are printed even where nothing else can be.
fn metadata(args: &Args, image: &Named, ui: &mut Ui) -> Result<ExitCode> {
    let begun = inspect::open(&image.path, image.format, args.force_share)?;
    let fields = begun.fields.clone();
    let human = args.output == Output::Human;
    if human {
        text::metadata::head(&mut ui.out, &image.path, &fields)?;
    }
    let image = begun.inspect(ui);
    if human {
        ui.out.flush()?;
    }
    let image = image?;
    if human {
        text::metadata::rest(&mut ui.out, &image)?;
    } else {
        json::described::metadata::print(&mut ui.out, &image, &fields)?;
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

/// Draws the file and the disk.
fn layout(args: &Args, image: &Named, ui: &mut Ui) -> Result<ExitCode> {
    let image = inspect::open(&image.path, image.format, args.force_share)?.inspect(ui)?;
    match args.output {
        Output::Human => text::layout::print(&mut ui.out, &image, ui::width())?,
        Output::Json => json::described::layout::print(&mut ui.out, &image)?,
    }
    ui.out.flush().context("could not write the result")?;
    Ok(ExitCode::Success)
}

/// The image, and with `--backing-chain` those below it.
fn chain(args: &Args, image: &Named, ui: &mut Ui) -> Result<Vec<ImageInfo>> {
    let mut chain: Vec<ImageInfo> = Vec::new();
    let files = remote::opener();
    let mut walk = Walk::new(&files, Some(&image.path));
    let mut next = Some((image.path.clone(), image.format));
    while let Some((path, format)) = next.take() {
        let image = open::open(&path, format, Intent::Describe, args.force_share)?;
        chain.push(look(&path, &image, format, ui)?);
        if args.backing_chain && image.format == ImageFormat::Qcow2 {
            next = below(&mut walk, &path, &image, args.force_share)?;
        }
    }
    Ok(chain)
}

/// The backing file of an image, and its format where one is recorded.
fn below(
    walk: &mut Walk<'_>,
    path: &Path,
    image: &ImageFile,
    share: bool,
) -> Result<Option<(PathBuf, Option<ImageFormat>)>> {
    let area = HeaderArea::load(&image.storage).with_context(|| could_not_open(path))?;
    let link = walk.next(&area, path).map_err(|stop| anyhow!("{}: {stop}", quoted(stop.path())))?;
    let Some(link) = link else { return Ok(None) };
    let format = open::format_below(&link, share);
    let format = format.with_context(|| format!("{}: backing file", quoted(path)))?;
    Ok(Some((link.path.clone(), link.recorded().map(|_| format))))
}

fn look(
    path: &Path,
    image: &ImageFile,
    format: Option<ImageFormat>,
    ui: &mut Ui,
) -> Result<ImageInfo> {
    if let Some(notice) = open::likeness_notice(path, image, format) {
        ui.message(&notice)?;
    }
    let context = || quoted(path).to_string();
    let sectors = |bytes: u64| bytes.checked_next_multiple_of(512).unwrap_or(bytes);
    let file_bytes = sectors(image.storage.len().with_context(context)?);
    let (qcow2, luks) = match image.format {
        ImageFormat::Qcow2 => {
            (Some(qcow2_info(&image.storage).with_context(|| could_not_open(path))?), None)
        }
        ImageFormat::LUKS => {
            (None, Some(luks_info(&image.storage).with_context(|| could_not_open(path))?))
        }
        ImageFormat::Raw => (None, None),
        ImageFormat::Other(name) => {
            bail!("{}: cannot read the format {name}: {BOTH}", quoted(path))
        }
    };
    let is_file = image.storage.capacity() == Capacity::Growable;
    Ok(ImageInfo {
        filename: identity(&without_secrets(path)).to_string_lossy().into_owned(),
        format: image.format.name(),
        protocol: protocol(path).unwrap_or(if is_file { "file" } else { "host_device" }),
        file_bytes,
        disk_bytes: image.storage.disk_usage().with_context(context)?,
        extent_size_hint: image.storage.as_file().and_then(FileStorage::extent_size_hint),
        virtual_bytes: match (&qcow2, &luks) {
            (Some(qcow2), _) => qcow2.geometry.virtual_size(),
            (None, Some(luks)) => file_bytes.saturating_sub(luks.payload_offset),
            (None, None) => file_bytes,
        },
        qcow2,
        luks,
    })
}
