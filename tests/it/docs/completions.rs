//! Completions: formats, and the snapshots of the image on the command line.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::programs::run::{qcheck, qemu_create, qemu_ok};
use crate::support::skip::skip;

/// What bash completes after these words, the last of which is being typed.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/completions/qcheck.bash");
    let complete = r#"source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_qcheck "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["-c", complete, "bash", script, env!("CARGO_BIN_EXE_qcheck")])
        .args(words)
        .current_dir(folder)
        // bash warns of a locale that is not installed.
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "", "{words:?}");
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn formats_are_offered_wherever_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["info", "-f", ""][..],
        &["check", "--format", ""],
        &["convert", "-O", ""],
        &["convert", "-f", ""],
        &["convert", "-F", ""],
        &["create", "-f", ""],
        &["create", "-F", ""],
        &["compare", "-F", ""],
        &["dd", "-O", ""],
        &["measure", "-O", ""],
        &["resize", "-f", ""],
        &["snapshot", "-f", ""],
    ] {
        assert_eq!(completed(dir.path(), words), ["raw", "qcow2"], "{words:?}");
    }
    assert_eq!(completed(dir.path(), &["info", "-f", "q"]), ["qcow2"]);
    // Others are taken all the same, so that the error can name them.
    let ran = qcheck(dir.path(), &["info", "-f", "vmdk", "x"]);
    assert!(!ran.err.contains("possible values"), "{}", ran.err);
}

#[test]
fn snapshots_of_the_image_are_offered_and_nothing_in_their_names_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk", "1M"]);
    for name in ["before", "be fore", "other", "be$(touch${IFS}ran)"] {
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", name, "disk"]);
    }
    for option in ["-a", "-d", "--apply", "--delete"] {
        let words = ["snapshot", "disk", option, "be"];
        let all = completed(folder, &words);
        assert_eq!(all[..2], ["before", r"be\ fore"], "{option}");
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[2].starts_with(r"be\$\(touch"), "{all:?}");
    }
    for words in [["convert", "disk", "-l", "o"], ["measure", "disk", "--snapshot", "o"]] {
        assert_eq!(completed(folder, &words), ["other"], "{words:?}");
    }
    assert_eq!(completed(folder, &["snapshot", "disk", "-a", ""]).len(), 4);
    assert_eq!(completed(folder, &["snapshot", "absent", "-a", ""]).len(), 0);
    assert!(!folder.join("ran").exists());
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["disk"]);
}

#[test]
fn after_a_command_files_are_offered_and_options_after_a_dash() {
    let dir = tempfile::tempdir().unwrap();
    // Where nothing is offered bash completes the names of files.
    for command in ["check", "info", "convert", "snapshot"] {
        assert_eq!(completed(dir.path(), &[command, ""]), [""; 0], "{command}");
        assert_eq!(completed(dir.path(), &[command, "x", ""]), [""; 0], "{command}");
        assert!(completed(dir.path(), &[command, "-"]).len() > 5, "{command}");
    }
    assert!(completed(dir.path(), &[""]).contains(&"check".to_owned()));
    assert!(completed(dir.path(), &["help", ""]).contains(&"check".to_owned()));
}

/// What a shell prints for a script with this argument. `None`: it is not installed.
fn printed(
    shell: &str,
    options: &[&str],
    script: &str,
    argument: &Path,
    folder: &Path,
) -> Option<Vec<String>> {
    let program = Path::new(env!("CARGO_BIN_EXE_qcheck")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new(shell)
        .args([options, &["-c", script, shell]].concat())
        .arg(argument)
        .current_dir(folder)
        .env("PATH", path)
        .output()
        .map_err(|error| skip(shell, &error.to_string()))
        .ok()?;
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

fn scripts() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/completions"))
}

fn with_snapshots(folder: &Path) {
    qemu_create(folder, &["-f", "qcow2", "disk", "1M"]);
    for name in ["before", "be fore", "other"] {
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", name, "disk"]);
    }
}

#[test]
fn fish_offers_formats_and_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path());
    let complete = r#"source $argv[2]
for line in "create -f " "convert -O q" "snapshot disk -a be" "snapshot disk --delete o" "convert disk -l o" "measure disk -l o"
    complete -C "qcheck $line" | sort
end"#;
    let options = &["--no-config"];
    let found = printed("fish", options, complete, &scripts().join("qcheck.fish"), dir.path());
    if let Some(found) = found {
        assert_eq!(
            found,
            ["qcow2", "raw", "qcow2", "be fore", "before", "other", "other", "other"]
        );
    }
}

#[test]
fn zsh_offers_formats_and_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    with_snapshots(dir.path());
    // The functions of the completion system, which need a terminal, print what they are given.
    let complete = r#"compdef() { }
compadd() { print -rl -- ${(P)2} }
source $1
words=(qcheck snapshot disk -a be)
_qcheck_snapshots"#;
    let script = scripts().join("_qcheck");
    let found = printed("zsh", &["-f"], complete, &script, dir.path());
    if let Some(found) = found {
        assert_eq!(found, ["before", "be fore", "other"]);
    }
    let text = fs::read_to_string(script).unwrap();
    for option in ["'*-a+[", "'*--apply=[", "'*-d+[", "'*--delete=[", "'-l+[Read", "'--snapshot=["]
    {
        let line = text.lines().find(|line| line.starts_with(option)).unwrap();
        assert!(line.contains(":_qcheck_snapshots'"), "{line}");
    }
    let formats = text.lines().filter(|line| line.contains(":(raw qcow2)'")).count();
    assert!(formats >= 12, "{formats}");
}

/// Runs a script with a shell that may not be installed.
fn parses(shell: &str, script: &str) {
    let script = scripts().join(script);
    match Command::new(shell).arg("-n").arg(script).status() {
        Ok(status) => assert!(status.success(), "{shell}"),
        Err(error) => skip(shell, &error.to_string()),
    }
}

#[test]
fn the_scripts_of_other_shells_have_no_errors_in_their_syntax() {
    parses("bash", "qcheck.bash");
    parses("zsh", "_qcheck");
    parses("fish", "qcheck.fish");
}
