//! Manual pages: those of clap, with the values of options in the synopsis and the usual sections.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;

/// What every command does with files.
const FILES: &str = "\
Images are locked as QEMU locks them, for as long as they are open. A stream that has to be read \
at any place is kept in a file without a name in the folder that TMPDIR names, or in /tmp. \
/proc/locks shows which process holds a lock that cannot be taken.";

/// The files and what is in them.
pub fn manual_pages() -> Vec<(PathBuf, Vec<u8>)> {
    let mut root = Cli::command();
    root.build();
    let commands = root.get_subcommands().filter(|c| c.get_name() != "help");
    let pages = commands.map(|command| {
        let name = format!("qcheck-{}", command.get_name());
        (name.clone(), command.clone().display_name(name))
    });
    [("qcheck".to_owned(), Cli::command().disable_help_subcommand(true))]
        .into_iter()
        .chain(pages)
        .map(|(name, command)| {
            let mut text = Vec::new();
            // The date would make the page stale without a change.
            Man::new(command.clone()).date("").render(&mut text).unwrap();
            let text = with_synopsis(&command, &String::from_utf8(text).unwrap());
            let text = with_usual_sections(&name, &text);
            (Path::new("docs/man").join(format!("{name}.1")), text.into_bytes())
        })
        .collect()
}

/// Puts the values of options into the synopsis.
fn with_synopsis(command: &Command, page: &str) -> String {
    let Some((_, line)) = page.split_once(".SH SYNOPSIS\n") else { return page.to_owned() };
    let line = line.lines().next().unwrap();
    if command.has_subcommands() {
        return page.to_owned();
    }
    let mut parts = vec![line.split_once("\\fR").unwrap().0.to_owned() + "\\fR"];
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let (positional, options): (Vec<_>, Vec<_>) = arguments.partition(|arg| arg.is_positional());
    parts.extend(options.into_iter().map(option));
    parts.extend(positional.into_iter().map(operand));
    page.replace(line, &parts.join(" "))
}

fn option(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = argument.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escaped(long)));
    let name = short.into_iter().chain(long).collect::<Vec<_>>().join("|");
    match values(argument).filter(|_| argument.get_action().takes_values()) {
        Some(values) => format!("[{name} {values}]"),
        None => format!("[{name}]"),
    }
}

fn operand(argument: &Arg) -> String {
    let name = values(argument).unwrap_or_default();
    let several = matches!(argument.get_action(), ArgAction::Append);
    let name = if several { format!("{name}...") } else { name };
    if argument.is_required_set() { name } else { format!("[{name}]") }
}

fn values(argument: &Arg) -> Option<String> {
    let names = argument.get_value_names()?;
    Some(names.iter().map(|name| format!("\\fI{}\\fR", escaped(name))).collect())
}

fn escaped(text: &str) -> String {
    text.replace('-', "\\-")
}

/// Names the examples as manual pages do, and adds the sections that every page has.
fn with_usual_sections(name: &str, page: &str) -> String {
    let page = page.replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n.nf\n");
    let is_raw = page.contains(".SH EXAMPLES\n");
    let exit = match name {
        "qcheck" | "qcheck-check" => {
            "check ends with 0 where nothing is wrong, 1 without a verdict, 2 with errors in the \
             image, 3 with leaked clusters only, 4 where the image has what the policy denies, 63 \
             where the format has no checker. compare ends with 0 where the disks are the same, 1 \
             where they are not, 2, 3 or 4 where an image cannot be opened, mapped or read. Every \
             other command ends with 0, or with 1 where it failed."
        }
        "qcheck-compare" => {
            "0 where a guest reads the same from both images, 1 where it does not or the arguments \
             are wrong, 2 where an image cannot be opened, 3 where its map cannot be read, 4 where \
             its data cannot be read."
        }
        _ => "0 where the command has done its work, 1 where it failed.",
    };
    let also = Cli::command();
    let names = also.get_subcommands().map(|command| format!("qcheck-{}", command.get_name()));
    let all = std::iter::once("qcheck".to_owned()).chain(names);
    let all: Vec<String> =
        all.filter(|other| other != name).map(|other| format!("\\fB{other}\\fR(1)")).collect();
    let end_of_examples = if is_raw { "\n.fi" } else { "" };
    format!(
        "{}{end_of_examples}\n.SH \"EXIT STATUS\"\n{exit}\n.SH FILES\n{FILES}\n\
         .SH \"SEE ALSO\"\n{}, \
         \\fBqemu\\-img\\fR(1)\n",
        page.trim_end(),
        all.join(", ").replace('-', "\\-")
    )
}

#[test]
fn every_manual_page_has_the_usual_sections() {
    for (path, page) in manual_pages() {
        let page = String::from_utf8(page).unwrap();
        for section in ["\n.SH \"EXIT STATUS\"\n", "\n.SH FILES\n", "\n.SH \"SEE ALSO\"\n"] {
            assert!(page.contains(section), "{}: {section}", path.display());
        }
        let has_examples = page.contains("\n.SH EXAMPLES\n");
        assert!(has_examples || path.ends_with("qcheck.1"), "{}", path.display());
        let synopsis = page.split_once(".SH SYNOPSIS\n").unwrap().1.lines().next().unwrap();
        let has_values = synopsis.contains("[\\fB\\-f\\fR|\\fB\\-\\-format\\fR \\fIFMT\\fR]");
        assert_eq!(has_values, page.contains("\n\\fB\\-f\\fR, \\fB\\-\\-format\\fR"), "{synopsis}");
        assert!(!page.contains(".SH EXTRA"), "{}", path.display());
    }
}
