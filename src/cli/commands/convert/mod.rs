//! `qcheck convert`: copy disks into a new image, or into one that is there.

mod job;
mod source;
mod target;

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use qcheck::convert::{Control, ConvertOptions, ConvertReport, DEFAULT_SPARSE};
use qcheck::format::probe::ImageFormat;
use serde_json::{Value, json};

use crate::cli::args::file_name;
use crate::cli::args::options::{self, Table};
use crate::cli::args::size::{parse_number, parse_size};
use crate::cli::commands::check::Output;
use crate::cli::files::guard::Guard;
use crate::cli::files::open::{
    BOTH, Cache, format_name, parse_backing_format, parse_cache, parse_format,
};
use crate::cli::files::spool;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::json::check as json;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

use job::Job;
use source::{Choice, Opening, parse_choice};
use target::Asked;

/// Most threads that can be asked for.
const MAX_THREADS: u16 = 16;
/// The longest run of zeroes that can be asked for as the least that is not stored.
const MAX_SPARSE: u64 = 16 << 20;

/// Copy one or several disks into one image, qcow2 or raw.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The format of the sources, qcow2 or raw; told from their first bytes if not given
    #[arg(short, long = "source-format", value_name = "FMT")]
    format: Option<String>,

    /// The format of the target
    #[arg(short = 'O', long, alias = "output-format", value_name = "FMT", default_value = "raw")]
    target_format: String,

    /// Options of the target's format, as name=value,...; "help" lists them
    #[arg(short = 'o', long, alias = "options", value_name = "OPTIONS", action = clap::ArgAction::Append)]
    target_options: Vec<String>,

    /// Compress the target's clusters
    #[arg(short, long)]
    compress: bool,

    /// The target has this backing file, and stores only what differs from it
    #[arg(short = 'B', long, value_name = "FILE")]
    backing: Option<String>,

    /// The format of the backing file
    #[arg(short = 'F', long, value_name = "FMT")]
    backing_format: Option<String>,

    /// The format of backing files of the sources for which an image records none, qcow2 or raw; without this such a
    /// file is raw, or refused where it begins like an image
    #[arg(long, value_name = "FMT", value_parser = parse_backing_format)]
    source_backing_format: Option<String>,

    /// Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..
    #[arg(short = 'l', long, alias = "snapshot", value_name = "SNAPSHOT", value_parser = parse_choice)]
    source_snapshot: Option<Choice>,

    /// Read the snapshot of this id or name
    #[arg(short = 's', value_name = "SNAPSHOT", value_parser = parse_legacy_choice, conflicts_with = "source_snapshot", hide = true)]
    snapshot: Option<Choice>,

    /// The least run of zeroes that is not stored, in bytes; 0 stores all
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = parse_sparse)]
    sparse_size: Option<u64>,

    /// How many threads work, 1 to 16; as many as there are cores if not given
    #[arg(short = 'm', long, value_name = "N", value_parser = parse_threads)]
    parallel: Option<u16>,

    /// Accepted as by qemu-img: writes are never in order, and the target looks the same every time
    #[arg(short = 'W', long)]
    oob_writes: bool,

    /// Write into an image that is there
    #[arg(short, long)]
    no_create: bool,

    /// The target, which is there, reads as zeroes
    #[arg(long)]
    target_is_zero: bool,

    /// How the target is written: writeback, writethrough, none, directsync or unsafe
    #[arg(short = 't', long, alias = "output-cache", value_name = "CACHE", value_parser = parse_cache, default_value = "unsafe")]
    target_cache: Cache,

    /// How the sources are read, likewise
    #[arg(short = 'T', long, value_name = "CACHE", value_parser = parse_cache, default_value = "writeback")]
    source_cache: Cache,

    /// Most bytes a second
    #[arg(short, long, value_name = "RATE", value_parser = parse_rate)]
    rate: Option<u64>,

    /// Let the system copy data from file to file where it can
    #[arg(short = 'C', long)]
    copy_range_offloading: bool,

    /// What cannot be read becomes zeroes, and is told
    #[arg(long)]
    salvage: bool,

    /// Copy the persistent bitmaps, too
    #[arg(long)]
    bitmaps: bool,

    /// Leave bitmaps out that are not consistent
    #[arg(long)]
    skip_broken_bitmaps: bool,

    /// Read both sides again afterwards, and compare
    #[arg(long)]
    verify: bool,

    /// How to tell what was lost (--salvage)
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    output: Output,

    /// Read the sources even if another program has them open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// Show the progress
    #[arg(short, long)]
    progress: bool,

    /// Show no progress and no losses
    #[arg(short, long)]
    quiet: bool,

    /// The sources, and last the target; - is standard input or output, and so are /dev/stdin and /dev/stdout
    #[arg(value_name = "FILE", required_unless_present = "target_options", value_parser = file_name::parser())]
    files: Vec<PathBuf>,
}

fn parse_sparse(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    if bytes % 512 != 0 || bytes > MAX_SPARSE {
        return Err(format!("valid sizes are multiples of 512 up to {MAX_SPARSE}"));
    }
    Ok(bytes)
}

fn parse_legacy_choice(text: &str) -> Result<Choice, String> {
    Ok(Choice::IdOrName(text.to_owned()))
}

fn parse_threads(text: &str) -> Result<u16, String> {
    match parse_number(text) {
        Ok(threads @ 1..=MAX_THREADS) => Ok(threads),
        _ => Err(format!("valid are 1 to {MAX_THREADS}")),
    }
}

fn parse_rate(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    // The last one given counts, so that only that one has to be right.
    let parse = |name: &str| parse_format(name).map_err(|error| anyhow!(error));
    let format = parse(&args.target_format)?;
    let source_format = args.format.as_deref().map(parse).transpose()?;
    let qcow2 = match format {
        ImageFormat::Qcow2 => true,
        ImageFormat::Raw => false,
        other => {
            bail!("cannot write the format {}: {BOTH}", format_name(other))
        }
    };
    let table = Table::of_convert(qcow2);
    let given = match options::parse(&args.target_options, table)? {
        options::Asked::Help => {
            options::help(&mut ui.out, table, !args.files.is_empty())?;
            return Ok(ExitCode::Success);
        }
        options::Asked::Options(given) => given,
    };
    let Some((target, sources)) =
        args.files.split_last().filter(|(_, sources)| !sources.is_empty())
    else {
        bail!("a source and a target are needed");
    };
    args.refuse_misfits(qcow2, sources.len())?;
    let cancel = signals::interruption();
    let guard = Guard::default();
    let sources_open = args.opening(source_format, &guard).open_all(sources)?;
    let mut asked = Asked::new(format, given, args.target_cache);
    // An image that is there keeps its own.
    if !args.no_create {
        asked.set_backing(args.backing.as_deref(), args.backing_format.as_deref(), target)?;
    }
    let meter = args.meter(ui, spool::is_stream(target));
    let control = Control { cancel: &cancel, progress: &meter };
    let options = args.options(asked.compression_level(args.compress)?);
    let job = Job { args, options, guard: &guard, control };
    let report = match spool::is_stream(target) {
        true => job.to_stream(sources_open, asked, target),
        false => job.to_file(sources_open, asked, target, ui),
    };
    meter.finish();
    args.tell(&report?, ui)?;
    Ok(ExitCode::Success)
}

impl Args {
    fn refuse_misfits(&self, qcow2: bool, sources: usize) -> Result<()> {
        let backing = self.backing.is_some() && !self.no_create;
        let misfits = [
            (self.target_is_zero && !self.no_create, "--target-is-zero needs -n"),
            (
                self.no_create && !self.target_options.is_empty(),
                "-o has no effect when no image is created",
            ),
            (self.compress && !qcow2, "raw images cannot be compressed"),
            (
                self.copy_range_offloading && self.sparse_size.is_some(),
                "-C copies without looking, so -S cannot be kept",
            ),
            (self.copy_range_offloading && self.compress, "-C cannot compress"),
            (self.skip_broken_bitmaps && !self.bitmaps, "--skip-broken-bitmaps needs --bitmaps"),
            (self.bitmaps && sources > 1, "bitmaps can be copied from a single source only"),
            (self.bitmaps && !qcow2, "raw images have no bitmaps"),
            (backing && sources > 1, "several sources together have no backing file"),
            (backing && !qcow2, "a raw image cannot have a backing file"),
            (
                self.backing_format.is_some() && self.backing.is_none() && !qcow2,
                "a raw image cannot have a backing file",
            ),
        ];
        match misfits.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => bail!("{why}"),
            None => Ok(()),
        }
    }

    fn opening<'a>(&'a self, format: Option<ImageFormat>, guard: &'a Guard) -> Opening<'a> {
        Opening {
            format,
            snapshot: self.source_snapshot.as_ref().or(self.snapshot.as_ref()),
            force_share: self.force_share,
            backing_format: self.source_backing_format.as_deref(),
            cache: self.source_cache,
            guard,
        }
    }

    fn options(&self, level: Option<u8>) -> ConvertOptions {
        ConvertOptions {
            sparse: self.sparse_size.unwrap_or(DEFAULT_SPARSE),
            compress: self.compress,
            level,
            threads: self.parallel.map_or(0, usize::from),
            offload: self.copy_range_offloading,
            only_different: self.no_create && self.backing.is_some(),
            salvage: self.salvage,
            bitmaps: self.bitmaps,
            skip_broken_bitmaps: self.skip_broken_bitmaps,
            rate: self.rate.filter(|&rate| rate > 0),
        }
    }

    fn meter(&self, ui: &Ui, to_stdout: bool) -> Meter {
        if self.progress && !self.quiet && !ui.out.is_terminal() && !to_stdout {
            return Meter::percent();
        }
        Meter::new(ui.name(), self.progress, self.quiet, ui.err.is_terminal())
    }

    /// Tells what was lost.
    fn tell(&self, report: &ConvertReport, ui: &mut Ui) -> Result<()> {
        for name in &report.skipped_bitmaps {
            let name = name.escape_debug();
            ui.message(&format!("the bitmap '{name}' is not consistent and was left out"))?;
        }
        if self.output == Output::Json {
            let losses: Value = report
                .losses
                .iter()
                .map(|loss| {
                    let (start, length) = (loss.range.start, loss.range.end - loss.range.start);
                    json!({ "start": start, "length": length, "reason": loss.reason })
                })
                .collect();
            json::write(&mut ui.out, &json!({ "losses": losses }))?;
            std::io::Write::flush(&mut ui.out)?;
        } else if !self.quiet {
            for loss in &report.losses {
                let (start, end) = (loss.range.start, loss.range.end);
                ui.message(&format!("lost: guest offset {start:#x} to {end:#x}: {}", loss.reason))?;
            }
        }
        Ok(())
    }
}
