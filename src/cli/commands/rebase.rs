//! `qcheck rebase`: give an image another backing file.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::chain::{Format, Link};
use qcheck::convert::Control;
use qcheck::crypt::Key;
use qcheck::disk::Disk;
use qcheck::file::{ImageFile, Intent};
use qcheck::image::{BackingPolicy, FileOpener, Image, OpenOptions};
use qcheck::progress::Progress;
use qcheck::rebase::{BackingLabel, RebaseOptions, rebase, relabel};

use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::file_name::quoted;
use crate::cli::args::format::{self, QCOW2_ONLY, parse_format};
use crate::cli::args::image_name::Named;
use crate::cli::args::image_name::changed::Changed;
use crate::cli::files::disks::Opening;
use crate::cli::files::guard::Guard;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Give an image another backing file, or none, and keep what a guest reads.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; probed from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// The new backing file, relative to the folder of the image; '' for none
    #[arg(short, long, value_name = "FILE")]
    backing: Option<String>,

    /// The format of the new backing file
    #[arg(short = 'F', long, value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    backing_format: Option<String>,

    /// Only record the backing file: look at no data, and open neither the old nor the new one
    #[arg(short = 'u', long)]
    backing_unsafe: bool,

    /// Compress the clusters that the image gets
    #[arg(short, long)]
    compress: bool,

    /// How the image is written: writeback, writethrough, none, directsync or unsafe
    #[arg(short = 't', long, value_name = "CACHE",
          value_parser = parse_cache, default_value = "writeback")]
    cache: Cache,

    /// How the new backing file is read, likewise
    #[arg(short = 'T', long, value_name = "CACHE",
          value_parser = parse_cache, default_value = "writeback")]
    backing_cache: Cache,

    /// Read backing files even if another program has them open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    #[command(flatten)]
    changed: Changed,
}

/// The new backing file.
struct New {
    label: BackingLabel,
    link: qcheck::error::Result<Link>,
    format: ImageFormat,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let named = args.changed.named(args.format)?;
    let path = named.written()?;
    if args.backing.is_none() && !args.backing_unsafe {
        // qemu-img's words.
        bail!("Must specify backing file (-b) or use unsafe mode (-u)");
    }
    let new = args.new_backing(path)?;
    let guard = Guard::default();
    if let Some(New { link: Ok(link), format, .. }) = &new {
        guard.reads_chain(link, Some(*format));
    }
    let allowed = guard.writes("the image", path)?;
    let mut opened = open::open(path, named.format, Intent::Change, false)?;
    allowed.opened(&opened.storage)?;
    open::apply_cache(args.cache, &mut opened.storage, path)?;
    if opened.format != ImageFormat::Qcow2 {
        if args.compress {
            // qemu-img's words.
            bail!("{}: Compression not supported for this file format", quoted(path));
        }
        let format = opened.format.name();
        bail!(
            "{}: Could not change the backing file to '{}': an image of the format {format} has \
             none: {QCOW2_ONLY}",
            quoted(path),
            args.backing.as_deref().unwrap_or("")
        );
    }
    let meter = args.changed.meter(ui);
    let outcome = match args.backing_unsafe {
        true => args.relabel(opened, &named, new, &meter, ui),
        false => args.rebase(opened, &named, new, &meter, ui),
    };
    meter.finish();
    outcome?;
    Ok(ExitCode::Success)
}

impl Args {
    /// What the arguments give for the new backing file; `None` where there is to be none.
    fn new_backing(&self, image: &Path) -> Result<Option<New>> {
        let given = self.backing_format.as_deref();
        let format = given.map(parse_format).transpose().map_err(|error| anyhow!(error))?;
        let Some(name) = self.backing.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let (Some(given), Some(format)) = (given, format) else {
            // qemu-img's words, which programs match.
            bail!(
                "Could not change the backing file to '{name}': backing format must be specified \
                 (-F)"
            );
        };
        let link = Link::named(Some(image), name.as_bytes(), Some(Format::of_name(given)));
        let label = BackingLabel { name: name.into(), format: given.into() };
        Ok(Some(New { label, link, format }))
    }

    fn open(
        &self,
        opened: ImageFile,
        named: &Named,
        backing: BackingPolicy,
        ui: &mut Ui,
    ) -> Result<Image> {
        let path = named.path.as_path();
        let unflushed = self.cache == Cache::Unsafe;
        let opener = FileOpener { force_share: self.force_share, unflushed, ..remote::opener() };
        let options = OpenOptions::default().backing(backing).key(named.key.clone());
        writable::open_qcow2(opened.storage, path, options, &opener, ui)
    }

    fn relabel(
        &self,
        opened: ImageFile,
        named: &Named,
        new: Option<New>,
        meter: &Meter,
        ui: &mut Ui,
    ) -> Result<()> {
        let image = self.open(opened, named, BackingPolicy::Leave, ui)?;
        // The header is all there is.
        meter.stage("rebasing", 1);
        relabel(image, new.as_ref().map(|new| &new.label)).with_context(|| {
            let name = self.backing.as_deref().unwrap_or("");
            format!("{}: Could not change the backing file to '{name}'", quoted(&named.path))
        })?;
        meter.advance(1);
        Ok(())
    }

    fn rebase(
        &self,
        opened: ImageFile,
        named: &Named,
        new: Option<New>,
        meter: &Meter,
        ui: &mut Ui,
    ) -> Result<()> {
        let image = self.open(opened, named, BackingPolicy::AsNamed, ui)?;
        let (disk, label) = match new {
            Some(new) => {
                let disk = self.open_new(new.link?, new.format, &named.key)?;
                (Some(disk), Some(new.label))
            }
            None => (None, None),
        };
        let options = RebaseOptions::default().compress(self.compress).threads(0);
        let cancel = signals::interruption();
        let control = Control { cancel: &cancel, progress: meter };
        let outcome = rebase(image, disk.as_ref(), label.as_ref(), options, control);
        outcome.with_context(|| quoted(&named.path).to_string())
    }

    fn open_new(&self, link: Link, format: ImageFormat, key: &Key) -> Result<Disk> {
        let opening = Opening {
            snapshot: None,
            force_share: self.force_share,
            live: true,
            backing_format: None,
            cache: self.backing_cache,
            guard: &Guard::default(),
        };
        let context = format!("Could not open new backing file {}", quoted(&link.path));
        link.require_plain()?;
        let key = key.renamed(link.key_secret);
        opening.open(&Named::file(link.path, Some(format), key)).context(context)
    }
}
