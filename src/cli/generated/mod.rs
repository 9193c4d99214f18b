//! Completions and manual pages are generated from the definitions of the arguments, the list of
//! findings from the table of their kinds. These tests fail when the files are stale; with
//! `QCHECK_REGENERATE=1` they write them instead.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use qcheck::check::report::SECTIONS;
use qcheck::check::{Row, Severity};

use super::Cli;

fn completions() -> Vec<(PathBuf, Vec<u8>)> {
    [
        (Shell::Bash, "qcheck.bash"),
        (Shell::Zsh, "_qcheck"),
        (Shell::Fish, "qcheck.fish"),
        (Shell::PowerShell, "_qcheck.ps1"),
        (Shell::Elvish, "qcheck.elv"),
    ]
    .into_iter()
    .map(|(shell, name)| {
        let mut text = Vec::new();
        generate(shell, &mut Cli::command(), "qcheck", &mut text);
        (Path::new("completions").join(name), text)
    })
    .collect()
}

fn manual_pages() -> Vec<(PathBuf, Vec<u8>)> {
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
            Man::new(command).date("").render(&mut text).unwrap();
            let text = with_usual_sections(&name, &String::from_utf8(text).unwrap());
            (Path::new("docs/man").join(format!("{name}.1")), text.into_bytes())
        })
        .collect()
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
        "{}{end_of_examples}\n.SH \"EXIT STATUS\"\n{exit}\n.SH \"SEE ALSO\"\n{}, \
         \\fBqemu\\-img\\fR(1)\n",
        page.trim_end(),
        all.join(", ").replace('-', "\\-")
    )
}

#[test]
fn every_manual_page_has_the_usual_sections() {
    for (path, page) in manual_pages() {
        let page = String::from_utf8(page).unwrap();
        for section in ["\n.SH \"EXIT STATUS\"\n", "\n.SH \"SEE ALSO\"\n"] {
            assert!(page.contains(section), "{}: {section}", path.display());
        }
        let has_examples = page.contains("\n.SH EXAMPLES\n");
        assert!(has_examples || path.ends_with("qcheck.1"), "{}", path.display());
        assert!(!page.contains(".SH EXTRA"), "{}", path.display());
    }
}

const INTRO: &str = "\
# Findings

One entry for each `code` in `qcheck check --output json`: what it means, and what to do. After \
\"Repair\" follows what
corrects it. Where nothing does, copy what is readable to a new image (`qcheck convert --salvage`) \
and compare with a backup.
[repair.md](repair.md) says what each repair does, and what \"held\" means.

Severities: a *corruption* puts data in danger (exit code 2), a *leak* only wastes space (3), a \
*check error* is a part that could
not be seen (1), a *notice* is worth knowing and changes nothing.
";

fn findings() -> (PathBuf, Vec<u8>) {
    let mut text = INTRO.to_owned();
    for section in SECTIONS {
        text += &format!("\n## {}\n", section.heading);
        if !section.intro.is_empty() {
            text += &format!("\n{}\n", section.intro);
        }
        section.rows.iter().for_each(|row| text += &entry(row));
    }
    (PathBuf::from("docs/findings.md"), text.into_bytes())
}

fn entry(row: &Row) -> String {
    let severity = match row.severity {
        Severity::Notice => "Notice. ",
        Severity::CheckError => "Check error. ",
        Severity::Leak | Severity::Corruption => "",
    };
    format!("\n### `{}`\n{severity}{} Repair: {}\n", row.code, row.meaning, row.repair)
}

fn compare_or_write(files: Vec<(PathBuf, Vec<u8>)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let regenerate = std::env::var_os("QCHECK_REGENERATE").is_some();
    let mut stale = Vec::new();
    for (path, want) in files {
        let full = root.join(&path);
        if regenerate {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(&full, &want).unwrap();
        } else if fs::read(&full).ok().as_deref() != Some(&want) {
            stale.push(path.display().to_string());
        }
    }
    assert!(stale.is_empty(), "stale: {stale:?}; run QCHECK_REGENERATE=1 cargo test --bins");
}

#[test]
fn completions_are_up_to_date() {
    compare_or_write(completions());
}

#[test]
fn manual_pages_are_up_to_date() {
    compare_or_write(manual_pages());
}

#[test]
fn the_list_of_findings_is_up_to_date() {
    compare_or_write(vec![findings()]);
}
