//! `qcheck undo`: put back what an image was before a repair.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use qcheck::ImageFormat;
use qcheck::file::Intent;
use qcheck::storage::FileStorage;
use qcheck::undo::{Record, Undone, undo};

use crate::cli::args::file_name::{self, could_not_open, quoted};
use crate::cli::files::open;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// Undo a repair: put back every byte that 'check -r .. --undo FILE' recorded before it wrote.
///
/// An image that has changed since is refused, and so is another image. The next undo completes one
/// that was interrupted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put the bytes back even if the image has changed since; the result may be inconsistent
    #[arg(long)]
    force: bool,

    /// Print nothing on success
    #[arg(short, long)]
    quiet: bool,

    /// Show progress even where standard error is not a terminal
    #[arg(short, long)]
    progress: bool,

    /// What 'check --undo' wrote
    file: PathBuf,

    /// The image
    #[arg(value_parser = file_name::parser())]
    image: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let what = || could_not_open(&args.file);
    let file = FileStorage::open_read(&args.file).with_context(what)?;
    // Not detected from its first bytes: they may be what is to be undone.
    let image = open::open(&args.image, Some(ImageFormat::Qcow2), Intent::Change, false)?;
    let meter = Meter::new(ui.name(), args.progress, args.quiet, ui.err.is_terminal());
    let record = Record::load(&file).with_context(|| quoted(&args.file).to_string())?;
    let done = undo(&record, &image.storage, args.force, &meter);
    let done = done.with_context(|| quoted(&args.image).to_string())?;
    drop(meter);
    if !args.quiet {
        ui.out.line(&text(done))?;
        ui.out.flush()?;
    }
    Ok(ExitCode::Success)
}

fn text(done: Undone) -> String {
    let Undone::Restored { bytes, appended, cut } = done else {
        return "Nothing to undo: the image is as it was before the repair.".into();
    };
    let end = match (appended, cut) {
        (0, 0) => String::new(),
        (0, cut) => format!(
            "; {cut} bytes at the end, which the image did not have before the repair, were cut off"
        ),
        (appended, _) => {
            format!("; {appended} bytes at the end, appended since the repair, were left")
        }
    };
    format!("Repair undone: {bytes} bytes were put back{end}.")
}
