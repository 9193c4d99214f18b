//! `qcheck check`: is the image sound, and repair it.

pub mod data;
mod header;
mod many;
pub mod policy;
mod reattach;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use qcheck::check::{Affected, CheckOptions, CheckReport, Finding, Kind, Severity, Verb};
use qcheck::format::probe::ImageFormat;
use qcheck::policy::Policy;
use qcheck::repair::{DryRun, Fixed, Hints, RebuiltHeader, RepairMode, RepairOutcome};
use qcheck::repair::{Request, dry_run, repair_as_asked};
use qcheck::storage::{Latch, Storage};

use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::file_name::{self, Given, quoted};
use crate::cli::args::format::{format_name, parse_format};
use crate::cli::args::size::{parse_cluster_size, parse_number, parse_size};
use crate::cli::files::open::{self, Opened, Purpose};
use crate::cli::files::undo_file::UndoFile;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::json::check::CheckResult;
use crate::cli::render::text::listing::Budget;
use crate::cli::render::{json, text};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::ui::{QEMU_IMG, Ui};

use data::{Checked, Deep};
use many::{Form, Settings};
use policy::Gate;

/// Check qcow2 images, and repair one with -r.
///
/// Exit codes: 0 nothing wrong, 1 no verdict, 2 errors in the image, 3 leaked clusters only, 4 denied
/// by the policy, 63 no checker for this format. With several images it is the worst of theirs, in
/// the order 4, 1, 2, 3, 63, 0.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; told from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = parse_format)]
    format: Option<ImageFormat>,

    /// Repair clusters with counts that are too high, or everything that can be repaired; --repair
    /// alone means all
    #[arg(short, long, value_name = "leaks|all", value_enum)]
    repair: Option<Mode>,

    /// Print what a repair would write, and write nothing; the exit code is that of the check
    #[arg(long, requires = "repair", conflicts_with = "undo")]
    dry_run: bool,

    /// Record in this new file what a repair overwrites, before it does, so that 'undo' can put it
    /// back
    #[arg(long, value_name = "FILE", requires = "repair")]
    undo: Option<PathBuf>,

    /// With -r all: drop what cannot be mended, that is mappings that lead nowhere and snapshots and
    /// bitmaps that cannot be read, and release what may have belonged to them
    #[arg(long, requires = "repair")]
    allow_data_loss: bool,

    /// With -r all: put lost L2 tables back, each that only one L1 entry can have pointed to; or the table in this
    /// cluster into this L1 entry, of the snapshot with this ID if @ID follows. A check names tables and entries
    #[arg(long, value_name = "CLUSTER=L1INDEX", requires = "repair", num_args = 0..=1,
          require_equals = true, default_missing_value = "", value_parser = reattach::parse)]
    reattach: Vec<reattach::Value>,

    /// The size of the guest's disk, where the header that told it is damaged
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "allow_data_loss")]
    hint_size: Option<u64>,

    /// The size of a cluster, where the header that told it is damaged
    #[arg(long, value_name = "SIZE", value_parser = parse_cluster_size,
          requires = "allow_data_loss")]
    hint_cluster_size: Option<u32>,

    /// Tell of each kind of finding what it means, what to do, and which guest data it touches
    #[arg(long)]
    explain: bool,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Form::Human, value_name = "FORM")]
    output: Form,

    /// Print no result; findings still go to standard error
    #[arg(short, long)]
    quiet: bool,

    /// Show progress even where standard error is no terminal
    #[arg(short, long)]
    progress: bool,

    /// Read the image even if another program has it open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe
    #[arg(short = 'T', long, value_name = "CACHE", value_parser = parse_cache)]
    cache: Option<Cache>,

    /// Print at most this many findings and sum up the rest by kind; 0 prints all [default: 1000; 100000 lines into a
    /// file or pipe]
    #[arg(long, value_name = "N", value_parser = parse_number::<u64>)]
    max_findings: Option<u64>,

    #[command(flatten)]
    many: many::Args,

    #[command(flatten)]
    policy: policy::Args,

    #[command(flatten)]
    deep: data::Args,

    /// The image, or several
    #[arg(value_name = "IMAGE", required_unless_present = "files_from", value_parser = file_name::any(), value_hint = clap::ValueHint::AnyPath)]
    images: Vec<Given>,
}

/// What to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Leaks,
    All,
}

/// Rewrites `--repair`, whose value may be left out, so that it always has one: a following word
/// `leaks` or `all` is its value, anything else is not.
pub fn expand_repair(args: Vec<OsString>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(args.len());
    let mut rest = args.into_iter().peekable();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let is_repair = arg.to_str().is_some_and(|a| a.len() > 2 && "--repair".starts_with(a));
        if !is_repair {
            out.push(arg);
            continue;
        }
        let mode = match rest.next_if(|next| next == "leaks" || next == "all") {
            Some(mode) => mode,
            None => "all".into(),
        };
        let mut joined = OsString::from("--repair=");
        joined.push(mode);
        out.push(joined);
    }
    out.extend(rest);
    reattach::expand(out)
}

/// What a run ended with: the verdict, and what was done before it.
enum Ended {
    Checked(Box<Checked>),
    Repaired(Box<RepairOutcome>),
    Planned(Box<DryRun>),
}

impl Ended {
    fn verdict(&self) -> &CheckReport {
        match self {
            Self::Checked(checked) => &checked.report,
            Self::Planned(run) => &run.report,
            Self::Repaired(outcome) => outcome.after.as_ref().unwrap_or(&outcome.before),
        }
    }

    fn rebuilt_header(&self) -> Option<&RebuiltHeader> {
        match self {
            Self::Checked(..) => None,
            Self::Repaired(outcome) => outcome.rebuilt_header.as_ref(),
            Self::Planned(run) => run.outcome.rebuilt_header.as_ref(),
        }
    }

    fn affected(&self) -> &Affected {
        match self {
            Self::Checked(checked) => &checked.affected,
            Self::Repaired(outcome) => &outcome.affected,
            Self::Planned(run) => &run.affected,
        }
    }

    fn fixed(&self) -> Fixed {
        match self {
            Self::Checked(..) | Self::Planned(_) => Fixed::default(),
            Self::Repaired(outcome) => outcome.fixed,
        }
    }
}

impl Args {
    fn most_findings(&self) -> u64 {
        self.max_findings.unwrap_or(1000)
    }

    /// A reader of a terminal sees the end only; a program that reads them wants them all.
    fn most_lines(&self, to_terminal: bool) -> u64 {
        let most = if to_terminal { 1000 } else { 100_000 };
        self.max_findings.unwrap_or(most)
    }
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let policy = args.policy.policy();
    if args.repair.is_some() && policy.is_active() {
        bail!("a policy judges an image as it is; repair it in a run of its own");
    }
    match args.images.as_slice() {
        [image] if !args.many.apply(1, args.output, args.repair.is_some()) => {
            match &image.problem {
                Some(problem) => bail!("{}: {problem}", quoted(&image.path)),
                None => one(args, &image.path, &policy, ui),
            }
        }
        _ if args.repair.is_some() => bail!("a repair takes one image, and --output human or json"),
        images => {
            let settings = Settings {
                images: images.to_vec(),
                format: args.format,
                force_share: args.force_share,
                form: args.output,
                quiet: args.quiet,
                progress: args.progress,
                max_findings: args.most_findings(),
                explain: args.explain,
                deep: args.deep.deep(&policy, args.force_share),
                policy,
            };
            many::run(&args.many, &settings, ui)
        }
    }
}

/// Checks or repairs one image, as qemu-img does.
fn one(args: &Args, path: &Path, policy: &Policy, ui: &mut Ui) -> Result<ExitCode> {
    let changes = args.repair.is_some() && !args.dry_run;
    if changes && args.force_share {
        bail!("-U reads an image that may change, which no repair can do");
    }
    if args.format.is_none_or(|f| f == ImageFormat::Raw)
        && open::is_character_device(path).unwrap_or(false)
    {
        return no_checker(path, ImageFormat::Raw, ui);
    }
    let deep = args.deep.deep(policy, args.force_share);
    let purpose = if changes { Purpose::Change } else { deep.purpose() };
    let image = open::open(path, args.format, purpose, args.force_share)?;
    let format = image.format;
    let mut gate = Gate::new(policy, path, &image)?;
    if format != ImageFormat::Qcow2 {
        if args.allow_data_loss && format == ImageFormat::Raw {
            ui.message(
                "an image whose header is lost looks like a raw one; -f qcow2 says what it was",
            )?;
        }
        gate.tell(ui)?;
        return match not_checked(args, &deep, path, image, ui) {
            Ok(code) => Ok(gate.code(code)),
            Err(error) => gate.without_verdict(error, ui),
        };
    }
    let result = match work(args, &deep, path, image, ui).with_context(|| quoted(path).to_string())
    {
        Ok(result) => result,
        Err(error) => return gate.without_verdict(error, ui),
    };
    gate.judge(result.verdict());
    gate.tell(ui)?;
    let code = gate.code(ExitCode::of(result.verdict()));
    render(args, path, &result, &gate, ui)?;
    Ok(code)
}

fn no_checker(path: &Path, format: ImageFormat, ui: &mut Ui) -> Result<ExitCode> {
    // qemu-img's words, for which scripts look.
    ui.message("This image format does not support checks")?;
    if format != ImageFormat::Raw {
        let (name, format) = (quoted(path), format_name(format));
        ui.message(&format!("NOTICE: {name} is {format}; only qcow2 images can be checked"))?;
    }
    Ok(ExitCode::NoChecker)
}

/// What there is for an image that is not qcow2: the digest of a raw one, if that is wanted.
fn not_checked(
    args: &Args,
    deep: &Deep,
    path: &Path,
    image: Opened,
    ui: &mut Ui,
) -> Result<ExitCode> {
    let meter = meter(args, ui);
    if image.format != ImageFormat::Raw || !deep.has_digest() {
        let likeness = open::likeness_notice(path, &image, args.format);
        let code = no_checker(path, image.format, ui)?;
        likeness.map(|notice| ui.message(&notice)).transpose()?;
        return Ok(code);
    }
    let digests = deep.raw(Arc::new(image.storage), 0, &meter);
    meter.finish();
    let digests = digests.with_context(|| quoted(path).to_string())?;
    let as_json = args.output == Form::Json && !args.quiet;
    data::tell_raw(path, &digests, as_json, ui)?;
    Ok(ExitCode::Success)
}

fn meter(args: &Args, ui: &Ui) -> Meter {
    Meter::new(ui.name(), args.progress, args.quiet, ui.err.is_terminal())
}

fn work(args: &Args, deep: &Deep, path: &Path, image: Opened, ui: &Ui) -> Result<Ended> {
    let meter = meter(args, ui);
    let keep = match args.most_findings() {
        0 => usize::MAX,
        n => usize::try_from(n).unwrap_or(usize::MAX).max(CheckOptions::default().keep),
    };
    let options = CheckOptions { keep, ..CheckOptions::default() };
    let mode = match args.repair {
        None => {
            let checked = deep.check(Arc::new(image.storage), path, &options, &meter);
            return Ok(Ended::Checked(Box::new(checked.map_err(header::with_advice)?)));
        }
        Some(Mode::Leaks) if args.allow_data_loss => {
            bail!("--allow-data-loss needs a repair of all, not of leaks")
        }
        Some(Mode::Leaks) if !args.reattach.is_empty() => {
            bail!("--reattach needs a repair of all, not of leaks")
        }
        Some(Mode::Leaks) => RepairMode::Leaks,
        Some(Mode::All) if args.allow_data_loss => RepairMode::Lossy,
        Some(Mode::All) => RepairMode::All,
    };
    if mode != RepairMode::Lossy {
        header::readable(&image.storage)?;
    }
    let hints = Hints { size: args.hint_size, cluster_bits: args.hint_cluster_size };
    let request = Request { mode, hints, reattach: reattach::reattach(&args.reattach) };
    if args.dry_run {
        let capacity = image.storage.capacity();
        let run = dry_run(&image.storage, capacity, &request, &options, &meter)?;
        return Ok(Ended::Planned(Box::new(run)));
    }
    let mend =
        |storage: &dyn Storage| repair_as_asked(storage, &request, &options, &meter, &mut ());
    let outcome = match &args.undo {
        Some(path) => UndoFile::create(path)?.record(image.storage, mend)?,
        None => mend(&Latch::new(image.storage))?,
    };
    Ok(Ended::Repaired(Box::new(outcome)))
}

/// Reports lost tables, which look like leaks and are not, and files that were not opened or have no
/// name.
pub fn remarkable(path: &Path, max_findings: u64, report: &CheckReport, ui: &mut Ui) -> Result<()> {
    let told = |f: &&Finding| {
        matches!(
            f.kind,
            Kind::OrphanTable(_)
                | Kind::BlankTable { .. }
                | Kind::SnapshotsUncounted(_)
                | Kind::SnapshotBlank
                | Kind::Unaccounted { .. }
                | Kind::NotOpened(_)
                | Kind::DataFileUnnamed
        )
    };
    let told = report.findings.iter().filter(told);
    let most = usize::try_from(max_findings).unwrap_or(usize::MAX);
    for finding in told.take(if most == 0 { usize::MAX } else { most }) {
        ui.message(&format!("{}: {}", quoted(path), finding.line(0, Verb::Tell)))?;
    }
    Ok(())
}

/// Tells what a repair did, and what the check after it found.
fn tell_repair(
    args: &Args,
    path: &Path,
    outcome: &RepairOutcome,
    budget: &mut Budget,
    ui: &mut Ui,
) -> Result<()> {
    if let Some(rebuilt) = &outcome.rebuilt_header {
        text::header::tell(ui, path, rebuilt)?;
    }
    let repaired = outcome.repaired();
    let steps = text::check::repair_steps(outcome, &repaired);
    text::listing::print(&mut ui.err, &outcome.before, steps, budget)?;
    if outcome.held > 0 {
        ui.message(&format!(
            "{}: {} not released, since damaged structures may hide references to {}",
            quoted(path),
            counted(outcome.held, "leaked cluster was", "leaked clusters were"),
            if outcome.held == 1 { "it" } else { "them" }
        ))?;
    }
    ui.err.flush()?;
    if let (Some(after), false) = (&outcome.after, outcome.fixed == Fixed::default()) {
        if !args.quiet && args.output != Form::Json {
            text::check::fixed(&mut ui.out, outcome.fixed)?;
            ui.out.flush()?;
        }
        text::listing::print(&mut ui.err, after, text::check::check_steps(after), budget)?;
    }
    Ok(())
}

/// Prints the findings to standard error and the result to standard output.
fn render(args: &Args, path: &Path, result: &Ended, gate: &Gate<'_>, ui: &mut Ui) -> Result<()> {
    let mut budget = Budget::new(args.most_lines(ui.err.is_terminal()));
    let verdict = result.verdict();
    verdict.findings.iter().filter(|f| f.severity() == Severity::Notice).for_each(remark);
    let json = args.output == Form::Json;
    let rebuilt = result.rebuilt_header();
    match result {
        Ended::Checked(..) | Ended::Planned(_) => {
            text::listing::print(
                &mut ui.err,
                verdict,
                text::check::check_steps(verdict),
                &mut budget,
            )?;
        }
        Ended::Repaired(outcome) => tell_repair(args, path, outcome, &mut budget, ui)?,
    }
    remarkable(path, args.most_findings(), verdict, ui)?;
    ui.err.flush()?;
    let digests = if let Ended::Checked(checked) = result { Some(&checked.digests) } else { None };
    if args.quiet {
        if let Some(digests) = digests {
            text::digests::print(&mut ui.out, "", digests)?;
        }
        return ui.out.flush().context("could not write the result");
    }
    let planned = if let Ended::Planned(run) = result { Some(run) } else { None };
    if json {
        let filename = path.to_string_lossy();
        let result = CheckResult {
            filename: &filename,
            report: verdict,
            affected: result.affected(),
            explain: args.explain,
            fixed: result.fixed(),
            max_findings: args.most_findings(),
        };
        let mut value = json::check::check_result(&result);
        json::header::add_to(&mut value, rebuilt);
        gate.add_to(&mut value);
        if let Some(digests) = digests {
            json::digests::add_to(&mut value, digests);
        }
        if let Some(run) = planned {
            value["plan"] = json::plan::value(run, args.most_lines(ui.out.is_terminal()));
        }
        json::document::write(&mut ui.out, &value)?;
    } else {
        let as_qemu_img = ui.name() == QEMU_IMG;
        text::check::summary(&mut ui.out, verdict, as_qemu_img)?;
        if args.explain {
            text::explain::print(&mut ui.out, verdict, result.affected())?;
        }
        if let Some(digests) = digests {
            text::digests::print(&mut ui.out, "", digests)?;
        }
        if let Some(run) = planned {
            let most = args.most_lines(ui.out.is_terminal());
            text::plan::print(&mut ui.out, run, most)?;
        }
    }
    ui.out.flush().context("could not write the result")
}

fn remark(finding: &Finding) {
    log::info!("{}", finding.line(0, Verb::Tell));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str]) -> Vec<String> {
        expand_repair(args.iter().map(OsString::from).collect())
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .collect()
    }

    #[test]
    fn repair_without_a_mode_means_all() {
        assert_eq!(expanded(&["--repair", "image"]), ["--repair=all", "image"]);
        assert_eq!(expanded(&["image", "--repair"]), ["image", "--repair=all"]);
        assert_eq!(expanded(&["--rep", "-q"]), ["--repair=all", "-q"]);
    }

    #[test]
    fn a_mode_behind_repair_is_its_value() {
        assert_eq!(expanded(&["--repair", "leaks", "image"]), ["--repair=leaks", "image"]);
        assert_eq!(expanded(&["--repair", "all", "all"]), ["--repair=all", "all"]);
        assert_eq!(expanded(&["--repair=leaks", "image"]), ["--repair=leaks", "image"]);
    }

    #[test]
    fn behind_two_dashes_everything_is_a_name() {
        assert_eq!(expanded(&["--", "--repair"]), ["--", "--repair"]);
        assert_eq!(expanded(&["-r", "leaks"]), ["-r", "leaks"]);
    }
}
