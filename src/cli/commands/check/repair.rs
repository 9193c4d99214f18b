//! `check --repair`: a repair of one image, or with `--dry-run` its plan.

use anyhow::{Result, bail};
use qcheck::check::CheckOptions;
use qcheck::progress::Progress;
use qcheck::repair::{Hints, Names, RepairMode, Request, dry_run, repair_as_asked};
use qcheck::storage::{FileStorage, Latch, Storage};

use super::args::{Args, Mode};
use super::{header, reattach};
use crate::cli::files::undo_file::UndoFile;
use crate::cli::render::outcome::Outcome;

/// Repairs an image, or plans it.
pub fn run(
    args: &Args,
    mode: Mode,
    image: FileStorage,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let mode = match mode {
        Mode::Leaks if args.allow_data_loss => {
            bail!("--allow-data-loss needs a repair of all, not of leaks")
        }
        Mode::Leaks if !args.reattach.is_empty() => {
            bail!("--reattach needs a repair of all, not of leaks")
        }
        Mode::Leaks => RepairMode::Leaks,
        Mode::All if args.allow_data_loss => RepairMode::Lossy,
        Mode::All => RepairMode::All,
    };
    if mode != RepairMode::Lossy {
        header::readable(&image)?;
    }
    let names = Names {
        backing: args.hint_backing.clone().zip(args.hint_backing_format.clone()),
        data_file: args.hint_data_file.clone(),
    };
    let hints = Hints { size: args.hint_size, cluster_bits: args.hint_cluster_size, names };
    let request = Request { mode, hints, reattach: reattach::reattach(&args.reattach) };
    if args.dry_run {
        let run = dry_run(&image, image.capacity(), &request, options, progress)?;
        return Ok(Outcome::Planned(Box::new(run)));
    }
    let repair =
        |storage: &dyn Storage| repair_as_asked(storage, &request, options, progress, &mut ());
    let outcome = match &args.undo {
        Some(path) => UndoFile::create(path)?.record(image, repair)?,
        None => repair(&Latch::new(image))?,
    };
    Ok(Outcome::Repaired(Box::new(outcome)))
}
