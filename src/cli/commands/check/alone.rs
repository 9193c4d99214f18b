//! The result for one image that is checked alone: qemu-img's form.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use qcheck::ImageFormat;
use qcheck::check::{Severity, Verb};
use qcheck::front::Unchecked;
use qcheck::repair::{Fixed, RepairOutcome};

use super::args::{Args, Form};
use crate::cli::files::open;
use crate::cli::render::findings::Ranges;
use crate::cli::render::json::checked::verdict::{Alone, Digested, Limits};
use crate::cli::render::outcome::Outcome;
use crate::cli::render::text::listing::Budget;
use crate::cli::render::verdict::{Judged, Verdict};
use crate::cli::render::{json, text};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::{QEMU_IMG, Ui};

/// Prints the findings to standard error and the result to standard output.
pub fn tell(args: &Args, judged: &Judged, ui: &mut Ui) -> Result<()> {
    for violation in &judged.violations {
        ui.message(&format!("'{}': {violation}", judged.name))?;
    }
    match &judged.verdict {
        Verdict::Failed(error) if judged.violations.is_empty() => ui.error(error)?,
        // What is denied is the result.
        Verdict::Failed(error) => ui.message(error)?,
        Verdict::NoChecker(image) if judged.digests.active.is_none() => {
            no_checker(args, judged, image, ui)?;
        }
        Verdict::NoChecker(image) => digest(args, judged, image, ui)?,
        // Recorded are results for several images.
        Verdict::Unchanged(_) => ui.out.line(&judged.text())?,
        Verdict::Checked(outcome) => {
            findings(args, judged, outcome, ui)?;
            result(args, judged, outcome, ui)?;
        }
    }
    ui.out.flush().context("could not write the result")
}

fn no_checker(args: &Args, judged: &Judged, image: &Unchecked, ui: &mut Ui) -> Result<()> {
    if args.allow_data_loss && image.format == ImageFormat::Raw && !image.is_device {
        ui.message(
            "an image whose header is lost looks like a raw one; -f qcow2 gives its format",
        )?;
    }
    // qemu-img's words, for which scripts look.
    ui.message("This image format does not support checks")?;
    if image.format != ImageFormat::Raw {
        let (name, format) = (&judged.name, image.format.name());
        ui.message(&format!("NOTICE: '{name}' is {format}; only qcow2 images can be checked"))?;
    }
    if let Some(likeness) = &image.likeness {
        ui.message(&open::seems(Path::new(&judged.name), likeness))?;
    }
    Ok(())
}

/// The digest of a raw image, of which nothing else can be checked.
fn digest(args: &Args, judged: &Judged, image: &Unchecked, ui: &mut Ui) -> Result<()> {
    if args.output != Form::Json || args.quiet {
        return Ok(text::digests::print(&mut ui.out, "", &judged.digests)?);
    }
    let digested = Digested::new(judged, image.format.name());
    Ok(json::document::write(&mut ui.out, &digested)?)
}

fn findings(args: &Args, judged: &Judged, outcome: &Outcome, ui: &mut Ui) -> Result<()> {
    let mut budget = Budget::new(args.most_lines(ui.err.is_terminal()));
    let report = outcome.report();
    for finding in report.findings.iter().filter(|f| f.severity() == Severity::Notice) {
        log::info!("{}", finding.line(0, Verb::Tell));
    }
    match outcome {
        Outcome::Checked { .. } | Outcome::Planned(_) => {
            let steps = text::check::check_steps(report);
            text::listing::print(&mut ui.err, report, steps, &mut budget)?;
        }
        Outcome::Repaired(outcome) => repair(args, judged, outcome, &mut budget, ui)?,
    }
    text::remarks::print(ui, &judged.name, report, args.most_findings())?;
    Ok(ui.err.flush()?)
}

/// What a repair did, and what the check after it found.
fn repair(
    args: &Args,
    judged: &Judged,
    outcome: &RepairOutcome,
    budget: &mut Budget,
    ui: &mut Ui,
) -> Result<()> {
    if let Some(rebuilt) = &outcome.rebuilt_header {
        text::header::tell(ui, &judged.name, rebuilt)?;
    }
    let comparison = outcome.comparison();
    let steps = text::check::repair_steps(outcome, &comparison);
    text::listing::print(&mut ui.err, &outcome.before, steps, budget)?;
    if outcome.held > 0 {
        ui.message(&format!(
            "'{}': {} not released, since damaged structures may hide references to {}",
            judged.name,
            counted(outcome.held, "leaked cluster was", "leaked clusters were"),
            if outcome.held == 1 { "it" } else { "them" }
        ))?;
    }
    ui.err.flush()?;
    if let (Some(after), false) = (&outcome.after, outcome.fixed() == Fixed::default()) {
        if !args.quiet && args.output != Form::Json {
            text::check::fixed(&mut ui.out, outcome.fixed())?;
            ui.out.flush()?;
        }
        text::listing::print(&mut ui.err, after, text::check::check_steps(after), budget)?;
    }
    Ok(())
}

fn result(args: &Args, judged: &Judged, outcome: &Outcome, ui: &mut Ui) -> Result<()> {
    let most_writes = args.most_lines(ui.out.is_terminal());
    if args.quiet {
        text::digests::print(&mut ui.out, "", &judged.digests)?;
    } else if args.output == Form::Json {
        let (findings, explain) = (args.most_findings(), args.explain);
        let limits = Limits { findings, writes: most_writes, explain };
        json::document::write(&mut ui.out, &Alone::new(judged, outcome, limits))?;
    } else {
        let as_qemu_img = ui.name() == QEMU_IMG;
        text::check::summary(&mut ui.out, outcome.report(), as_qemu_img)?;
        text::live::print(&mut ui.out, judged.view.as_ref())?;
        if args.explain {
            let ranges = Ranges::new(outcome.report(), judged.contents.as_ref());
            text::explain::print(&mut ui.out, &ranges, outcome.affected())?;
        }
        text::digests::print(&mut ui.out, "", &judged.digests)?;
        if let Outcome::Planned(run) = outcome {
            text::plan::print(&mut ui.out, run, most_writes)?;
        }
    }
    Ok(())
}
