//! The arguments of `qcheck check`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use qcheck::ImageFormat;
use qcheck::format::header::MAX_BACKING_NAME_BYTES;

use super::{data, list, live, policy, reattach};
use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::format;
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::size::{parse_cluster_size, parse_number, parse_size};
use crate::cli::files::targets::Target;

/// Check qcow2 images, and repair one with -r.
///
/// Exit codes: 0 nothing wrong, 1 no verdict, 2 errors in the image, 3 leaked clusters only, 4
/// denied by the policy, 63 no checker for this format. With several images it is the worst of
/// theirs, in the order 4, 1, 2, 3, 63, 0.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format, qcow2 or raw; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    pub format: Option<ImageFormat>,

    /// Repair refcounts that are too high (leaks), or everything that can be repaired (all);
    /// --repair alone means all
    #[arg(short, long, value_name = "leaks|all", value_enum)]
    pub repair: Option<Mode>,

    /// Print what a repair would write, and write nothing; the exit code is that of the check
    #[arg(long, requires = "repair", conflicts_with = "undo")]
    pub dry_run: bool,

    /// Record in this new file what a repair overwrites, before it does, so that 'undo' can put it
    /// back
    #[arg(long, value_name = "FILE", requires = "repair")]
    pub undo: Option<PathBuf>,

    /// With -r all: drop what cannot be repaired, that is mappings that point to nothing and
    /// snapshots and bitmaps that cannot be read, and release what may have belonged to them
    #[arg(long, requires = "repair")]
    pub allow_data_loss: bool,

    /// With -r all: put lost L2 tables back, each that only one L1 entry can have pointed to; or
    /// the table in this cluster into this L1 entry, of the snapshot with this ID if @ID follows. A
    /// check names tables and entries
    #[arg(long, value_name = "CLUSTER=L1INDEX", requires = "repair", num_args = 0..=1,
          require_equals = true, default_missing_value = "", value_parser = reattach::parse)]
    pub reattach: Vec<reattach::Value>,

    /// Use this size of the virtual disk in place of a damaged header's
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "allow_data_loss")]
    pub hint_size: Option<u64>,

    /// Use this cluster size in place of a damaged header's
    #[arg(long, value_name = "SIZE", value_parser = parse_cluster_size,
          requires = "allow_data_loss")]
    pub hint_cluster_size: Option<u32>,

    /// Record this backing file where the header is rebuilt from nothing
    #[arg(long, value_name = "NAME", value_parser = parse_name,
          requires_all = ["allow_data_loss", "hint_backing_format"])]
    pub hint_backing: Option<String>,

    /// The format of that backing file
    #[arg(long, value_name = "FMT", value_parser = format::backing_parser(),
          requires = "hint_backing")]
    pub hint_backing_format: Option<String>,

    /// Record this external data file where the header is rebuilt from nothing
    #[arg(long, value_name = "NAME", value_parser = parse_name, requires = "allow_data_loss")]
    pub hint_data_file: Option<String>,
    /// Take the images as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    pub image_opts: bool,

    #[command(flatten)]
    pub objects: Objects,

    /// Explain each kind of finding: what it means, what to do, and which guest data it affects, by
    /// partition and file system, for which the backing files are read too
    #[arg(long)]
    pub explain: bool,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Form::Human, value_name = "FORM")]
    pub output: Form,

    /// Write the result to this file instead, whole or not at all
    #[arg(long, value_name = "FILE", conflicts_with = "quiet")]
    pub output_file: Option<PathBuf>,

    /// Print no result; findings still go to standard error
    #[arg(short, long)]
    pub quiet: bool,

    /// Show progress even where standard error is not a terminal
    #[arg(short, long)]
    pub progress: bool,

    /// Read the image even if another program has it open for writing
    #[arg(short = 'U', long)]
    pub force_share: bool,

    /// Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe
    #[arg(short = 'T', long, value_name = "CACHE", value_parser = parse_cache)]
    pub cache: Option<Cache>,

    /// Print at most this many findings and sum up the rest by kind; 0 prints all [default: 1000;
    /// 100000 lines into a file or pipe]
    #[arg(long, value_name = "N", value_parser = parse_number::<u64>)]
    pub max_findings: Option<u64>,

    #[command(flatten)]
    pub list: list::Args,

    #[command(flatten)]
    pub policy: policy::Args,

    #[command(flatten)]
    pub data: data::Args,

    #[command(flatten)]
    pub live: live::Args,

    /// The image, or several
    #[arg(value_name = "IMAGE", required_unless_present = "files_from",
          value_parser = image_name::parser(), value_hint = clap::ValueHint::AnyPath)]
    pub images: Vec<ImageName>,
}

impl Args {
    /// The images that arguments name.
    pub fn named(&self) -> Result<Vec<Target>> {
        let secrets = self.objects.secrets()?;
        let target = |name: &ImageName| {
            let named = name.named(self.image_opts, self.format, &secrets).and_then(|named| {
                if self.repair.is_some() {
                    named.written()?;
                }
                Ok(named)
            });
            Target::of_argument(name, named)
        };
        Ok(self.images.iter().map(target).collect())
    }
}

/// What to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Leaks,
    All,
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
    /// Metrics in Prometheus's text format, for node_exporter's textfile collector
    Prometheus,
}

impl Args {
    /// The most findings that are listed; 0 means all.
    pub fn most_findings(&self) -> u64 {
        self.max_findings.unwrap_or(1000)
    }

    /// The most lines of a listing; 0 means all. A reader of a terminal sees the end only; a
    /// program that reads them needs them all.
    pub fn most_lines(&self, to_terminal: bool) -> u64 {
        let most = if to_terminal { 1000 } else { 100_000 };
        self.max_findings.unwrap_or(most)
    }

    /// Whether others may write the image while it is read.
    pub const fn shares(&self) -> bool {
        self.force_share || self.live.is_live()
    }

    /// Whether the image may be written.
    pub const fn changes(&self) -> bool {
        self.repair.is_some() && !self.dry_run
    }

    /// Whether there may be other than one image, or the output has a form for several only.
    pub fn is_of_several(&self) -> bool {
        let list = &self.list;
        let tells_of_one = matches!(self.output, Form::Human | Form::Json);
        let is_list = list.jobs.is_some() && self.repair.is_none();
        let leads_to_others = list.files_from.is_some() || list.backing_chain;
        let is_part = list.shard.is_some() || list.since.is_some();
        self.images.len() != 1 || is_list || leads_to_others || is_part || !tells_of_one
    }
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

/// The name of a file as a header can record it.
fn parse_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("the name is empty".into()),
        length if length > MAX_BACKING_NAME_BYTES as usize => {
            Err(format!("a header records at most {MAX_BACKING_NAME_BYTES} bytes"))
        }
        _ => Ok(text.to_owned()),
    }
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
    fn a_mode_after_repair_is_its_value() {
        assert_eq!(expanded(&["--repair", "leaks", "image"]), ["--repair=leaks", "image"]);
        assert_eq!(expanded(&["--repair", "all", "all"]), ["--repair=all", "all"]);
        assert_eq!(expanded(&["--repair=leaks", "image"]), ["--repair=leaks", "image"]);
    }

    #[test]
    fn after_two_dashes_everything_is_a_name() {
        assert_eq!(expanded(&["--", "--repair"]), ["--", "--repair"]);
        assert_eq!(expanded(&["-r", "leaks"]), ["-r", "leaks"]);
    }
}
