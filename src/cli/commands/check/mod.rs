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

use anyhow::{Result, bail};

use crate::cli::files::workers::in_order;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::verdict::Totals;
use crate::cli::terminal::ui::Ui;

pub use args::{Args, expand_repair};

use judge::Judge;
use several::Several;

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
    let targets = args.list.targets(args.named()?, args.format, args.shares(), &policy)?;
    let jobs = args.list.jobs();
    let judge = Judge::new(args, policy, jobs.min(targets.len()), ui);
    let mut totals = Totals::default();
    let mut several = is_of_several.then(|| Several::new(args));
    in_order(
        &targets,
        jobs,
        |target| judge.judge(target),
        |judged| {
            totals.add(&judged);
            match &mut several {
                Some(several) => several.tell(&judged, ui),
                None => alone::tell(args, &judged, ui),
            }
        },
    )?;
    if let Some(several) = several {
        several.end(&totals, ui)?;
    }
    if targets.is_empty() {
        // A search that found nothing must not look like images that are clean.
        ui.error("the list names no image, so nothing was checked")?;
        return Ok(ExitCode::Failure);
    }
    Ok(totals.class().into())
}
