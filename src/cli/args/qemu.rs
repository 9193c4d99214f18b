//! What scripts use of qemu-img: its name, its version, and what it has that this program has not.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::terminal::ui::QEMU_IMG;

/// The version whose arguments and output are followed.
const VERSION: &str = concat!("version 10.0.2 (qcheck ", env!("CARGO_PKG_VERSION"), ")");

/// The formats, in the forms in which the helps of qemu-img 10 and of older ones list theirs.
const FORMATS: &str = "Supported image formats:\n\n  qcow2 raw\n\nSupported formats: qcow2 raw";

/// Those of its commands that are not here.
const COMMANDS: [&str; 1] = ["bench"];

/// Options that make what they need part of its command line.
const OPTIONS: [&str; 2] = ["--trace", "-T"];

/// The fewest characters that an option of it is known by, two dashes included.
const SHORTEST: usize = 5;

/// The command line under this name.
pub fn under_name(command: Command, name: &str) -> Command {
    if name != QEMU_IMG {
        return command;
    }
    let own = format!("{} ", command.get_name());
    let with_name = |command: Command| {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        command.after_help(examples.replace(&own, &format!("{QEMU_IMG} ")))
    };
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let renamed =
        names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_name));
    // Programs look for both in the help.
    let first = format!("{QEMU_IMG} {VERSION}");
    renamed.name(QEMU_IMG).version(VERSION).before_help(first).after_help(FORMATS)
}

/// The message for an argument that only qemu-img has.
pub fn missing(error: &clap::Error) -> Option<String> {
    let (kind, known, what): (_, &[&str], _) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, &COMMANDS, "command"),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, &OPTIONS, "option"),
        _ => return None,
    };
    let Some(ContextValue::String(given)) = error.get(kind) else { return None };
    let given = given.split('=').next().unwrap_or(given);
    let is_short =
        |word: &str| what == "option" && given.len() >= SHORTEST && word.starts_with(given);
    let word = known.iter().find(|word| **word == given || is_short(word))?;
    Some(format!(
        "NOTICE: '{word}' is a{} {what} of qemu-img that qcheck does not have",
        article(what)
    ))
}

fn article(what: &str) -> &'static str {
    if what.starts_with('o') { "n" } else { "" }
}
