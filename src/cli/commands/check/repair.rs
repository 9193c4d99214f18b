//! `check --repair`: a repair of one image, or with `--dry-run` its plan.

use anyhow::{Result, anyhow, bail};
use qcheck::file::ImageFile;
use qcheck::repair::{Hints, Names, RepairMode};
use qcheck::{Error, Repair};

use super::args::{Args, Mode};
use super::reattach;
use crate::cli::render::outcome::Outcome;

/// Repairs an image, or plans it.
pub fn run(args: &Args, mode: Mode, repair: Repair<'_>, file: ImageFile) -> Result<Outcome> {
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
    let names = Names {
        backing: args.hint_backing.clone().zip(args.hint_backing_format.clone()),
        data_file: args.hint_data_file.clone(),
    };
    let hints = Hints { size: args.hint_size, cluster_bits: args.hint_cluster_size, names };
    let repair = repair.mode(mode).hints(hints).reattach(reattach::reattach(&args.reattach));
    let outcome = match (&args.undo, args.dry_run) {
        (_, true) => repair.plan_file(file).map(|plan| Outcome::Planned(Box::new(plan))),
        (Some(undo), false) => {
            repair.undo(undo).run_file(file).map(|done| Outcome::Repaired(Box::new(done)))
        }
        (None, false) => repair.run_file(file).map(|done| Outcome::Repaired(Box::new(done))),
    };
    match mode {
        RepairMode::Lossy => outcome.map_err(|error| with_hint_size(error, args)),
        _ => outcome.map_err(with_advice),
    }
}

/// Suggests how to continue where a header cannot be read.
pub fn with_advice(error: Error) -> anyhow::Error {
    match error {
        Error::Header { .. } => {
            anyhow!(
                "{error}; 'check -r all --allow-data-loss' searches the file for another header"
            )
        }
        // Nobody should lose a disk over advice for another format.
        Error::NotQcow2 => anyhow!("{error}; this may be a raw disk, which has nothing to check"),
        error => error.into(),
    }
}

/// Suggests options where a search found no header.
fn with_hint_size(error: Error, args: &Args) -> anyhow::Error {
    match error {
        Error::Header { offset: 0, .. } if args.hint_size.is_none() => {
            anyhow!("{error} (--hint-size)")
        }
        error => error.into(),
    }
}
