//! `qcheck report`: results as a page for people.

mod look;
mod results;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::builder::TypedValueParser;
use qcheck::ImageFormat;
use qcheck::threads;

use crate::cli::args::format;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::size::parse_number;
use crate::cli::files::targets::{self, Target};
use crate::cli::files::whole::WholeFile;
use crate::cli::files::workers::in_order;
use crate::cli::render::exit::ExitCode;
use crate::cli::render::html;
use crate::cli::terminal::ui::{Output, Ui};

use results::Source;

/// Check images and write one HTML page about them, or about results of other runs: verdicts,
/// findings and what they mean, layout, contents, snapshots, backing chain.
///
/// The page needs no network and no script. Exit codes: 0 the page was written, whatever the
/// verdicts in it, 1 it was not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The images' format, qcow2 or raw; detected from their first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    /// Show the results in this file: what 'check --output json' or 'ndjson' printed, or what
    /// '--since' recorded. With HOST= before it they are of that host. Several results of an image
    /// of one host are its history. - is standard input
    #[arg(long, value_name = "[HOST=]FILE", value_hint = clap::ValueHint::FilePath,
          value_parser = clap::builder::OsStringValueParser::new().map(Source::parse))]
    from: Vec<Source>,

    /// Show also the images that this file names, one a line or with a zero byte after each; - is
    /// standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,

    /// Write the page to this file, whole or not at all, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output_file: Option<PathBuf>,

    /// Check this many images at a time, 1 if not given; 0: one for each processor
    #[arg(short, long, value_name = "N", value_parser = parse_number::<usize>)]
    jobs: Option<usize>,

    /// Read the images even if another program has them open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// The images
    #[arg(value_name = "IMAGE", required_unless_present_any = ["from", "files_from"],
          value_parser = image_name::parser(), value_hint = clap::ValueHint::AnyPath)]
    images: Vec<ImageName>,
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let targets = targets(args)?;
    let file = args.output_file.as_deref().map(WholeFile::begin).transpose()?;
    if let (Some(file), Some(name)) = (&file, &args.output_file) {
        file.require_no_image(name, &targets)?;
        let read = args.from.iter().map(Source::path);
        file.require_none_of(read.chain(args.files_from.as_deref()))?;
        ui.out = Output::new(file.writer()?, false);
    }
    let mut entries = Vec::new();
    for from in &args.from {
        entries.extend(from.load()?);
    }
    let jobs = threads::or_cores(args.jobs.unwrap_or(1));
    let look = |target: &Target| look::look(target, args.force_share);
    in_order(&targets, jobs, look, |mut entry| {
        if targets.len() > html::FEW && !entry.line.has_details() {
            // It has a row and not a section.
            entry.maps.clear();
            entry.about.clear();
        }
        entries.push(entry);
        Ok::<(), anyhow::Error>(())
    })?;
    html::write(&mut ui.out, &html::joined(entries)).context("could not write the result")?;
    std::io::Write::flush(&mut ui.out).context("could not write the result")?;
    if let Some(file) = file {
        file.finish()?;
    }
    Ok(ExitCode::Success)
}

fn targets(args: &Args) -> Result<Vec<Target>> {
    let secrets = Default::default();
    let target =
        |name: &ImageName| Target::of_argument(name, name.named(false, args.format, &secrets));
    let mut targets: Vec<Target> = args.images.iter().map(target).collect();
    if let Some(list) = &args.files_from {
        let listed = targets::listed(list)?;
        targets.extend(listed.into_iter().map(|path| Target::listed(path, args.format)));
    }
    Ok(targets)
}
