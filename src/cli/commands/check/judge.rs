//! The check or repair of an image from its name to its verdict, as the arguments ask for it.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use qcheck::ImageFormat;
use qcheck::check::CheckOptions;
use qcheck::contents::Contents;
use qcheck::file::Intent;
use qcheck::policy::Policy;
use qcheck::remote::{is_remote, without_secrets};
use qcheck::threads;
use qcheck::{Checked, Checker, Error, Repair, front};

use super::args::Args;
use super::repair::{self, with_advice};
use super::since::Since;
use crate::cli::args::file_name::quoted;
use crate::cli::files::fingerprint::Fingerprint;
use crate::cli::files::targets::Target;
use crate::cli::files::{contents, open, remote};
use crate::cli::render::outcome::Outcome;
use crate::cli::render::verdict::record::Record;
use crate::cli::render::verdict::{Judged, Verdict};
use crate::cli::terminal::fault;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::Ui;

/// What holds for every image.
pub struct Judge<'a> {
    args: &'a Args,
    policy: Policy,
    threads: usize,
    keep: usize,
    since: Option<&'a Since>,
    program: String,
    is_of_several: bool,
    is_terminal: bool,
}

impl<'a> Judge<'a> {
    /// For this many images at a time.
    pub fn new(
        args: &'a Args,
        policy: Policy,
        since: Option<&'a Since>,
        jobs: usize,
        ui: &Ui,
    ) -> Self {
        // One at a time has as many threads as the library chooses.
        let threads = if jobs > 1 { (threads::cores() / jobs).max(1) } else { 0 };
        let keep = match args.most_findings() {
            0 => usize::MAX,
            // What is not printed is summed up by kind, for which it has to be kept.
            n => usize::try_from(n).unwrap_or(usize::MAX).max(CheckOptions::default().keep),
        };
        Self {
            args,
            policy,
            threads,
            keep,
            since,
            program: ui.name().to_owned(),
            is_of_several: args.is_of_several(),
            is_terminal: ui.err.is_terminal(),
        }
    }

    /// Comes to a verdict on one image.
    pub fn judge(&self, target: &Target) -> Judged {
        let begun = Instant::now();
        let name = without_secrets(&target.path).to_string_lossy().into_owned();
        let mut judged = Judged::new(name, target.is_below);
        if let Some(problem) = &target.problem {
            judged.verdict = Verdict::Failed(problem.clone());
        } else if let Some(record) = self.unchanged(target, &mut judged) {
            judged.verdict = Verdict::Unchanged(Box::new(record));
        } else if let Err(error) = self.look(target, &mut judged) {
            judged.verdict = Verdict::Failed(fault::failure(&error));
        }
        judged.took = begun.elapsed();
        judged
    }

    /// What is recorded of an image that has not changed. Taken before the check, what shows that
    /// never belongs to a later content.
    fn unchanged(&self, target: &Target, judged: &mut Judged) -> Option<Record> {
        let since = self.since?;
        if is_remote(&target.path) {
            return None;
        }
        // Why a file cannot be read is reported by its check.
        let now = Fingerprint::of(&target.path).ok()??;
        let record = since.unchanged(target, &now).cloned();
        judged.file = Some(now);
        record
    }

    fn look(&self, target: &Target, judged: &mut Judged) -> Result<()> {
        let (args, path) = (self.args, target.path.as_path());
        if args.changes() && args.force_share {
            bail!("-U reads an image that may change, which no repair can do");
        }
        let meter = self.meter(target);
        let checker = self.checker(target, &meter);
        if let Some(checked) = checker.without_opening() {
            return self.settle(target, judged, checked);
        }
        let intent = if args.changes() { Intent::Change } else { checker.intent() };
        let file = open::open(path, target.format, intent, args.shares())?;
        if let (Some(mode), ImageFormat::Qcow2) = (args.repair, file.format) {
            let repair = Repair::new(path).threads(self.threads).keep(self.keep).progress(&meter);
            let outcome = repair::run(args, mode, repair, file);
            judged.verdict = Verdict::Checked(outcome.with_context(|| quoted(path).to_string())?);
            return Ok(());
        }
        match checker.check_file(file) {
            Ok(checked) => {
                judged.contents = self.contents(target, &checked);
                self.settle(target, judged, checked)
            }
            Err(error) => Err(self.failure(target, error)),
        }
    }

    /// What the disk contains, where an explanation names it. A policy may deny the files that
    /// would be read for it.
    fn contents(&self, target: &Target, checked: &Checked) -> Option<Contents> {
        let has_errors = checked.report().is_some_and(|report| report.tally.corruptions > 0);
        if !self.args.explain || !has_errors || self.policy.is_active() {
            return None;
        }
        contents::of(&target.path, target.format, self.args.force_share, &target.key)
    }

    fn checker<'b>(&self, target: &Target, meter: &'b Meter) -> Checker<'b> {
        let mut checker = Checker::new(&target.path).policy(self.policy.clone());
        checker = checker.remote_names(remote::names());
        checker = checker.key(target.key.clone());
        if let Some(format) = target.format {
            checker = checker.format(format);
        }
        let checker = checker.share(self.args.shares()).threads(self.threads).keep(self.keep);
        self.args.live.apply(self.args.data.apply(checker)).progress(meter)
    }

    /// Takes what the library returns for an image; violations are known even where there is no
    /// verdict.
    fn settle(&self, target: &Target, judged: &mut Judged, checked: Checked) -> Result<()> {
        judged.violations = checked.violations;
        judged.digests = checked.digests;
        judged.view = checked.view;
        judged.verdict = match checked.verdict {
            front::Verdict::Checked { report, affected } => {
                Verdict::Checked(Outcome::Checked { report, affected })
            }
            front::Verdict::NoChecker(unchecked) => Verdict::NoChecker(unchecked),
            front::Verdict::Failed(error) => return Err(self.failure(target, error)),
            _ => bail!("this verdict is not known"),
        };
        Ok(())
    }

    /// Why there is no verdict, with what helps. Only of one image there can be a repair.
    fn failure(&self, target: &Target, error: Error) -> anyhow::Error {
        let error = if self.is_of_several { error.into() } else { with_advice(error) };
        error.context(quoted(&target.path).to_string())
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
