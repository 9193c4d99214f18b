//! The arguments of `qcheck convert`.

use crate::cli::args::cache::{Cache, parse_cache};
use crate::cli::args::format;
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::output::Output;
use crate::cli::args::size::{parse_number, parse_size};
use crate::cli::args::snapshot::{Choice, parse_choice};

/// Most threads that can be requested.
const MAX_THREADS: u16 = 16;
/// The longest run of zeroes that can be requested as the least that is not stored.
const MAX_SPARSE: u64 = 16 << 20;

/// Copy one or several disks into one image, qcow2 or raw.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The format of the sources, qcow2 or raw; detected from their first bytes if not given
    #[arg(short, long = "source-format", value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    pub format: Option<String>,

    /// The format of the target
    #[arg(short = 'O', long, alias = "output-format", value_name = "FMT", default_value = "raw",
          value_parser = format::name_parser(), hide_possible_values = true)]
    pub target_format: String,

    /// Options of the target's format, as name=value,...; "help" lists them
    #[arg(short = 'o', long, alias = "options", value_name = "OPTIONS",
          action = clap::ArgAction::Append)]
    pub target_options: Vec<String>,

    /// Compress the target's clusters
    #[arg(short, long)]
    pub compress: bool,

    /// Give the target this backing file, and store only what differs from it
    #[arg(short = 'B', long, value_name = "FILE")]
    pub backing: Option<String>,

    /// The format of the backing file
    #[arg(short = 'F', long, value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    pub backing_format: Option<String>,

    /// The format of backing files of the sources for which an image records none, qcow2 or raw;
    /// without this such a file is raw, or refused where it begins like an image
    #[arg(long, value_name = "FMT", value_parser = format::backing_parser(),
          hide_possible_values = true)]
    pub source_backing_format: Option<String>,

    /// Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..
    #[arg(short = 'l', long, alias = "snapshot", value_name = "SNAPSHOT",
          value_parser = parse_choice)]
    pub source_snapshot: Option<Choice>,

    /// Read the snapshot of this id or name
    #[arg(short = 's', value_name = "SNAPSHOT", value_parser = parse_legacy_choice,
          conflicts_with = "source_snapshot", hide = true)]
    pub snapshot: Option<Choice>,

    /// Store no run of zeroes from this many bytes on; 0 stores all
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = parse_sparse)]
    pub sparse_size: Option<u64>,

    /// The number of threads, 1 to 16; one for each core if not given
    #[arg(short = 'm', long, value_name = "N", value_parser = parse_threads)]
    pub parallel: Option<u16>,

    /// Accepted as by qemu-img: writes are never in order, and the target looks the same every time
    #[arg(short = 'W', long)]
    pub oob_writes: bool,

    /// Write into an existing image
    #[arg(short, long)]
    pub no_create: bool,

    /// Assume that the existing target reads as zeroes
    #[arg(long)]
    pub target_is_zero: bool,

    /// How the target is written: writeback, writethrough, none, directsync or unsafe
    #[arg(short = 't', long, alias = "output-cache", value_name = "CACHE",
          value_parser = parse_cache, default_value = "unsafe")]
    pub target_cache: Cache,

    /// How the sources are read, likewise
    #[arg(short = 'T', long, value_name = "CACHE",
          value_parser = parse_cache, default_value = "writeback")]
    pub source_cache: Cache,

    /// Limit the bytes per second
    #[arg(short, long, value_name = "RATE", value_parser = parse_size)]
    pub rate: Option<u64>,

    /// Let the system copy data from file to file where it can
    #[arg(short = 'C', long)]
    pub copy_range_offloading: bool,

    /// Write zeroes for what cannot be read, and report it
    #[arg(long)]
    pub salvage: bool,

    /// Copy the persistent bitmaps, too
    #[arg(long)]
    pub bitmaps: bool,

    /// Leave out bitmaps that are in use or inconsistent
    #[arg(long)]
    pub skip_broken_bitmaps: bool,

    /// Read both sides again afterwards, and compare
    #[arg(long)]
    pub verify: bool,

    /// The format of the report of what was lost (--salvage)
    #[arg(long, value_enum, default_value_t = Output::Human, value_name = "human|json")]
    pub output: Output,

    /// Take the sources as options, as in driver=qcow2,file.filename=NAME
    #[arg(long = "image-opts", alias = "source-image-opts")]
    pub image_opts: bool,

    #[command(flatten)]
    pub objects: Objects,

    /// Take the target, which exists (-n), as options
    #[arg(long)]
    pub target_image_opts: bool,

    /// Read the sources even if another program has them open for writing
    #[arg(short = 'U', long)]
    pub force_share: bool,

    /// Show the progress
    #[arg(short, long)]
    pub progress: bool,

    /// Show no progress and no losses
    #[arg(short, long)]
    pub quiet: bool,

    /// The sources, and last the target; - is standard input or output, and so are /dev/stdin and
    /// /dev/stdout
    #[arg(value_name = "FILE", required_unless_present = "target_options",
          value_parser = image_name::parser())]
    pub files: Vec<ImageName>,
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
