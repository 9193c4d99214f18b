//! Many images in one run: a line each, a summary, the worst exit code.

use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use qcheck::check::CheckOptions;
use qcheck::format::probe::ImageFormat;
use qcheck::policy::{Policy, Violation};
use qcheck::verify::Digests;
use serde_json::Value;

use super::data::Deep;
use super::policy::Gate;
use crate::cli::args::file_name::{Given, quoted};
use crate::cli::args::format::format_name;
use crate::cli::args::size::parse_number;
use crate::cli::commands::check::remarkable;
use crate::cli::files::open::{self, Opened};
use crate::cli::files::targets::{self, Target};
use crate::cli::files::workers::in_order;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::junit;
use crate::cli::render::sarif;
use crate::cli::render::text::listing::Budget;
use crate::cli::render::verdict::{Judged, Totals, Verdict};
use crate::cli::render::{json, text};
use crate::cli::terminal::color::PLAIN;
use crate::cli::terminal::fault;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::{Ui, escape};

/// Which images, and how many at a time.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Many images")]
#[group(skip)]
pub struct Args {
    /// Check also the images that this file names, one a line or with a zero byte behind each; - is
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,

    /// Check the files below the images too, each once
    #[arg(long, conflicts_with = "policy")]
    pub backing_chain: bool,

    /// Check this many images at a time, 1 if not given; 0: as many as there are processors. The form of the output is that
    /// of several images
    #[arg(short, long, value_name = "N", value_parser = parse_number::<usize>)]
    pub jobs: Option<usize>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people, and scripts that read qemu-img's lines
    Human,
    /// For programs; an array where there can be several images
    Json,
    /// An object a line for each image, as soon as it is checked
    Ndjson,
    /// JUnit XML: a test case for each image
    Junit,
    /// SARIF: a result for each finding
    Sarif,
}

/// What is printed once all images are done.
enum Gathered {
    /// The summary.
    Nothing,
    Json(Vec<Value>),
    Junit(junit::Suite),
    Sarif(sarif::Log),
}

/// What holds for every image.
#[derive(Debug)]
pub struct Settings {
    /// The images named.
    pub images: Vec<Given>,
    /// Their format, if the user gave one.
    pub format: Option<ImageFormat>,
    /// Whether images in use are read.
    pub force_share: bool,
    /// How to print.
    pub form: Form,
    /// Whether nothing is printed to standard output.
    pub quiet: bool,
    /// Whether progress is shown.
    pub progress: bool,
    /// Most findings of an image that are told.
    pub max_findings: u64,
    /// Whether findings are explained.
    pub explain: bool,
    /// What is read beside the check.
    pub deep: Deep,
    /// What is denied.
    pub policy: Policy,
}

impl Args {
    /// Whether there may be other than one image, or the output can tell of several only.
    pub fn apply(&self, images: usize, form: Form, repairs: bool) -> bool {
        let tells_of_one = matches!(form, Form::Human | Form::Json);
        let is_list = self.jobs.is_some() && !repairs;
        images != 1 || is_list || self.files_from.is_some() || self.backing_chain || !tells_of_one
    }
}

/// Checks all images and tells of each.
pub fn run(args: &Args, settings: &Settings, ui: &mut Ui) -> Result<ExitCode> {
    let targets = find(args, settings)?;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let jobs = match args.jobs {
        Some(0) => processors,
        jobs => jobs.unwrap_or(1),
    };
    let threads = (processors / jobs.min(targets.len().max(1))).max(1);
    let name = ui.name().to_owned();
    let mut totals = Totals::default();
    let mut gathered = Gathered::new(settings.form);
    in_order(
        &targets,
        jobs,
        |target| judge(target, settings, threads, &name),
        |judged| {
            totals.add(&judged);
            tell(&judged, settings, &mut gathered, ui)
        },
    )?;
    if !settings.quiet {
        match gathered {
            Gathered::Nothing if settings.form == Form::Human => ui.out.line(&totals.text())?,
            Gathered::Nothing => {}
            Gathered::Json(values) => json::document::write(&mut ui.out, &Value::Array(values))?,
            Gathered::Junit(suite) => suite.write(&mut ui.out)?,
            Gathered::Sarif(log) => json::document::write(&mut ui.out, &log.into_value())?,
        }
    }
    ui.out.flush().context("could not write the result")?;
    if targets.is_empty() {
        // A search that found nothing must not pass for images that are sound.
        ui.error("the list names no image, so nothing was checked")?;
        return Ok(ExitCode::Failure);
    }
    Ok(totals.code())
}

impl Gathered {
    fn new(form: Form) -> Self {
        match form {
            Form::Human | Form::Ndjson => Self::Nothing,
            Form::Json => Self::Json(Vec::new()),
            Form::Junit => Self::Junit(junit::Suite::default()),
            Form::Sarif => Self::Sarif(sarif::Log::default()),
        }
    }

    fn add(&mut self, judged: &Judged, settings: &Settings) {
        let max_findings = settings.max_findings;
        match self {
            Self::Nothing => {}
            Self::Json(values) => {
                values.push(json::verdict::value(judged, max_findings, settings.explain))
            }
            Self::Junit(suite) => suite.add(judged, max_findings),
            Self::Sarif(log) => log.add(judged, max_findings),
        }
    }
}

fn find(args: &Args, settings: &Settings) -> Result<Vec<Target>> {
    let mut names = settings.images.clone();
    if let Some(list) = &args.files_from {
        names.extend(targets::listed(list)?);
    }
    let images = targets::plain(names, settings.format);
    if !args.backing_chain {
        return Ok(images);
    }
    if settings.policy.is_active() {
        bail!("--backing-chain opens files that an image names, which a policy does not");
    }
    Ok(targets::with_chains(images, settings.force_share))
}

impl Settings {
    fn options(&self, threads: usize) -> CheckOptions {
        let keep = match self.max_findings {
            0 => usize::MAX,
            // As for one image: what is not printed is summed up by kind, for which it has to be kept.
            n => usize::try_from(n).unwrap_or(usize::MAX).max(CheckOptions::default().keep),
        };
        CheckOptions { threads, keep, ..CheckOptions::default() }
    }
}

fn judge(target: &Target, settings: &Settings, threads: usize, program: &str) -> Judged {
    let begun = Instant::now();
    let (mut violations, mut digests) = (Vec::new(), Digests::default());
    let name = format!("{program}: {}", quoted(&target.path));
    let verdict = match &target.problem {
        Some(problem) => Verdict::Failed(problem.clone()),
        None => look(target, settings, threads, &name, &mut violations)
            .map(|(verdict, made)| {
                digests = made;
                verdict
            })
            .unwrap_or_else(|error| Verdict::Failed(fault::failure(&error))),
    };
    let name = target.path.to_string_lossy().into_owned();
    let is_below = target.is_below;
    Judged { name, verdict, is_below, digests, violations, took: begun.elapsed() }
}

/// Looks at one image; violations are told even where there is no verdict.
fn look(
    target: &Target,
    settings: &Settings,
    threads: usize,
    name: &str,
    violations: &mut Vec<Violation>,
) -> Result<(Verdict, Digests)> {
    let path = target.path.as_path();
    let is_raw = target.format.is_none_or(|format| format == ImageFormat::Raw);
    if is_raw && open::is_character_device(path).unwrap_or(false) {
        return Ok((Verdict::NoChecker(format_name(ImageFormat::Raw)), Digests::default()));
    }
    let image = open::open(path, target.format, settings.deep.purpose(), settings.force_share)?;
    let mut gate = Gate::new(&settings.policy, path, &image)?;
    let checked = verdict(path, image, settings, threads, name);
    if let Ok((Verdict::Checked(checked), _)) = &checked {
        gate.judge(&checked.0);
    }
    *violations = gate.into_violations();
    checked.with_context(|| quoted(path).to_string())
}

fn verdict(
    path: &Path,
    image: Opened,
    settings: &Settings,
    threads: usize,
    name: &str,
) -> Result<(Verdict, Digests)> {
    let meter = Meter::new(name, settings.progress, settings.quiet, false);
    let file = Arc::new(image.storage);
    if image.format == ImageFormat::Qcow2 {
        let options = settings.options(threads);
        let checked = settings.deep.check(file, path, &options, &meter)?;
        let both = Box::new((checked.report, checked.affected));
        return Ok((Verdict::Checked(both), checked.digests));
    }
    let digests = match image.format {
        ImageFormat::Raw => settings.deep.raw(file, threads, &meter)?,
        _ => Digests::default(),
    };
    Ok((Verdict::NoChecker(format_name(image.format)), digests))
}

/// Tells of one image: what was found on standard error, the verdict on standard output.
fn tell(judged: &Judged, settings: &Settings, gathered: &mut Gathered, ui: &mut Ui) -> Result<()> {
    let of = |text: &str| format!("'{}': {text}", judged.name);
    for violation in &judged.violations {
        ui.message(&of(&violation.to_string()))?;
    }
    match &judged.verdict {
        Verdict::Failed(error) => ui.error(error)?,
        Verdict::Checked(checked) => {
            let report = &checked.0;
            if !report.tally.is_clean() {
                ui.message(&of("found:"))?;
                let mut budget = Budget::new(settings.max_findings);
                text::listing::print(
                    &mut ui.err,
                    report,
                    text::check::check_steps(report),
                    &mut budget,
                )?;
            }
            remarkable(Path::new(&judged.name), settings.max_findings, report, ui)?;
        }
        Verdict::NoChecker(_) => {}
    }
    ui.err.flush()?;
    // One line each, whatever the name.
    let name = format!("{}: ", escape(&judged.name));
    if settings.quiet {
        text::digests::print(&mut ui.out, &name, &judged.digests)?;
        return ui.out.flush().context("could not write the result");
    }
    match settings.form {
        Form::Human => {
            ui.out.styled(&[(PLAIN, &name), (judged.code().style(), &judged.text())])?;
            text::digests::print(&mut ui.out, &name, &judged.digests)?;
            if let (Verdict::Checked(checked), true) = (&judged.verdict, settings.explain) {
                text::explain::print(&mut ui.out, &checked.0, &checked.1)?;
            }
        }
        Form::Ndjson => ui.out.line(
            &json::verdict::value(judged, settings.max_findings, settings.explain).to_string(),
        )?,
        Form::Json | Form::Junit | Form::Sarif => gathered.add(judged, settings),
    }
    // Whoever waits for the lines has them as soon as they are known.
    ui.out.flush().context("could not write the result")
}
