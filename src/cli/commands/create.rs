//! `qcheck create`: make a new image.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::chain::{Format, Link};
use qcheck::create::{NewImage, create_luks, create_raw};
use qcheck::crypt::Secrets;
use qcheck::error::Error;
use qcheck::format::luks::LUKS_BYTES;
use qcheck::info::LuksHeader;
use qcheck::medium::Medium;
use qcheck::remote::without_secrets;
use qcheck::storage::{Access, ReadAt, Storage, is_null_device};
use qcheck::tables::HeaderArea;

use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::{self, could_not_open, quoted};
use crate::cli::args::format::{self, ALL, parse_format};
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::new_image::encryption::Given;
use crate::cli::args::new_image::{luks_preallocation, new_qcow2, preallocation};
use crate::cli::args::options::{self, Asked, Options, Table};
use crate::cli::args::size::parse_size;
use crate::cli::files::guard::{Allowed, Guard};
use crate::cli::files::new_file::{HowNew, NewFile};
use crate::cli::files::remote;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Create a new image: qcow2, raw or LUKS.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new image's format: qcow2, raw or luks
    #[arg(short, long, value_name = "FMT", default_value = "raw",
          value_parser = format::name_parser(), hide_possible_values = true)]
    format: String,

    /// Options of the format, as name=value,...; "help" lists them
    #[arg(short, long, value_name = "OPTIONS", action = clap::ArgAction::Append)]
    options: Vec<String>,

    #[command(flatten)]
    objects: Objects,

    /// The file that has what the new image does not have
    #[arg(short, long, value_name = "FILE")]
    backing: Option<String>,

    /// The format of the backing file
    #[arg(short = 'F', long, value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    backing_format: Option<String>,

    /// Do not open the backing file
    #[arg(short = 'u', long)]
    backing_unsafe: bool,

    /// Do not print what is created
    #[arg(short, long)]
    quiet: bool,

    /// The new image
    #[arg(value_name = "FILE", required_unless_present = "options")]
    image: Option<OsString>,

    /// Bytes of the disk, or a number with one of k, M, G, T, P, E; the backing file's size if not
    /// given
    size: Option<String>,
}

/// The order in which qemu-img prints the options of a new image.
const TOLD: [&str; 23] = [
    "encryption",
    "encrypt.format",
    "encrypt.key-secret",
    "encrypt.cipher-alg",
    "encrypt.cipher-mode",
    "encrypt.ivgen-alg",
    "encrypt.ivgen-hash-alg",
    "encrypt.hash-alg",
    "encrypt.iter-time",
    "cluster_size",
    "extended_l2",
    "preallocation",
    "compression_type",
    "size",
    "compat",
    "backing_file",
    "backing_fmt",
    "data_file",
    "data_file_raw",
    "lazy_refcounts",
    "refcount_bits",
    "nocow",
    "extent_size_hint",
];

/// The same for a LUKS image.
const TOLD_LUKS: [&str; 9] = [
    "size",
    "key-secret",
    "cipher-alg",
    "cipher-mode",
    "ivgen-alg",
    "ivgen-hash-alg",
    "hash-alg",
    "iter-time",
    "preallocation",
];

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    // Of several the last one counts, so that none is looked at before all are known.
    let format = parse_format(&args.format).map_err(|error| anyhow!(error))?;
    let Some(table) = Table::of_create(format) else {
        bail!("cannot make images of the format {}: {ALL}", format.name());
    };
    let mut given = match options::parse(&args.options, table)? {
        Asked::Help => {
            options::help(&mut ui.out, table, args.image.is_some())?;
            return Ok(ExitCode::Success);
        }
        Asked::Options(given) => given,
    };
    let name = args.image.as_deref().ok_or_else(|| anyhow!("the new image's name is needed"))?;
    let path = &file_name::parse(name.to_owned()).map_err(|error| anyhow!(error))?;
    let context = || quoted(path).to_string();
    let guard = Guard::default();
    settle(args, path, &mut given, &guard).with_context(context)?;
    let target = guard.writes("the new image", path)?;
    // Unlike a backing file's, QEMU takes this name as it stands, from the current folder.
    let data = given.text("data_file").map(PathBuf::from);
    let data = data.as_deref().map(|data| guard.writes("the data file", data)).transpose()?;
    let secrets = args.objects.secrets()?;
    tell(name, &given, format, args, ui)?;
    let meter = Meter::new(ui.name(), false, args.quiet, ui.err.is_terminal());
    match format {
        ImageFormat::Qcow2 => {
            let new = new_qcow2(&given, &secrets).with_context(context)?;
            make_qcow2(&new, &target, data.as_ref(), &given, &meter)?;
        }
        ImageFormat::Raw => make_raw(&target, &given, &meter)?,
        ImageFormat::Other(_) => make_luks(&target, &given, &secrets, &meter)?,
    }
    Ok(ExitCode::Success)
}

/// Brings the arguments and `-o` together, down to the size.
fn settle(args: &Args, path: &Path, given: &mut Options, guard: &Guard) -> Result<()> {
    if let Some(size) = &args.size {
        if given.number("size").is_some() {
            bail!("the size is given twice");
        }
        let bytes = parse_size(size).map_err(|error| anyhow!("size '{size}' is {error}"))?;
        given.set_number("size", bytes);
    }
    if let Some(name) = &args.backing {
        if name.is_empty() {
            bail!("the backing file's name is empty");
        }
        given.set_text("backing_file", name);
    }
    if let Some(format) = &args.backing_format {
        given.set_text("backing_fmt", format);
    }
    let backing = given.text("backing_file").filter(|name| !name.is_empty()).map(str::to_owned);
    if parse_format(&args.format) != Ok(ImageFormat::Qcow2) && backing.is_some() {
        bail!("a raw image cannot have a backing file");
    }
    if let Some(name) = &backing {
        let size = backing_size(args, path, name, given.text("backing_fmt"), guard)?;
        if let (None, Some(bytes)) = (given.number("size"), size) {
            given.set_number("size", bytes);
        }
    } else if given.text("backing_fmt").is_some() {
        bail!("Backing format cannot be used without backing file");
    }
    if given.number("size").is_none() {
        bail!("a size is needed");
    }
    Ok(())
}

/// The size of the backing file's disk; `None` where it is not to be opened.
fn backing_size(
    args: &Args,
    path: &Path,
    name: &str,
    format: Option<&str>,
    guard: &Guard,
) -> Result<Option<u64>> {
    let Some(format) = format else {
        bail!("Backing file specified without backing format: give it with -F");
    };
    let link = Link::named(Some(path), name.as_bytes(), Some(Format::of_name(format)));
    let format = parse_format(format).map_err(|error| anyhow!("backing file: {error}"))?;
    if args.backing_unsafe {
        // Its name need not be one that can be followed.
        if let Ok(link) = link {
            guard.reads_chain(&link, Some(format));
        }
        return Ok(None);
    }
    let link = link?;
    link.require_plain()?;
    guard.reads_chain(&link, Some(format));
    disk_size(&link.path, format).map(Some)
}

/// The size of an image's disk. No data is read, so that no lock is needed: a machine that runs can
/// have it open.
fn disk_size(file: &Path, format: ImageFormat) -> Result<u64> {
    if format == ImageFormat::Raw && is_null_device(file) {
        return Ok(0);
    }
    let storage = Medium::open_read(file, remote::settings());
    let storage = storage.with_context(|| could_not_open(file))?;
    let context = || format!("Could not open backing file {}", quoted(file));
    match format {
        ImageFormat::Raw => {
            let bytes = storage.len().with_context(context)?;
            Ok(bytes.checked_next_multiple_of(512).unwrap_or(bytes))
        }
        ImageFormat::Qcow2 => {
            let area = HeaderArea::load(&storage).with_context(context)?;
            Ok(area.geometry.virtual_size())
        }
        ImageFormat::LUKS => {
            let mut bytes = [0; LUKS_BYTES];
            storage.read_padded_at(0, &mut bytes).with_context(context)?;
            let header = LuksHeader::decode(&bytes);
            // qemu-img's words.
            let header = header.ok_or_else(|| anyhow!("Volume is not in LUKS format"));
            let start = header.with_context(context)?.payload_offset;
            let bytes = storage.len().with_context(context)?.saturating_sub(start);
            Ok(bytes.checked_next_multiple_of(512).unwrap_or(bytes))
        }
        ImageFormat::Other(name) => {
            bail!("cannot read the format {name} (-u does not open the file): {ALL}")
        }
    }
}

/// What qemu-img prints before it makes an image.
fn tell(
    name: &OsStr,
    given: &Options,
    format: ImageFormat,
    args: &Args,
    ui: &mut Ui,
) -> Result<()> {
    if args.quiet {
        return Ok(());
    }
    let text = if format == ImageFormat::Qcow2 {
        let mut all = given.clone();
        all.set_number("cluster_size", given.number("cluster_size").unwrap_or(1 << 16));
        all.set_number("refcount_bits", given.number("refcount_bits").unwrap_or(16));
        all.set_text("compression_type", given.text("compression_type").unwrap_or("zlib"));
        all.default_off("extended_l2");
        all.default_off("lazy_refcounts");
        format!("qcow2{}", all.describe(&TOLD))
    } else if format == ImageFormat::LUKS {
        format!("luks{}", given.describe(&TOLD_LUKS))
    } else {
        format!("raw{}", given.describe(&["size", "preallocation", "nocow", "extent_size_hint"]))
    };
    ui.out.line(&format!(
        "Formatting '{}', fmt={text}",
        without_secrets(Path::new(name)).display()
    ))?;
    std::io::Write::flush(&mut ui.out)?;
    Ok(())
}

fn make_qcow2(
    new: &NewImage,
    target: &Allowed<'_>,
    data: Option<&Allowed<'_>>,
    given: &Options,
    meter: &Meter,
) -> Result<()> {
    let how = HowNew::new(given, Cache::default())?;
    let interruption = signals::interruption();
    let mut image = NewFile::open(target, Access::Write, how)?;
    image.fail_on(&interruption);
    let mut data = match data.map(|data| NewFile::open(data, Access::WriteData, how)).transpose() {
        Ok(data) => data,
        Err(error) => {
            image.give_up();
            return Err(error.context("data file"));
        }
    };
    data.iter_mut().for_each(|data| data.fail_on(&interruption));
    let storage = data.as_ref().map(|data| data.storage.as_ref() as &dyn Storage);
    let written = new.write(image.storage.as_ref(), storage, meter);
    finish(target, written, [Some(image), data])
}

fn make_raw(target: &Allowed<'_>, given: &Options, meter: &Meter) -> Result<()> {
    let preallocation = preallocation(given).with_context(|| quoted(target.path()).to_string())?;
    let how = HowNew::new(given, Cache::default())?;
    let mut image = NewFile::open(target, Access::WriteData, how)?;
    image.fail_on(&signals::interruption());
    let size = given.number("size").unwrap_or(0);
    let written = create_raw(image.storage.as_ref(), size, preallocation, meter);
    finish(target, written, [Some(image), None])
}

fn make_luks(
    target: &Allowed<'_>,
    given: &Options,
    secrets: &Secrets,
    meter: &Meter,
) -> Result<()> {
    let context = || quoted(target.path()).to_string();
    let encryption = Given::of(given, ImageFormat::LUKS)?;
    let header = encryption.context("LUKS has options")?.header(secrets).with_context(context)?;
    let preallocation = luks_preallocation(given).with_context(context)?;
    let mut image = NewFile::open(target, Access::Write, HowNew::new(given, Cache::Writeback)?)?;
    image.fail_on(&signals::interruption());
    let size = given.number("size").unwrap_or(0);
    let written = create_luks(image.storage.as_ref(), size, &header, preallocation, meter);
    finish(target, written, [Some(image), None])
}

fn finish(
    target: &Allowed<'_>,
    written: Result<(), Error>,
    files: [Option<NewFile>; 2],
) -> Result<()> {
    if written.is_err() {
        // Without its header it is not an image, should it stay.
        for file in files.into_iter().flatten() {
            file.give_up();
        }
    }
    written.with_context(|| quoted(target.path()).to_string())
}
