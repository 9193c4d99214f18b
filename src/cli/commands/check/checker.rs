//! The check of an image from its name to its verdict: open, policy, check or repair, data,
//! digests.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use qcheck::check::CheckOptions;
use qcheck::format::probe::ImageFormat;
use qcheck::policy::{Policy, Violation};
use qcheck::verify::Digests;

use super::args::Args;
use super::data::Deep;
use super::policy::Gate;
use super::{header, list, repair};
use crate::cli::args::file_name::quoted;
use crate::cli::args::format::format_name;
use crate::cli::files::open::{self, Opened, Purpose};
use crate::cli::files::targets::Target;
use crate::cli::render::outcome::Outcome;
use crate::cli::render::verdict::{Judged, Unchecked, Verdict};
use crate::cli::terminal::fault;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// What holds for every image.
pub struct Checker<'a> {
    args: &'a Args,
    policy: Policy,
    deep: Deep,
    options: CheckOptions,
    program: String,
    is_of_several: bool,
    is_terminal: bool,
}

impl<'a> Checker<'a> {
    /// For this many images at a time.
    pub fn new(args: &'a Args, policy: Policy, jobs: usize, ui: &Ui) -> Self {
        // One at a time has as many threads as the library chooses.
        let threads = if jobs > 1 { (list::processors() / jobs).max(1) } else { 0 };
        let defaults = CheckOptions::default();
        let keep = match args.most_findings() {
            0 => usize::MAX,
            // What is not printed is summed up by kind, for which it has to be kept.
            n => usize::try_from(n).unwrap_or(usize::MAX).max(defaults.keep),
        };
        Self {
            args,
            deep: args.data.deep(&policy, args.force_share),
            policy,
            options: CheckOptions { threads, keep, ..defaults },
            program: ui.name().to_owned(),
            is_of_several: args.is_of_several(),
            is_terminal: ui.err.is_terminal(),
        }
    }

    /// Comes to a verdict on one image.
    pub fn judge(&self, target: &Target) -> Judged {
        let begun = Instant::now();
        let mut violations = Vec::new();
        let looked = match &target.problem {
            Some(problem) => Ok((Verdict::Failed(problem.clone()), Digests::default())),
            None => self.look(target, &mut violations),
        };
        let (verdict, digests) = looked
            .unwrap_or_else(|error| (Verdict::Failed(fault::failure(&error)), Digests::default()));
        let name = target.path.to_string_lossy().into_owned();
        let is_below = target.is_below;
        Judged { name, verdict, is_below, digests, violations, took: begun.elapsed() }
    }

    /// Looks at one image; violations are known even where there is no verdict.
    fn look(&self, target: &Target, violations: &mut Vec<Violation>) -> Result<(Verdict, Digests)> {
        let (args, path) = (self.args, target.path.as_path());
        if args.changes() && args.force_share {
            bail!("-U reads an image that may change, which no repair can do");
        }
        let is_raw = target.format.is_none_or(|format| format == ImageFormat::Raw);
        if is_raw && open::is_character_device(path).unwrap_or(false) {
            return Ok((Verdict::NoChecker(Unchecked::device()), Digests::default()));
        }
        let purpose = if args.changes() { Purpose::Change } else { self.deep.purpose() };
        let image = open::open(path, target.format, purpose, args.force_share)?;
        let mut gate = Gate::new(&self.policy, path, &image)?;
        let done = match image.format {
            ImageFormat::Qcow2 => self.check(target, image),
            _ => self.without_checker(target, image),
        };
        if let Ok((Verdict::Checked(outcome), _)) = &done {
            gate.judge(outcome.report());
        }
        *violations = gate.into_violations();
        done.with_context(|| quoted(path).to_string())
    }

    /// Checks or repairs a qcow2 image.
    fn check(&self, target: &Target, image: Opened) -> Result<(Verdict, Digests)> {
        let meter = self.meter(target);
        if let Some(mode) = self.args.repair {
            let outcome = repair::run(self.args, mode, image.storage, &self.options, &meter)?;
            return Ok((Verdict::Checked(outcome), Digests::default()));
        }
        let file = Arc::new(image.storage);
        let checked = self.deep.check(file, &target.path, &self.options, &meter);
        let (checked, digests) = match self.is_of_several {
            true => checked?,
            // Only of one image there can be a repair.
            false => checked.map_err(header::with_advice)?,
        };
        Ok((Verdict::Checked(Outcome::Checked(Box::new(checked))), digests))
    }

    /// What there is for an image that is not qcow2: the digest of a raw one, if that is wanted.
    fn without_checker(&self, target: &Target, image: Opened) -> Result<(Verdict, Digests)> {
        let seems = open::likeness_notice(&target.path, &image, target.format);
        let format = format_name(image.format);
        let digests = match image.format {
            ImageFormat::Raw => {
                let (file, threads) = (Arc::new(image.storage), self.options.threads);
                self.deep.raw(file, threads, &self.meter(target))?
            }
            _ => Digests::default(),
        };
        Ok((Verdict::NoChecker(Unchecked { format, is_device: false, seems }), digests))
    }

    /// Several images share a terminal, so that none has a bar and each has its name.
    fn meter(&self, target: &Target) -> Meter {
        let (progress, quiet) = (self.args.progress, self.args.quiet);
        if self.is_of_several {
            let name = format!("{}: {}", self.program, quoted(&target.path));
            return Meter::new(&name, progress, quiet, false);
        }
        Meter::new(&self.program, progress, quiet, self.is_terminal)
    }
}
