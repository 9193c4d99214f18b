//! `qcheck amend`: change options of an image.

mod key_slots;

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::convert::Control;
use qcheck::crypt::Secrets;
use qcheck::crypt::luks::Header;
use qcheck::edit::amend::{Amendments, amend};
use qcheck::file::Intent;
use qcheck::image::{FileOpener, OpenOptions};
use qcheck::medium::Medium;

use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, QCOW2_ONLY};
use crate::cli::args::image_name::Named;
use crate::cli::args::image_name::changed::Changed;
use crate::cli::args::new_image;
use crate::cli::args::options::{self, Asked, Options, Table};
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;
use key_slots::Given;

/// Change options of an image: its version, its refcounts, its size, its passphrases.
#[derive(Debug, clap::Args)]
#[command(mut_arg("image", |image| image.required(false)))]
pub struct Args {
    /// The image's format, qcow2 or luks; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// Options of the image, as name=value,...; "help" lists them
    #[arg(short = 'o', long = "options", value_name = "OPTIONS", required = true,
          action = clap::ArgAction::Append)]
    options: Vec<String>,

    /// The disk may get shorter, and loses the data past its new end; a key slot in use may be
    /// overwritten, and the last one erased, so that nothing opens the image any more
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
    // With a format the options are listed without an image.
    if let Some(format) = args.format {
        let table = table_of(format)?;
        if let Asked::Help = options::parse(&args.options, table)? {
            options::help(&mut ui.out, table, true)?;
            return Ok(ExitCode::Success);
        }
    }
    let named = args.changed.named(args.format)?;
    let path = named.written()?;
    let mut opened = open::open(path, named.format, Intent::Change, false)?;
    let table = table_of(opened.format).with_context(|| quoted(path).to_string())?;
    let given = match options::parse(&args.options, table)? {
        Asked::Help => {
            options::help(&mut ui.out, table, true)?;
            return Ok(ExitCode::Success);
        }
        Asked::Options(given) => given,
    };
    open::apply_cache(args.cache, &mut opened.storage, path)?;
    match table {
        Table::AmendedLuks => luks(args, &named, &given, &opened.storage)?,
        _ => qcow2(args, &named, &given, opened.storage, ui)?,
    }
    Ok(ExitCode::Success)
}

/// The options of a format that can be changed.
fn table_of(format: ImageFormat) -> Result<Table> {
    let name = format.name();
    Table::of_amend(format).ok_or_else(|| {
        anyhow!("Format driver '{name}' does not support option amendment: {QCOW2_ONLY}")
    })
}

/// Changes the key slots of a LUKS image.
fn luks(args: &Args, named: &Named, given: &Options, storage: &Medium) -> Result<()> {
    let slots =
        Given { options: given, prefix: "", secrets: &named.key.secrets, force: args.force };
    let Some(change) = slots.change()? else { return Ok(()) };
    let opened = Header::open(storage, &named.key);
    let (mut header, key) = opened.with_context(|| could_not_open(&named.path))?;
    let plan = header.plan(storage, &change);
    let changed = plan.and_then(|plan| header.apply(storage, &key, &plan));
    changed.with_context(|| quoted(&named.path).to_string())
}

fn qcow2(args: &Args, named: &Named, given: &Options, storage: Medium, ui: &mut Ui) -> Result<()> {
    let path = &named.path;
    let amendments = args.amendments(given, &named.key.secrets)?;
    let unflushed = args.cache == Cache::Unsafe;
    let opener = FileOpener { unflushed, ..remote::opener() };
    let options = OpenOptions::default().key(named.key.clone());
    let mut image = writable::open_qcow2(storage, path, options, &opener, ui)?;
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
    outcome.with_context(|| quoted(path).to_string())
}

impl Args {
    fn amendments(&self, given: &Options, secrets: &Secrets) -> Result<Amendments> {
        if given.text("backing_file").or(given.text("backing_fmt")).is_some() {
            // qemu-img's words.
            bail!("Cannot amend the backing file: use 'rebase' instead");
        }
        let slots = Given { options: given, prefix: "encrypt.", secrets, force: self.force };
        Ok(Amendments::default()
            .version(new_image::version(given)?)
            .lazy_refcounts(given.given_switch("lazy_refcounts"))
            .refcount_bits(given.number("refcount_bits"))
            .size(given.number("size"))
            .shrink(self.force)
            .data_file(given.text("data_file").map(str::to_owned))
            .data_file_raw(given.given_switch("data_file_raw"))
            .keys(slots.change()?))
    }
}
