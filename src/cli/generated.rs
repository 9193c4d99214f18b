//! Completions and manual pages are generated from the definitions of the arguments. These tests
//! fail when the files are stale; with `QCHECK_REGENERATE=1` they write them instead.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

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
            (Path::new("docs/man").join(format!("{name}.1")), text)
        })
        .collect()
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
