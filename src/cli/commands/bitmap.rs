//! `qcheck bitmap`: change a persistent bitmap of an image.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use qcheck::ImageFormat;
use qcheck::convert::Control;
use qcheck::crypt::Secrets;
use qcheck::disk::Disk;
use qcheck::edit::bitmap::{Action, bitmap};
use qcheck::file::Intent;
use qcheck::image::{BackingPolicy, Image, OpenOptions};

use crate::cli::args::file_name::{could_not_open, quoted};
use crate::cli::args::format::{self, BOTH, QCOW2_ONLY};
use crate::cli::args::image_name::changed::Changed;
use crate::cli::args::image_name::{self, ImageName};
use crate::cli::args::size::parse_size;
use crate::cli::files::open;
use crate::cli::files::remote;
use crate::cli::files::writable;
use crate::cli::render::exit::ExitCode;
use crate::cli::terminal::signals;
use crate::cli::terminal::ui::Ui;

/// Change a persistent bitmap of an image; all actions are done in their order, as one change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image's format; only qcow2 has bitmaps; detected from its first bytes if not given
    #[arg(short, long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    format: Option<ImageFormat>,

    #[command(flatten)]
    actions: Actions,

    /// With --add: guest bytes for each bit, a power of two from 512 to 2G; by default, and with 0,
    /// the cluster size, at least 4k and at most 64k
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    granularity: Option<u64>,

    /// With --merge: the image that has the bitmaps to merge
    #[arg(short = 'b', long, value_name = "FILE", value_parser = image_name::parser())]
    source_file: Option<ImageName>,

    /// The format of the image of -b, qcow2 or raw; detected from its first bytes if not given
    #[arg(short = 'F', long, value_name = "FMT", value_parser = format::parser(), hide_possible_values = true)]
    source_format: Option<ImageFormat>,

    #[command(flatten)]
    changed: Changed,

    /// The name of the bitmap
    bitmap: OsString,
}

/// Options that are actions, and their helps.
const FLAGS: [(&str, &str); 5] = [
    ("add", "Add a bitmap, which records writes"),
    ("remove", "Remove the bitmap, also one that was left in use"),
    ("clear", "Clear all bits"),
    ("enable", "Record writes from now on"),
    ("disable", "Record no writes from now on"),
];
const MERGE: &str = "merge";

/// What is done, in the order of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Actions(Vec<Action>);

impl clap::Args for Actions {
    fn augment_args(command: Command) -> Command {
        let flag = |command: Command, (name, help): (&'static str, &'static str)| {
            let arg = Arg::new(name).long(name).help(help).action(ArgAction::Append).num_args(0);
            command.arg(arg.default_missing_value("true"))
        };
        FLAGS.into_iter().fold(command, flag).arg(
            Arg::new(MERGE)
                .long(MERGE)
                .value_name("SOURCE")
                .help("Set the bits of the bitmap of this name too")
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .value_parser(clap::value_parser!(OsString)),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Actions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut found = Vec::new();
        for (name, _) in FLAGS {
            let action = match name {
                "add" => Action::Add { granularity: None },
                "remove" => Action::Remove,
                "clear" => Action::Clear,
                "enable" => Action::Enable,
                _ => Action::Disable,
            };
            if matches.value_source(name) == Some(ValueSource::CommandLine) {
                let places = matches.indices_of(name).into_iter().flatten();
                found.extend(places.map(|place| (place, action.clone())));
            }
        }
        let places = matches.indices_of(MERGE).into_iter().flatten();
        let names = matches.get_many::<OsString>(MERGE).into_iter().flatten();
        found.extend(
            places.zip(names).map(|(at, name)| (at, Action::Merge(name.as_encoded_bytes().into()))),
        );
        found.sort_by_key(|(place, _)| *place);
        Ok(Self(found.into_iter().map(|(_, action)| action).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs the command.
pub fn run(args: &Args, ui: &mut Ui) -> Result<ExitCode> {
    let actions = args.actions()?;
    let named = args.changed.named(args.format)?;
    let path = named.written()?;
    let opened = open::open(path, named.format, Intent::Change, false)?;
    if opened.format != ImageFormat::Qcow2 {
        let format = opened.format.name();
        bail!("{}: an image of the format {format} has no bitmaps: {QCOW2_ONLY}", quoted(path));
    }
    let source = args.source()?;
    let options = OpenOptions::default().backing(BackingPolicy::Leave);
    let image = writable::open_qcow2(opened.storage, path, options, &remote::opener(), ui)?;
    let cancel = signals::interruption();
    let meter = args.changed.meter(ui);
    let control = Control { cancel: &cancel, progress: &meter };
    let name = args.bitmap.as_encoded_bytes();
    let outcome = bitmap(image, name, &actions, source.as_ref(), control);
    meter.finish();
    outcome.with_context(|| quoted(path).to_string())?;
    Ok(ExitCode::Success)
}

impl Args {
    /// The actions; the messages are qemu-img's.
    fn actions(&self) -> Result<Vec<Action>> {
        let mut actions = self.actions.0.clone();
        if actions.is_empty() {
            bail!("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        }
        let is_add = |action: &Action| matches!(action, Action::Add { .. });
        if self.granularity.is_some() && !actions.iter().any(is_add) {
            bail!("granularity only supported with --add");
        }
        if self.source_format.is_some() && self.source_file.is_none() {
            bail!("-F only supported with -b");
        }
        let merges = actions.iter().any(|action| matches!(action, Action::Merge(_)));
        if self.source_file.is_some() && !merges {
            bail!("Merge bitmap source file only supported with --merge");
        }
        for action in &mut actions {
            if let Action::Add { granularity } = action {
                *granularity = self.granularity.filter(|bytes| *bytes != 0);
            }
        }
        Ok(actions)
    }

    /// The image of -b, without its backing files.
    fn source(&self) -> Result<Option<Disk>> {
        let Some(name) = &self.source_file else { return Ok(None) };
        let named = name.named(false, self.source_format, &Secrets::default())?;
        let path = &named.path;
        let opened = open::open(path, named.format, Intent::ReadData, false)?;
        let storage = Arc::new(opened.storage);
        match opened.format {
            ImageFormat::Raw => Ok(Some(Disk::raw(storage))),
            ImageFormat::Qcow2 => {
                let options =
                    OpenOptions::default().path(Some(path.clone())).backing(BackingPolicy::Leave);
                let image = Image::open_read(storage, &options, &remote::opener());
                Ok(Some(Disk::Qcow2(Box::new(image.with_context(|| could_not_open(path))?))))
            }
            other => bail!("{}: cannot read the format {}: {BOTH}", quoted(path), other.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(args_override_self = true, infer_long_args = true)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn actions_are_done_in_the_order_of_the_options() {
        let merge = |name: &str| Action::Merge(name.into());
        let add = Action::Add { granularity: None };
        for (line, expected) in [
            ("--add --clear", vec![add.clone(), Action::Clear]),
            ("--clear --add", vec![Action::Clear, add.clone()]),
            ("--merge a --clear --merge b", vec![merge("a"), Action::Clear, merge("b")]),
            ("--enable --disable --enable", vec![Action::Enable, Action::Disable, Action::Enable]),
            ("--rem --ad", vec![Action::Remove, add]),
            ("", vec![]),
        ] {
            let words = format!("bitmap {line} image day");
            let cli = Cli::try_parse_from(words.split_whitespace()).unwrap();
            assert_eq!(cli.args.actions.0, expected, "{line}");
        }
    }
}
