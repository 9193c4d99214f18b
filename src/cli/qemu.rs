//! What scripts know of qemu-img: its name, its version, and what it has that this program has not.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The program whose place this one takes when it is called by that name.
pub const NAME: &str = "qemu-img";

/// The version whose arguments and output are followed.
const VERSION: &str = concat!("version 10.0.2 (qcheck ", env!("CARGO_PKG_VERSION"), ")");

/// Its commands.
const COMMANDS: [&str; 15] = [
    "amend", "bench", "bitmap", "check", "commit", "compare", "convert", "create", "dd", "info",
    "map", "measure", "rebase", "resize", "snapshot",
];

/// Options that make what they need part of its command line.
const OPTIONS: [&str; 4] = ["--image-opts", "--object", "--target-image-opts", "--trace"];

/// The command line under this name.
pub fn under_name(command: Command, name: &str) -> Command {
    if name == NAME { command.name(NAME).version(VERSION) } else { command }
}

/// What to say of an argument that only qemu-img knows.
pub fn missing(error: &clap::Error) -> Option<String> {
    let (kind, known, what): (_, &[&str], _) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, &COMMANDS, "command"),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, &OPTIONS, "option"),
        _ => return None,
    };
    let Some(ContextValue::String(given)) = error.get(kind) else { return None };
    let word = given.split('=').next().unwrap_or(given);
    known.contains(&word).then(|| {
        format!(
            "NOTICE: '{word}' is a{} {what} of qemu-img that qcheck does not have",
            article(what)
        )
    })
}

fn article(what: &str) -> &'static str {
    if what.starts_with('o') { "n" } else { "" }
}
