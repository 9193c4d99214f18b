//! `qcheck resize`: make the disk of an image longer or shorter.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::crypt::luks::Header;
use qcheck::disk::Disk;
use qcheck::edit::resize::{
    Preallocation, ResizeOptions, require_possible, resize, resize_payload,
};
use qcheck::file::Intent;
use qcheck::image::{BackingPolicy, Image, OpenOptions, RawImage};
use qcheck::medium::Medium;
use qcheck::storage::ReadAt;

use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, ALL};
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::new_image::parse_preallocation;
use crate::cli::args::size::{human_size, parse_size};
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Resize the disk of an image; --shrink allows a smaller one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2, raw or luks; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// What to do for the new part of the disk: nothing (off), map it (metadata), map it and
    /// reserve its space (falloc), or map it and fill it with zeroes (full)
    #[arg(long, value_name = "MODE", value_parser = parse_preallocation, default_value = "off")]
    preallocation: Preallocation,

    /// Allow the disk to get shorter: the data past its new end is lost
    #[arg(long)]
    shrink: bool,

    /// The format of backing files for which an image records none, qcow2 or raw; without this such
    /// a file is raw, or refused where it begins like an image
    #[arg(long, value_name = "FMT", value_parser = format::backing_parser(),
          hide_possible_values = true)]
    backing_format: Option<String>,

    /// Report the data that a shorter disk would lose, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Take the image as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// Print nothing on success
    #[arg(short, long)]
    quiet: bool,

    /// The image
    #[arg(value_parser = image_name::parser())]
    image: ImageName,

    /// The new size in bytes, or a number with one of k, M, G, T, P, E; with + or - in front, by
    /// how much the disk gets longer or shorter
    #[arg(value_name = "[+|-]SIZE", value_parser = parse_change, allow_hyphen_values = true)]
    size: Change,
}

/// The size requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    To(u64),
    Longer(u64),
    Shorter(u64),
}

impl Change {
    /// The new size of a disk that has `old` bytes now.
    fn of(self, old: u64) -> Result<u64> {
        let new = match self {
            Self::To(size) => Some(size),
            Self::Longer(by) => old.checked_add(by),
            Self::Shorter(by) => old.checked_sub(by),
        };
        let most = i64::MAX.unsigned_abs();
        new.filter(|&new| 0 < new && new <= most)
            .ok_or_else(|| anyhow!("the new size must be over 0 and below 8 EiB"))
    }
}

fn parse_change(text: &str) -> Result<Change, String> {
    let size = |text: &str| parse_size(text).map_err(|error| error.to_string());
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(by), _) => size(by).map(Change::Longer),
        (_, Some(by)) => size(by).map(Change::Shorter),
        _ => size(text).map(Change::To),
    }
}

/// Moves an argument such as `-1G`, which looks like an option, after `--`.
pub fn expand_size(args: Vec<OsString>) -> Vec<OsString> {
    let looks_so = |arg: &OsString| {
        let text = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
        text.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
    };
    let sizes = args.iter().filter(|arg| looks_so(arg)).count();
    if sizes != 1 || args.iter().any(|arg| arg == "--") {
        return args;
    }
    let (mut size, mut out): (Vec<_>, Vec<_>) = args.into_iter().partition(looks_so);
    out.push("--".into());
    out.append(&mut size);
    out
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    if args.dry_run {
        return dry_run(args, ui);
    }
    let named = args.image.named(args.image_opts, args.format, &args.objects.secrets()?)?;
    let path = named.written()?;
    let image = open::open(path, named.format, Intent::Resize, false)?;
    let context = || quoted(path).to_string();
    match image.format {
        ImageFormat::Qcow2 => {
            let opener = remote::opener();
            let options = OpenOptions::default().backing(args.backing()).key(named.key.clone());
            let image = writable::open_qcow2(image.storage, path, options, &opener, ui)?;
            qcow2(args, image).with_context(context)?;
        }
        ImageFormat::Raw => payload(args, &image.storage, 0).with_context(context)?,
        ImageFormat::LUKS => {
            let opened = Header::open(&image.storage, &named.key);
            let (header, _) = opened.with_context(|| could_not_open(path))?;
            payload(args, &image.storage, header.payload_offset()).with_context(context)?;
        }
        other => bail!("{}: cannot resize the format {}: {ALL}", context(), other.name()),
    }
    if !args.quiet {
        ui.out.line("Image resized.")?;
        std::io::Write::flush(&mut ui.out)?;
    }
    Ok(ExitCode::Success)
}

impl Args {
    /// The size that is requested, where the disk has `old` bytes.
    fn new_size(&self, old: u64) -> Result<u64> {
        let size = self.size.of(old)?;
        if size < old && !self.shrink {
            // qemu-img's words, which programs match.
            bail!(
                "Use the --shrink option to perform a shrink operation: the data past the new end \
                 is lost"
            );
        }
        Ok(size)
    }

    fn backing(&self) -> BackingPolicy {
        match &self.backing_format {
            Some(format) => BackingPolicy::AsNamedOr(format.clone()),
            None => BackingPolicy::AsNamed,
        }
    }

    fn options(&self) -> ResizeOptions {
        ResizeOptions::default().shrink(self.shrink).preallocation(self.preallocation)
    }
}

fn qcow2(args: &Args, mut image: Image) -> Result<()> {
    let old = in_sectors(image.virtual_size());
    let size = args.new_size(old)?;
    image.cancel_on(signals::interruption())?;
    resize(&mut image, size, args.options())?;
    Ok(image.close()?)
}

/// Resizes a disk that begins at an offset of its file.
fn payload(args: &Args, storage: &Medium, start: u64) -> Result<()> {
    let size = args.new_size(in_sectors(storage.len()?.saturating_sub(start)))?;
    let (options, cancel) = (args.options(), signals::interruption());
    Ok(resize_payload(storage, start, size, options, &cancel)?)
}

/// Reports what is past the new end.
fn dry_run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let named = args.image.named(args.image_opts, args.format, &args.objects.secrets()?)?;
    let path = &named.path;
    let opened = open::open(path, named.format, Intent::ReadData, false)?;
    let context = || quoted(path).to_string();
    let storage = Arc::new(opened.storage);
    let disk = match opened.format {
        ImageFormat::Qcow2 => {
            let (path, backing) = (Some(path.clone()), args.backing());
            let options = OpenOptions::default().path(path).backing(backing).key(named.key.clone());
            let image = Image::open_read(storage, &options, &remote::opener());
            Disk::Qcow2(Box::new(image.with_context(context)?))
        }
        ImageFormat::Raw => Disk::raw(storage),
        ImageFormat::LUKS => {
            let image = RawImage::luks(storage, Some(path.clone()), &named.key);
            Disk::Raw(image.with_context(|| could_not_open(path))?)
        }
        other => bail!("{}: cannot resize the format {}: {ALL}", context(), other.name()),
    };
    let old = disk.size().with_context(context)?;
    let size = args.new_size(in_sectors(old)).with_context(context)?;
    if let Disk::Qcow2(image) = &disk {
        require_possible(image, size, args.options()).with_context(context)?;
    }
    let lost = match disk.data_past(size).with_context(context)? {
        Some(data) => format!(
            "would lose {} of data between guest offsets {} and {}",
            exact(data.bytes),
            data.range.start,
            data.range.end
        ),
        None => "would lose nothing".into(),
    };
    ui.out.line(&format!("A disk of {} instead of {} {lost}.", exact(size), exact(old)))?;
    std::io::Write::flush(&mut ui.out)?;
    Ok(ExitCode::Success)
}

fn exact(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", human_size(bytes))
}

/// QEMU sees a file or disk in whole sectors.
fn in_sectors(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(512).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from).collect();
        expand_size(args).into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn a_size_to_subtract_is_not_an_option_wherever_it_is() {
        assert_eq!(expanded(&["a", "-1M", "--shrink"]), ["a", "--shrink", "--", "-1M"]);
        assert_eq!(expanded(&["--shrink", "a", "-.5G"]), ["--shrink", "a", "--", "-.5G"]);
        assert_eq!(expanded(&["a", "--", "-1M"]), ["a", "--", "-1M"]);
        assert_eq!(expanded(&["-q", "a", "+1M"]), ["-q", "a", "+1M"]);
    }

    #[test]
    fn a_sign_makes_the_size_a_change() {
        assert_eq!(parse_change("1k"), Ok(Change::To(1024)));
        assert_eq!(parse_change("+1k"), Ok(Change::Longer(1024)));
        assert_eq!(parse_change("-1k"), Ok(Change::Shorter(1024)));
        assert!(parse_change("+-1k").is_err());
        assert_eq!(Change::Shorter(5).of(20).unwrap(), 15);
        assert!(Change::Shorter(20).of(20).is_err());
        assert!(Change::Longer(i64::MAX.unsigned_abs()).of(20).is_err());
    }
}
