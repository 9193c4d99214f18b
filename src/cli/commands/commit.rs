//! `qcheck commit`: bring the data of an image into its backing file.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::commit::{Base, CommitOptions, Target, commit, find_base};
use qcheck::convert::Control;
use qcheck::file::{ImageFile, Intent};
use qcheck::image::{BackingPolicy, FileOpener, Image, OpenOptions};
use qcheck::storage::ReadAt;

use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, BOTH, recorded_format};
use crate::cli::args::image_name::changed::Changed;
use crate::cli::args::size::parse_size;
use crate::cli::files::guard::Guard;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Bring the data of an image into its backing file, and empty the image.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; probed from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// Commit to this image of the backing chain instead of the backing file: its name as the
    /// image that refers to it has it, or its path; implies --drop
    #[arg(short, long, value_name = "FILE")]
    base: Option<OsString>,

    /// Do not empty the image
    #[arg(short, long)]
    drop: bool,

    /// Most bytes a second
    #[arg(short, long, value_name = "RATE", value_parser = parse_size)]
    rate: Option<u64>,

    /// How the images are written: writeback, writethrough, none, directsync or unsafe
    #[arg(short = 't', long, value_name = "CACHE",
          value_parser = parse_cache, default_value = "writeback")]
    cache: Cache,

    #[command(flatten)]
    changed: Changed,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let named = args.changed.named(args.format)?;
    let path = named.written()?;
    let context = || quoted(path).to_string();
    let opened = args.opened(path, named.format, Intent::Change)?;
    if opened.format != ImageFormat::Qcow2 {
        // qemu-img's words, which programs match.
        bail!("{}: Image does not have a backing file", context());
    }
    let guard = Guard::default();
    guard.enters(&opened.storage, "the image", path);
    let name = args.base.as_deref().map(OsStr::new);
    let base = find_base(&opened.storage, path, name, &remote::opener());
    let base = base.with_context(context)?;
    let backing = BackingPolicy::Layers(base.layers - 1);
    // What is not valid is not read: the image is emptied afterwards.
    let options = OpenOptions::default().backing(backing).key(named.key.clone()).strict(true);
    let mut image = args.qcow2(opened, path, options, &guard, ui)?;
    let cancel = signals::interruption();
    image.cancel_on(cancel.clone())?;
    let target = args.target(&base, image.virtual_size(), &guard, ui)?;
    let options = CommitOptions::default()
        .layers(base.layers)
        .keep(args.drop || args.base.is_some())
        .rate(args.rate.filter(|&rate| rate > 0))
        .threads(0);
    let meter = args.changed.meter(ui);
    let control = Control { cancel: &cancel, progress: &meter };
    let outcome = commit(image, target, &options, control);
    meter.finish();
    outcome.with_context(context)?;
    if !args.changed.quiet {
        ui.out.line("Image committed.")?;
        ui.out.flush()?;
    }
    Ok(ExitCode::Success)
}

impl Args {
    fn opened(
        &self,
        path: &Path,
        format: Option<ImageFormat>,
        intent: Intent,
    ) -> Result<ImageFile> {
        let mut opened = open::open(path, format, intent, false)?;
        open::apply_cache(self.cache, &mut opened.storage, path)?;
        Ok(opened)
    }

    fn qcow2(
        &self,
        opened: ImageFile,
        path: &Path,
        options: OpenOptions,
        guard: &Guard,
        ui: &mut Ui,
    ) -> Result<Image> {
        let unflushed = self.cache == Cache::Unsafe;
        let opener = guard.opener(FileOpener { unflushed, ..remote::opener() });
        writable::open_qcow2(opened.storage, path, options, &opener, ui)
    }

    /// The base, for a disk of `bytes`.
    fn target(&self, base: &Base, bytes: u64, guard: &Guard, ui: &mut Ui) -> Result<Target> {
        let path = &base.path;
        let format = recorded_format(base.format.clone()).map_err(anyhow::Error::msg)?;
        if let ImageFormat::Other(name) = format {
            bail!("{}: cannot write the format {name}: {BOTH}", quoted(path));
        }
        let allowed = guard.writes("the base", path)?;
        let opened = self.opened(path, Some(format), Intent::WriteData)?;
        allowed.opened(&opened.storage)?;
        if format == ImageFormat::Raw && opened.storage.len()? < bytes {
            opened.lock(Intent::Resize, false).with_context(|| could_not_open(path))?;
        }
        Ok(match format {
            ImageFormat::Qcow2 => {
                let image = self.qcow2(opened, path, OpenOptions::default(), guard, ui)?;
                Target::Qcow2(Box::new(image))
            }
            _ => Target::Raw(Box::new(opened.storage)),
        })
    }
}
