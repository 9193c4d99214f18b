//! Completions and manual pages are generated from the definitions of the arguments, the list of
//! findings from the table of their kinds, schemas from the types of JSON documents. These tests
//! fail when the files are stale; with `QCHECK_REGENERATE=1` they write them instead.

mod completions;
mod manual;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use qcheck::check::report::SECTIONS;
use qcheck::check::{Row, Severity};

use completions::completions;
use manual::manual_pages;

const INTRO: &str = "\
# Findings

One entry for each `code` in `qcheck check --output json`: what it means, and what to do. After
\"Repair\" follows what corrects it. Where nothing does, copy what is readable to a new image
(`qcheck convert --salvage`) and compare with a backup. [repair.md](repair.md) describes what each
repair does, and what \"held\" means.

Severities: a *corruption* puts data in danger (exit code 2), a *leak* only wastes space (3), a
*check error* is a part that could not be seen (1), a *notice* is information and changes nothing.
";

fn findings() -> (PathBuf, Vec<u8>) {
    let mut text = INTRO.to_owned();
    for section in SECTIONS {
        text += &format!("\n## {}\n", section.heading);
        if !section.intro.is_empty() {
            text += &format!("\n{}", wrapped(section.intro));
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
    let text = wrapped(&format!("{severity}{} Repair: {}", row.meaning, row.repair));
    format!("\n### `{}`\n{text}", row.code)
}

/// A paragraph in lines of at most 100 columns. A word that would begin a list stays in its line.
fn wrapped(paragraph: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        let is_item = word == "-"
            || word == "+"
            || word == "*"
            || word.ends_with(['.', ')'])
                && word[..word.len() - 1].bytes().all(|b| b.is_ascii_digit());
        let ends = column + 1 + length > 100 && !is_item;
        text += if column == 0 {
            ""
        } else if ends {
            "\n"
        } else {
            " "
        };
        column = if ends || column == 0 { length } else { column + 1 + length };
        text += word;
    }
    text + "\n"
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
