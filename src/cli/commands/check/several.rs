//! The results for several images: a line each and a summary, or one document.

use std::io::Write;

use anyhow::{Context, Result};

use serde_json::Value;

use super::args::{Args, Form};
use crate::cli::render::exit::style;
use crate::cli::render::findings::Ranges;
use crate::cli::render::forms::{junit, prometheus, sarif};
use crate::cli::render::json::checked::verdict::{Limits, OneOfMany};
use crate::cli::render::text::listing::Budget;
use crate::cli::render::verdict::{Judged, Totals, Verdict};
use crate::cli::render::{json, text};
use crate::cli::terminal::color::PLAIN;
use crate::cli::terminal::ui::{Ui, escape};

/// What is printed once all images are done.
enum Gathered {
    /// The summary.
    Nothing,
    /// One for each image; what they are made from is dropped meanwhile.
    Json(Vec<Value>),
    Junit(junit::Suite),
    Sarif(sarif::Gathered),
    Prometheus(prometheus::Metrics),
}

/// The images so far.
pub struct Several<'a> {
    args: &'a Args,
    gathered: Gathered,
}

impl<'a> Several<'a> {
    /// None yet.
    pub fn new(args: &'a Args) -> Self {
        let gathered = match args.output {
            Form::Human | Form::Ndjson => Gathered::Nothing,
            Form::Json => Gathered::Json(Vec::new()),
            Form::Junit => Gathered::Junit(junit::Suite::default()),
            Form::Prometheus => Gathered::Prometheus(prometheus::Metrics::default()),
            Form::Sarif => Gathered::Sarif(sarif::Gathered::default()),
        };
        Self { args, gathered }
    }

    /// Reports one image: what was found on standard error, the verdict on standard output.
    pub fn tell(&mut self, judged: &Judged, ui: &mut Ui) -> Result<()> {
        self.findings(judged, ui)?;
        // One line each, whatever the name.
        let name = format!("{}: ", escape(&judged.name));
        let (args, most) = (self.args, self.args.most_findings());
        // Of several images none is repaired, nor a repair planned.
        let limits = Limits { findings: most, writes: 0, explain: args.explain };
        match (&mut self.gathered, args.output) {
            _ if args.quiet => text::digests::print(&mut ui.out, &name, &judged.digests)?,
            (Gathered::Nothing, Form::Ndjson) => {
                ui.out.line(&serde_json::to_string(&OneOfMany::new(judged, limits))?)?;
            }
            (Gathered::Nothing, _) => {
                ui.out.styled(&[(PLAIN, &name), (style(judged.class()), &judged.text())])?;
                if let Some(view) = &judged.view {
                    ui.out.line(&format!("{name}{}", text::live::text(view)))?;
                }
                text::digests::print(&mut ui.out, &name, &judged.digests)?;
                if let (Verdict::Checked(outcome), true) = (&judged.verdict, args.explain) {
                    let ranges = Ranges::new(outcome.report(), judged.contents.as_ref());
                    text::explain::print(&mut ui.out, &ranges, outcome.affected())?;
                }
            }
            (Gathered::Json(values), _) => {
                values.push(serde_json::to_value(OneOfMany::new(judged, limits))?);
            }
            (Gathered::Junit(suite), _) => suite.add(judged, most),
            (Gathered::Sarif(log), _) => log.add(judged, most),
            (Gathered::Prometheus(metrics), _) => metrics.add(judged),
        }
        // Whoever waits for the lines has them as soon as they are known.
        ui.out.flush().context("could not write the result")
    }

    fn findings(&self, judged: &Judged, ui: &mut Ui) -> Result<()> {
        let of = |text: &str| format!("'{}': {text}", judged.name);
        let most = self.args.most_findings();
        for violation in &judged.violations {
            ui.message(&of(&violation.to_string()))?;
        }
        match &judged.verdict {
            Verdict::Failed(error) => ui.error(error)?,
            Verdict::Checked(outcome) => {
                let report = outcome.report();
                if !report.tally.is_clean() {
                    ui.message(&of("found:"))?;
                    let steps = text::check::check_steps(report);
                    text::listing::print(&mut ui.err, report, steps, &mut Budget::new(most))?;
                }
                text::remarks::print(ui, &judged.name, report, most)?;
            }
            Verdict::NoChecker(_) | Verdict::Unchanged(_) => {}
        }
        Ok(ui.err.flush()?)
    }

    /// Prints what is known only now.
    pub fn end(self, totals: &Totals, ui: &mut Ui) -> Result<()> {
        if !self.args.quiet {
            match self.gathered {
                Gathered::Nothing if self.args.output == Form::Human => {
                    ui.out.line(&totals.text())?;
                }
                Gathered::Nothing => {}
                Gathered::Json(values) => {
                    json::document::write(&mut ui.out, &values)?;
                }
                Gathered::Junit(suite) => suite.write(&mut ui.out)?,
                Gathered::Prometheus(metrics) => metrics.write(&mut ui.out)?,
                Gathered::Sarif(log) => json::document::write(&mut ui.out, &log.into_log())?,
            }
        }
        ui.out.flush().context("could not write the result")
    }
}
