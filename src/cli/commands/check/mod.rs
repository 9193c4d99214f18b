//! `qcheck check`: check an image, and repair it.

mod alone;
mod args;
mod data;
mod judge;
mod list;
mod live;
mod policy;
mod reattach;
mod repair;
mod several;
mod shard;
mod since;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cli::args::file_name::quoted;
use crate::cli::files::targets::Target;
use crate::cli::files::whole::WholeFile;
use crate::cli::files::workers::in_order;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::verdict::{Judged, Totals};
use crate::cli::terminal::ui::{Output, Ui};

pub use args::{Args, expand_repair};

use judge::Judge;
use several::Several;
use since::Since;

/// Runs the command. One image is a list of one, and printed in its own form.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let policy = args.policy.policy();
    let is_of_several = args.is_of_several();
    if args.repair.is_some() && policy.is_active() {
        bail!("a policy applies to an image as it is; repair it in a separate run");
    }
    if args.repair.is_some() && is_of_several {
        bail!("a repair takes one image, and --output human or json");
    }
    let named = args.list.named(args.named()?, args.format)?;
    let is_empty = named.is_empty();
    let targets = args.list.targets(named, args.shares(), &policy)?;
    let file = match &args.output_file {
        Some(file) if args.list.since.as_ref() == Some(file) => {
            bail!("{}: the file of --since cannot have the result too", quoted(file))
        }
        Some(file) => Some(output_file(file, args, &targets, ui)?),
        None => None,
    };
    let since = args.list.since.as_deref().map(|path| Since::load(path, args, &policy));
    let since = since.transpose()?;
    let jobs = args.list.jobs().min(targets.len());
    let judge = Judge::new(args, policy, since.as_ref(), jobs, ui);
    let mut records = Vec::new();
    let totals = check(args, &judge, &targets, ui, |judged| {
        records.extend(since.as_ref().map(|since| since.record(judged)));
    })?;
    if let Some(file) = file {
        file.finish()?;
    }
    if let Some(since) = since {
        since.finish(records, &targets)?;
    }
    if is_empty {
        // A search that found nothing must not look like images that are clean.
        ui.error("the list names no image, so nothing was checked")?;
        return Ok(ExitCode::Failure);
    }
    Ok(totals.class().into())
}

/// Checks the images and prints what comes out, in their order.
fn check(
    args: &Args,
    judge: &Judge<'_>,
    targets: &[Target],
    ui: &mut Ui,
    mut record: impl FnMut(&Judged),
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut several = args.is_of_several().then(|| Several::new(args));
    in_order(
        targets,
        args.list.jobs(),
        |target| judge.judge(target),
        |judged| {
            totals.add(&judged);
            record(&judged);
            match &mut several {
                Some(several) => several.tell(&judged, ui),
                None => alone::tell(args, &judged, ui),
            }
        },
    )?;
    if let Some(several) = several {
        several.end(&totals, ui)?;
    }
    Ok(totals)
}

/// Has the result written to a file, which none of the images may be.
fn output_file(file: &Path, args: &Args, targets: &[Target], ui: &mut Ui) -> Result<WholeFile> {
    let whole = WholeFile::begin(file)?;
    let read = [&args.list.files_from, &args.list.since];
    whole.require_none_of(read.into_iter().flatten().map(PathBuf::as_path))?;
    whole.require_no_image(file, targets)?;
    ui.out = Output::new(whole.writer()?, false);
    Ok(whole)
}
