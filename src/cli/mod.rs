//! The command line: parse, run, print, exit.

mod args;
mod commands;
mod files;
#[cfg(test)]
mod generated;
mod render;
mod terminal;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use env_logger::WriteStyle;
use log::LevelFilter;

use args::{examples, nearest, qemu};
use commands::{
    amend, bitmap, check, commit, compact, compare, convert, create, dd, dump, info, map, measure,
    rebase, report, resize, snapshot, undo,
};
use files::remote::Remote;
use render::exit::ExitCode;
use terminal::color::When;
use terminal::ui::Ui;
use terminal::{fault, signals};

/// Check, repair and manage qcow2 disk images, with the command line of qemu-img
#[derive(Debug, Parser)]
#[command(name = "qcheck", version, infer_long_args = true, args_override_self = true)]
pub struct Cli {
    /// When output has colours
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, display_order = 1000,
          value_name = "auto|always|never", hide_possible_values = true)]
    color: When,

    #[command(flatten)]
    remote: Remote,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(after_help = examples::AMEND)]
    Amend(amend::Args),
    #[command(after_help = examples::BITMAP)]
    Bitmap(bitmap::Args),
    #[command(after_help = examples::CHECK)]
    Check(Box<check::Args>),
    #[command(after_help = examples::COMMIT)]
    Commit(commit::Args),
    #[command(after_help = examples::COMPACT)]
    Compact(compact::Args),
    #[command(after_help = examples::COMPARE)]
    Compare(compare::Args),
    #[command(after_help = examples::CONVERT)]
    Convert(Box<convert::Args>),
    #[command(after_help = examples::CREATE)]
    Create(create::Args),
    #[command(after_help = examples::DD)]
    Dd(dd::Args),
    #[command(after_help = examples::DUMP)]
    Dump(dump::Args),
    #[command(after_help = examples::INFO)]
    Info(info::Args),
    #[command(after_help = examples::MAP)]
    Map(map::Args),
    #[command(after_help = examples::MEASURE)]
    Measure(measure::Args),
    #[command(after_help = examples::REBASE)]
    Rebase(rebase::Args),
    #[command(after_help = examples::REPORT)]
    Report(report::Args),
    #[command(after_help = examples::RESIZE)]
    Resize(resize::Args),
    #[command(after_help = examples::SNAPSHOT)]
    Snapshot(snapshot::Args),
    #[command(after_help = examples::UNDO)]
    Undo(undo::Args),
}

/// The whole program.
pub fn main() -> std::process::ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let program = args.first().map(PathBuf::from);
    signals::answer_about_progress();
    let mut ui = Ui::new(program.as_deref(), When::given(&args));
    log_as(&ui);
    let start = Instant::now();
    let command = qemu::under_name(Cli::command(), ui.name());
    let parsed = command.try_get_matches_from(expand(args));
    let code = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => {
            ui.set_color(cli.color);
            cli.remote.apply();
            run(&cli, &mut ui)
        }
        Err(error) => usage(&error, &mut ui),
    };
    log::info!("ends with {code:?} after {:.3} s", start.elapsed().as_secs_f64());
    code.into()
}

/// What RUST_LOG asks for is printed; without it, warnings.
fn log_as(ui: &Ui) {
    let style = if ui.err.is_colored() { WriteStyle::Always } else { WriteStyle::Never };
    let name = ui.name().to_owned();
    let mut logger = env_logger::Builder::from_default_env();
    if std::env::var_os(env_logger::DEFAULT_FILTER_ENV).is_none() {
        logger.filter_level(LevelFilter::Error).filter_module("qcheck", LevelFilter::Warn);
    }
    logger.write_style(style).format(move |out, record| {
        let level = record.level().as_str().to_lowercase();
        writeln!(out, "{name}: {level}: {}", record.args())
    });
    // The error is that there is a logger already.
    let _ = logger.try_init();
}

fn expand(mut args: Vec<OsString>) -> Vec<OsString> {
    let expand: fn(Vec<OsString>) -> Vec<OsString> = match args.get(1).and_then(|a| a.to_str()) {
        Some("check") => check::expand_repair,
        Some("resize") => resize::expand_size,
        _ => return args,
    };
    let rest = args.split_off(2);
    args.extend(expand(rest));
    args
}

impl Cli {
    /// What could help where the command failed.
    fn hint(&self, error: &anyhow::Error) -> String {
        match &self.command {
            // These have no -U.
            Command::Amend(_)
            | Command::Bitmap(_)
            | Command::Commit(_)
            | Command::Compact(_)
            | Command::Create(_)
            | Command::Undo(_) => fault::record_hint(error),
            Command::Resize(_) => fault::format_hint(error, "--backing-format"),
            Command::Convert(_) => {
                fault::lock_hint(error) + &fault::format_hint(error, "--source-backing-format")
            }
            _ => fault::lock_hint(error) + &fault::record_hint(error),
        }
    }
}

fn run(cli: &Cli, ui: &mut Ui) -> ExitCode {
    let result = match &cli.command {
        Command::Amend(args) => amend::run(args, ui),
        Command::Bitmap(args) => bitmap::run(args, ui),
        Command::Check(args) => check::run(args, ui),
        Command::Commit(args) => commit::run(args, ui),
        Command::Compact(args) => compact::run(args, ui),
        Command::Compare(args) => compare::run(args, ui),
        Command::Convert(args) => convert::run(args, ui),
        Command::Create(args) => create::run(args, ui),
        Command::Dd(args) => dd::run(args, ui),
        Command::Dump(args) => dump::run(args, ui),
        Command::Info(args) => info::run(args, ui),
        Command::Map(args) => map::run(args, ui),
        Command::Measure(args) => measure::run(args, ui),
        Command::Rebase(args) => rebase::run(args, ui),
        Command::Report(args) => report::run(args, ui),
        Command::Resize(args) => resize::run(args, ui),
        Command::Snapshot(args) => snapshot::run(args, ui),
        Command::Undo(args) => undo::run(args, ui),
    };
    result.unwrap_or_else(|error| {
        let text = match ui.out.has_failed() {
            true => format!("could not write the result: {}", fault::root(&error)),
            false => {
                let hint = cli.hint(&error) + &fault::remote_hint(&error);
                format!("{}{hint}", fault::line(&error))
            }
        };
        // A failure of standard error itself cannot be reported.
        let _ = ui.error(&text);
        ExitCode::Failure
    })
}

/// Prints help or version as requested, or reports what is wrong with the arguments.
fn usage(error: &clap::Error, ui: &mut Ui) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = match ui.out.is_colored() {
            true => error.render().ansi().to_string(),
            false => error.render().to_string(),
        };
        let printed = write!(ui.out, "{text}").and_then(|()| ui.out.flush());
        return match printed {
            Ok(()) => ExitCode::Success,
            Err(error) => {
                let _ = ui.error(&format!("could not write the result: {error}"));
                ExitCode::Failure
            }
        };
    }
    let text = error.render().to_string();
    let first: Vec<&str> = text.lines().take_while(|l| !l.is_empty()).map(str::trim).collect();
    let cause = first.join(" ");
    let cause = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a subcommand is needed",
        _ => cause.strip_prefix("error: ").unwrap_or(&cause),
    };
    let cause = qemu::missing(error)
        .or_else(|| one_too_many(error))
        .unwrap_or_else(|| format!("{cause}{}", suggestion(error)));
    let hint = format!("Try '{} --help' for more information.", ui.name());
    let _ = ui.error(&cause).and_then(|()| ui.err.line(&hint)).and_then(|()| ui.err.flush());
    ExitCode::Failure
}

/// `help` takes the name of one command: what follows it is not an unknown one.
fn one_too_many(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    Cli::command().find_subcommand(word)?;
    Some(format!("unexpected argument '{word}' found"))
}

/// What may have been meant, where there is something like it.
fn suggestion(error: &clap::Error) -> String {
    let kinds =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let meant = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(word) => Some(word.clone()),
        ContextValue::Strings(words) => words.first().cloned(),
        _ => None,
    });
    match (meant, error.get(ContextKind::InvalidSubcommand)) {
        (Some(word), _) => format!("; did you mean '{word}'?"),
        // After `help` nothing is suggested.
        (None, Some(ContextValue::String(given))) => {
            let command = Cli::command();
            let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            nearest::hint(given, &known)
        }
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_are_right() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let mut lines = help.lines();
            assert_eq!(lines.next(), Some("Examples:"), "{name}");
            assert!(help.contains(&format!("\n  qcheck {name} ")), "{name}");
            for line in lines {
                let words = line.split_whitespace().map(OsString::from).collect();
                assert!(Cli::try_parse_from(expand(words)).is_ok(), "{line}");
            }
        }
    }
}
