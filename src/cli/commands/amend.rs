//! `qcheck amend`: change options of an image.

use anyhow::{Context, Result, bail};
use qcheck::amend::{Amendments, amend};
use qcheck::convert::Control;
use qcheck::file::Intent;
use qcheck::format::probe::ImageFormat;
use qcheck::image::{FileOpener, OpenOptions};

use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::file_name::quoted;
use crate::cli::args::format::{self, QCOW2_ONLY};
use crate::cli::args::image_name::changed::Changed;
use crate::cli::args::new_image;
use crate::cli::args::options::{self, Asked, Options, Table};
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Change options of an image: its version, its refcounts, its size.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; probed from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// Options of the image, as name=value,...; "help" lists them
    #[arg(short = 'o', long = "options", value_name = "OPTIONS", required = true,
          action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// The disk may get shorter: the data past its new end is lost
    #[arg(long)]
    force: bool,

    /// How the image is written: writeback, writethrough, none, directsync or unsafe
    #[arg(short = 't', long, value_name = "CACHE",
          value_parser = parse_cache, default_value = "writeback")]
    cache: Cache,

    #[command(flatten)]
    changed: Changed,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let named = args.changed.named(args.format)?;
    let given = match options::parse(&args.options, Table::AmendedQcow2)? {
        Asked::Help => {
            options::help(&mut ui.out, Table::AmendedQcow2, true)?;
            return Ok(ExitCode::Success);
        }
        Asked::Options(given) => given,
    };
    let amendments = args.amendments(&given)?;
    let path = named.written()?;
    let mut opened = open::open(path, named.format, Intent::Change, false)?;
    open::apply_cache(args.cache, &mut opened.storage, path)?;
    if opened.format != ImageFormat::Qcow2 {
        let format = opened.format.name();
        bail!(
            "{}: Format driver '{format}' does not support option amendment: {QCOW2_ONLY}",
            quoted(path)
        );
    }
    let unflushed = args.cache == Cache::Unsafe;
    let opener = FileOpener { unflushed, ..remote::opener() };
    let options = OpenOptions { key: named.key.clone(), ..OpenOptions::default() };
    let mut image = writable::open_qcow2(opened.storage, path, options, &opener, ui)?;
    let cancel = signals::interruption();
    image.cancel_on(cancel.clone())?;
    if amendments.size.is_some_and(|size| size < image.virtual_size()) && !args.force {
        bail!(
            "{}: Use --force to make the disk shorter: the data past the new end is lost",
            quoted(path)
        );
    }
    let meter = args.changed.meter(ui);
    let control = Control { cancel: &cancel, progress: &meter };
    let outcome = amend(image, &amendments, control);
    meter.finish();
    outcome.with_context(|| quoted(path).to_string())?;
    Ok(ExitCode::Success)
}

impl Args {
    fn amendments(&self, given: &Options) -> Result<Amendments> {
        if given.text("backing_file").or(given.text("backing_fmt")).is_some() {
            // qemu-img's words.
            bail!("Cannot amend the backing file: use 'rebase' instead");
        }
        Ok(Amendments {
            version: new_image::version(given)?,
            lazy_refcounts: given.given_switch("lazy_refcounts"),
            refcount_bits: given.number("refcount_bits"),
            size: given.number("size"),
            shrink: self.force,
            data_file: given.text("data_file").map(str::to_owned),
            data_file_raw: given.given_switch("data_file_raw"),
        })
    }
}
