//! `qcheck dump`: an image's metadata without its data.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::crypt::Secrets;
use qcheck::dump::{CheckOutcome, Dump, DumpOptions, Written};
use qcheck::error::Error;
use qcheck::file::Intent;
use qcheck::progress::Progress;

use crate::cli::args::file_name::{self, quoted};
use crate::cli::args::format::{self, QCOW2_ONLY};
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::size::human_size;
use crate::cli::files::new_file::NewFile;
use crate::cli::files::open;
use crate::cli::files::spool;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::verdict::tally_text;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Copy an image's metadata for a bug report: a check of the copy finds the same, and it holds no
/// guest data.
///
/// Everything that a check reads is in the dump, byte for byte and in its place; data, VM state,
/// bitmap data, salts and keys of encryption headers and leaked clusters are holes. What a check
/// reads as a table because of damage is in it too, even if it is data. Names are in it unless
/// --blank-names is given.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// Overwrite the names of files, snapshots and bitmaps with others of the same length
    #[arg(long)]
    blank_names: bool,

    /// Keep the unused rest of metadata clusters, which may hold former guest data
    #[arg(long)]
    keep_slack: bool,

    /// Read the image even if another program has it open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// Print no result
    #[arg(short, long)]
    quiet: bool,

    /// Show progress even where standard error is not a terminal
    #[arg(short, long)]
    progress: bool,

    /// The image
    #[arg(value_name = "SRC", value_parser = image_name::parser())]
    source: ImageName,

    /// The dump, a new file
    #[arg(value_name = "DST", value_parser = file_name::parser())]
    target: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    if spool::is_standard(&args.target) {
        bail!("a dump goes into a file: it is mostly holes");
    }
    if args.target.symlink_metadata().is_ok() {
        bail!("{}: exists; a dump goes into a new file", quoted(&args.target));
    }
    let source = args.source.named(false, args.format, &Secrets::default())?;
    let image = open::open(&source.path, source.format, Intent::ReadMetadata, args.force_share)?;
    if image.format != ImageFormat::Qcow2 {
        let name = image.format.name();
        bail!(
            "{}: an image of the format {name} has no metadata: {QCOW2_ONLY}",
            quoted(args.source.text())
        );
    }
    let meter = Meter::new(ui.name(), args.progress, args.quiet, ui.err.is_terminal())
        .cancelled_by(signals::interruption());
    let dump = Dump::of(&image.storage, &meter);
    let dump = dump.with_context(|| quoted(args.source.text()).to_string())?;
    let options = DumpOptions::default().blank_names(args.blank_names).keep_slack(args.keep_slack);
    let file = NewFile::create_new(&args.target);
    let file = file.with_context(|| quoted(&args.target).to_string())?;
    let written = write(&dump, file, &options, &meter);
    let written = written.map_err(|error| named(error, args))?;
    drop(meter);
    if !args.quiet {
        tell(args, &dump, &written, ui)?;
    }
    Ok(ExitCode::Success)
}

/// An error after the names of the files that it can be about.
fn named(error: Error, args: &Args) -> anyhow::Error {
    let source = quoted(args.source.text());
    let names = match &error {
        Error::Io { .. } => format!("{source} into {}", quoted(&args.target)),
        // What cannot be had is a matter of the image.
        _ => source.to_string(),
    };
    anyhow::Error::new(error).context(names)
}

/// Fills the file; takes it away again when that fails.
fn write(
    dump: &Dump<'_>,
    file: NewFile,
    options: &DumpOptions,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    match dump.write(&*file.storage, options, progress) {
        Ok(written) => Ok(written),
        Err(error) => {
            file.give_up();
            Err(error)
        }
    }
}

fn tell(args: &Args, dump: &Dump<'_>, written: &Written, ui: &mut Ui) -> Result<()> {
    let (copied, all) = (human_size(written.copied), human_size(written.file_bytes));
    let verdict = match dump.verdict() {
        CheckOutcome::Report(report) => tally_text(report.tally).join(", "),
        CheckOutcome::None(_) => "no verdict".into(),
    };
    let target = args.target.display();
    ui.out
        .line(&format!("{target}: {copied} of metadata out of {all}; checks alike: {verdict}"))?;
    if !args.blank_names {
        ui.out.line(
            "Names of files, snapshots and bitmaps are in it; --blank-names leaves them out.",
        )?;
    }
    std::io::Write::flush(&mut ui.out).context("could not write the result")
}
