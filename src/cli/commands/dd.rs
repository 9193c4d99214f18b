//! `qcheck dd`: copy blocks of one disk into a new image.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use qcheck::ImageFormat;
use qcheck::convert::{Control, ConvertOptions, Input, SourceDisk};
use qcheck::crypt::Key;
use qcheck::disk::Disk;

use super::convert::target::{Asked, Target};
use crate::cli::args::cache::Cache;
use crate::cli::args::file_name::{self, quoted};
use crate::cli::args::format::{self, BOTH, parse_format};
use crate::cli::args::image_name::ImageName;
use crate::cli::args::image_name::object::Objects;
use crate::cli::args::options::Options;
use crate::cli::args::size::parse_size;
use crate::cli::files::disks::{Opening, Sources};
use crate::cli::files::guard::Guard;
use crate::cli::files::spool;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::progress::Meter;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Most bytes of a block.
const MAX_BLOCK: u64 = i32::MAX as u64;
/// Most blocks.
const MAX_BLOCKS: u64 = i64::MAX as u64;

/// Copy blocks of a disk into a new image.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The format of the disk that is read, qcow2 or raw; detected from its first bytes if not
    /// given
    #[arg(short, long, value_name = "FMT",
          value_parser = format::name_parser(), hide_possible_values = true)]
    format: Option<String>,

    /// The format of the new image
    #[arg(short = 'O', long = "output-format", value_name = "FMT", default_value = "raw",
          value_parser = format::name_parser(), hide_possible_values = true)]
    target_format: String,

    /// Take the disk that is read as options, as in driver=qcow2,file.filename=NAME
    #[arg(long)]
    image_opts: bool,

    #[command(flatten)]
    objects: Objects,

    /// Read the disk even if another program has it open for writing
    #[arg(short = 'U', long)]
    force_share: bool,

    /// if=FILE to read, of=FILE to make, bs=SIZE of a block (512 if not given), skip=N blocks at
    /// the beginning, count=N blocks to end after, those that are skipped included
    #[arg(value_name = "NAME=VALUE")]
    operands: Vec<OsString>,
}

/// The values of the operands.
#[derive(Debug, PartialEq, Eq)]
struct Operands {
    input: OsString,
    output: PathBuf,
    block: u64,
    count: Option<u64>,
    skip: u64,
}

impl Operands {
    fn parse(given: &[OsString]) -> Result<Self> {
        let (mut input, mut output) = (None, None);
        let (mut block, mut count, mut skip) = (BLOCK, None, 0);
        for operand in given {
            let bytes = operand.as_bytes();
            let end = bytes.iter().position(|&byte| byte == b'=');
            let unknown = || anyhow!("unrecognized operand {}", operand.to_string_lossy());
            let (name, value) = bytes.split_at(end.ok_or_else(unknown)?);
            let value = &value[1..];
            match name {
                b"if" => input = Some(OsStr::from_bytes(value).to_owned()),
                b"of" => output = Some(file(value)?),
                b"bs" => block = self::block(value)?,
                b"count" => count = Some(blocks("count", value)?),
                b"skip" => skip = blocks("skip", value)?,
                name => bail!("unrecognized operand {}", String::from_utf8_lossy(name)),
            }
        }
        match (input, output) {
            (Some(input), Some(output)) => Ok(Self { input, output, block, count, skip }),
            _ => bail!("Must specify both input and output files"),
        }
    }

    /// The bytes of a disk of this size that are copied; `None` where they would begin past its
    /// end. As in qemu-img, blocks are counted from the beginning of the disk.
    fn range(&self, size: u64) -> Option<std::ops::Range<u64>> {
        let end = self.count.and_then(|count| count.checked_mul(self.block));
        let end = end.map_or(size, |end| end.min(size));
        let start = self.skip.checked_mul(self.block)?;
        (start <= end).then_some(start..end)
    }
}

fn file(name: &[u8]) -> Result<PathBuf> {
    file_name::parse(OsStr::from_bytes(name).to_owned()).map_err(|error| anyhow!(error))
}

fn block(value: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(value);
    match parse_size(&text) {
        Ok(bytes) if (1..=MAX_BLOCK).contains(&bytes) => Ok(bytes),
        Ok(_) => bail!("Invalid bs specified. Must be between 1 and {MAX_BLOCK}."),
        Err(error) => bail!("Invalid bs specified: '{text}' is {error}"),
    }
}

/// A number of blocks: decimal, hexadecimal after 0x, octal after 0. It has no unit.
fn blocks(name: &str, value: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(value);
    let (digits, base) = match text.strip_prefix('0') {
        Some(rest) if rest.starts_with(['x', 'X']) => (&rest[1..], 16),
        Some(rest) if !rest.is_empty() => (rest, 8),
        _ => (text.as_ref(), 10),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    if !is_number {
        bail!("Invalid {name} specified: '{text}' is not a whole number");
    }
    match u64::from_str_radix(digits, base) {
        Ok(number) if number <= MAX_BLOCKS => Ok(number),
        _ => bail!("Invalid {name} specified. Must be between 0 and {MAX_BLOCKS}."),
    }
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let parse = |name: &str| parse_format(name).map_err(|error| anyhow!(error));
    let operands = Operands::parse(&args.operands)?;
    let format = match parse(&args.target_format)? {
        ImageFormat::Other(name) => bail!("cannot write the format {name}: {BOTH}"),
        format => format,
    };
    let given = args.format.as_deref().map(parse).transpose()?;
    let image = ImageName::new(operands.input.clone()).disk(
        args.image_opts,
        given,
        &args.objects.secrets()?,
    )?;
    let guard = Guard::default();
    let opening = Opening {
        snapshot: None,
        force_share: args.force_share,
        live: true,
        backing_format: None,
        cache: Cache::Writeback,
        guard: &guard,
    };
    let disk = opening.open(&image)?;
    let source = operands.source(disk, ui)?;
    let asked = Asked::new(format, Options::default(), Cache::Writeback, Key::default())?;
    let cancel = signals::interruption();
    let meter = Meter::new(ui.name(), false, false, ui.err.is_terminal());
    let control = Control { cancel: &cancel, progress: &meter };
    let outcome = match spool::is_stream(&operands.output) {
        true => to_stream(source, asked, &operands.output, &guard, control),
        false => to_file(&source, asked, &operands.output, &guard, control),
    };
    meter.finish();
    outcome?;
    Ok(ExitCode::Success)
}

fn to_stream(
    source: SourceDisk,
    asked: Asked,
    path: &Path,
    guard: &Guard,
    control: Control<'_>,
) -> Result<()> {
    let mut out = spool::output(path)?;
    guard.writes_open(&out, path)?;
    if asked.needs_size() {
        bail!("{}: {} cannot be written as a stream", quoted(path), asked.format().name());
    }
    let (sources, options) = (Sources::Disks(source), ConvertOptions::default());
    let written = asked.write_into(sources, &mut out, &options, control);
    written.map(drop).with_context(|| quoted(path).to_string())
}

fn to_file(
    source: &SourceDisk,
    asked: Asked,
    path: &Path,
    guard: &Guard,
    control: Control<'_>,
) -> Result<()> {
    let context = format!("{}: {}", quoted(path), asked.format().name());
    let target = Target::create(path, asked, source.bytes(), guard)?;
    match target.convert(Input::Disks(source), &ConvertOptions::default(), control) {
        Ok(_) => target.close().context(context),
        Err(error) => {
            let left = target.give_up();
            Err(error.context(format!("{}{left}", quoted(path))))
        }
    }
}

impl Operands {
    fn source(&self, disk: Disk, ui: &mut Ui) -> Result<SourceDisk> {
        let context = || quoted(Path::new(&self.input)).to_string();
        let range = self.range(disk.size().with_context(context)?);
        if range.is_none() {
            ui.message(&format!(
                "{}: cannot skip to specified offset",
                Path::new(&self.input).display()
            ))?;
        }
        SourceDisk::part_of(disk, range.unwrap_or(0..0)).with_context(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operands(text: &str) -> Result<Operands> {
        Operands::parse(&text.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn blocks_are_counted_from_the_beginning_of_the_disk() {
        let range = |text: &str| operands(&format!("if=a of=b {text}")).unwrap().range(10_000);
        assert_eq!(range("bs=1k"), Some(0..10_000));
        assert_eq!(range("bs=1k skip=2"), Some(2048..10_000));
        assert_eq!(range("bs=1k skip=2 count=5"), Some(2048..5120));
        assert_eq!(range("bs=1k skip=5 count=5"), Some(5120..5120));
        assert_eq!(range("bs=1k skip=6 count=5"), None);
        assert_eq!(range("bs=1G count=0x7fffffffffffffff"), Some(0..10_000));
        assert_eq!(range("bs=1G skip=0x7fffffffffffffff"), None);
    }

    #[test]
    fn operands_that_are_not_known_are_refused() {
        for text in ["if=a", "of=b", "if=a of=b x", "if=a of=b seek=1", "if=a of=b bs=0"] {
            assert!(operands(text).is_err(), "{text}");
        }
        let last = operands("if=a of=b bs=1k bs=2k if=c").unwrap();
        assert_eq!((last.block, last.input), (2048, OsString::from("c")));
    }
}
