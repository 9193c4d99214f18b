//! `qcheck snapshot`: list, take, delete and go back to internal snapshots.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::check::{CheckOptions, check};
use qcheck::edit::snapshot;
use qcheck::file::Intent;
use qcheck::image::{BackingPolicy, Image, OpenOptions};
use qcheck::info::{SnapshotInfo, qcow2_info};
use qcheck::medium::Medium;
use qcheck::progress::Silent;

use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, BOTH, QCOW2_ONLY};
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName, Named};
use crate::cli::args::output::Output;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::json::described::image::Snapshot;
use crate::cli::render::{json, text};
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// List, create, apply or delete the snapshots of an image.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// List the snapshots; this is what is done if nothing else is requested
    #[arg(short, long, action = clap::ArgAction::Count)]
    list: u8,

    /// Create a snapshot of this name
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    create: Vec<String>,

    /// Apply the snapshot of this id or name to the disk
    #[arg(short, long, value_name = "SNAPSHOT", allow_hyphen_values = true)]
    apply: Vec<String>,

    /// Delete the snapshot of this name
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    delete: Vec<String>,

    /// How to print the list
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    output: Output,

    /// Accepted as by qemu-img: only a list prints anything
    #[arg(short, long)]
    quiet: bool,

    /// Take the image as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// List even if another program has the image open for writing
    #[arg(short = 'U', long, conflicts_with_all = ["create", "apply", "delete"])]
    force_share: bool,

    /// The image
    #[arg(value_parser = image_name::parser())]
    image: ImageName,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let changes = args.create.len() + args.apply.len() + args.delete.len();
    match changes + usize::from(args.list) {
        0 => list(args, &args.named()?, ui),
        1 if changes == 0 => list(args, &args.named()?, ui),
        1 => change(args, &args.named()?, ui),
        _ => bail!("only one of -l, -c, -a and -d can be done at a time"),
    }
}

impl Args {
    fn named(&self) -> Result<Named> {
        self.image.named(self.image_opts, self.format, &self.objects.secrets()?)
    }
}

fn list(args: &Args, image: &Named, ui: &mut Ui) -> Result<ExitCode> {
    let path = &image.path;
    let image = open::open(path, image.format, Intent::ReadMetadata, args.force_share)?;
    let context = || quoted(path).to_string();
    let unopened = || could_not_open(path);
    let snapshots: Vec<SnapshotInfo> = match image.format {
        ImageFormat::Qcow2 => qcow2_info(&image.storage).with_context(unopened)?.snapshots,
        ImageFormat::Raw => Vec::new(),
        ImageFormat::Other(name) => bail!("{}: cannot read the format {name}: {BOTH}", context()),
    };
    match args.output {
        Output::Human if snapshots.is_empty() => {}
        Output::Human => {
            ui.out.line("Snapshot list:")?;
            text::info::snapshot_table(&mut ui.out, &snapshots)?;
        }
        Output::Json => {
            let list: Vec<Snapshot<'_>> = snapshots.iter().map(Snapshot::from).collect();
            json::document::write(&mut ui.out, &list)?;
        }
    }
    ui.out.flush().context("could not write the list")?;
    Ok(ExitCode::Success)
}

fn change(args: &Args, image: &Named, ui: &mut Ui) -> Result<ExitCode> {
    let path = image.written()?;
    let opened = open::open(path, image.format, Intent::Change, false)?;
    if opened.format != ImageFormat::Qcow2 {
        return Err(not_supported(args, opened.format)).with_context(|| quoted(path).to_string());
    }
    if !args.create.is_empty() {
        warn_of_errors(&opened.storage, ui).with_context(|| quoted(path).to_string())?;
    }
    let options = OpenOptions::default().backing(BackingPolicy::Leave);
    let image = writable::open_qcow2(opened.storage, path, options, &remote::opener(), ui)?;
    change_qcow2(args, image).with_context(|| quoted(path).to_string())?;
    Ok(ExitCode::Success)
}

/// Warns that the image has errors, which a snapshot keeps. Those of one that is dirty are repaired
/// first.
fn warn_of_errors(storage: &Medium, ui: &mut Ui) -> Result<()> {
    if qcow2_info(storage)?.dirty {
        return Ok(());
    }
    let tally = check(storage, &CheckOptions::default(), &Silent)?.tally;
    let errors = tally.corruptions.saturating_add(tally.check_errors);
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        ui.message(&format!(
            "WARNING: the image has {errors} error{plural}, and so has the snapshot; \
             'check' reports them"
        ))?;
    }
    Ok(())
}

/// The beginning of an error is qemu-img's, which programs match.
fn could_not(what: &str, name: &str) -> String {
    format!("Could not {what} snapshot '{name}'")
}

/// An image of this format has no snapshots.
fn not_supported(args: &Args, format: ImageFormat) -> anyhow::Error {
    // qemu-img's words, too.
    let first = |names: &[String]| names.first().cloned();
    let (what, name, why) = match (first(&args.create), first(&args.apply)) {
        (Some(name), _) => ("create", name, "Operation not supported"),
        (None, Some(name)) => ("apply", name, "Block driver does not support snapshots"),
        (None, None) => ("delete", first(&args.delete).unwrap_or_default(), "snapshot not found"),
    };
    let format = format.name();
    let why = anyhow!("{why}: an image of the format {format} has none: {QCOW2_ONLY}");
    why.context(could_not(what, &name))
}

fn change_qcow2(args: &Args, mut image: Image) -> Result<()> {
    image.cancel_on(signals::interruption())?;
    if let Some(name) = args.create.first() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        snapshot::create(&mut image, name, now).with_context(|| could_not("create", name))?;
    } else if let Some(wanted) = args.apply.first() {
        let found = snapshot::find(&image, wanted).context("Failed to load snapshot");
        let applied = found.and_then(|_| Ok(snapshot::apply(&mut image, wanted)?));
        applied.with_context(|| could_not("apply", wanted))?;
    } else if let Some(name) = args.delete.first() {
        let deleted = snapshot::delete_named(&mut image, name);
        deleted.with_context(|| could_not("delete", name))?;
    }
    Ok(image.close()?)
}
