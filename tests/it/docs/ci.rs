//! The recipes of `docs/ci.md`, run as they stand there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::programs::run::{Ran, qemu_create, qemu_ok};
use crate::support::skip::skip;

/// The scripts of the document with their headings: shell blocks, and what follows a `|` in YAML.
fn scripts(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for section in text.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap().to_owned();
        let block = section.split("```").nth(1).unwrap_or_else(|| panic!("{heading}: no block"));
        let (language, body) = block.split_once('\n').unwrap();
        let script = match language {
            "sh" => body.to_owned(),
            "yaml" => literal(body),
            other => panic!("{heading}: a block of {other}"),
        };
        found.push((heading, script));
    }
    found
}

/// The lines below the first that ends with `|`, as far as they are indented deeper.
fn literal(yaml: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = yaml.lines().skip_while(|line| !line.ends_with('|'));
    let head = indent(lines.next().expect("a script"));
    let script: Vec<&str> = lines.take_while(|line| indent(line) > head).collect();
    assert!(!script.is_empty());
    script.join("\n")
}

/// A repository with two images that are about to be committed.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(dir.path().join("images")).unwrap();
    for name in ["images/one.qcow2", "images/with space.qcow2"] {
        qemu_create(dir.path(), &["-f", "qcow2", name, "10M"]);
        qemu_ok(dir.path(), "qemu-io", &["-c", "write 0 1M", name]);
    }
    git(dir.path(), &["init", "-q"]);
    git(dir.path(), &["add", "."]);
    dir
}

fn git(folder: &Path, args: &[&str]) {
    let status = Command::new("git").args(args).current_dir(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "git {args:?}");
}

/// Takes the counts of two clusters away.
fn damage(folder: &Path, name: &str) {
    let image = fs::OpenOptions::new().write(true).open(folder.join(name));
    image.unwrap().write_all_at(&[0, 0], 0x20000 + 2 * 6).unwrap();
}

fn run(folder: &Path, script: &str) -> Ran {
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", script]).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    shell.output().expect("sh starts").into()
}

#[test]
fn the_lines_of_a_fleet_are_objects_with_the_host() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md");
    let scripts = scripts(&fs::read_to_string(text).unwrap());
    let (_, script) = scripts.iter().find(|(heading, _)| heading.contains("fleet")).unwrap();
    let sed = script.lines().find(|line| line.starts_with("sed ")).unwrap();
    let dir = repository();
    let images = "images/one.qcow2 images/with\\ space.qcow2";
    let check = format!("qcheck check --output ndjson {images} | sed 's/^/vm1\t/' > fleet.tsv");
    let ran = run(dir.path(), &format!("{check}\n{sed}"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines = fs::read_to_string(dir.path().join("fleet.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["host"], "vm1");
        assert!(value["filename"].is_string());
    }
}

#[test]
fn every_recipe_passes_clean_images_and_fails_with_a_damaged_one() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md");
    let scripts = scripts(&fs::read_to_string(text).unwrap());
    assert!(scripts.len() >= 6);
    let parallel = Command::new("parallel").arg("--version").output();
    let has_parallel = parallel.is_ok_and(|ran| ran.status.success());
    for (heading, script) in scripts {
        if script.contains("parallel ") && !has_parallel {
            skip(&heading, "GNU parallel is not installed");
            continue;
        }
        let dir = repository();
        let ran = run(dir.path(), &script);
        assert_eq!(ran.code, 0, "{heading}: {}{}", ran.out, ran.err);
        damage(dir.path(), "images/one.qcow2");
        git(dir.path(), &["add", "images"]);
        let ran = run(dir.path(), &script);
        assert_ne!(ran.code, 0, "{heading}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn what_is_staged_is_checked_whatever_the_working_tree_has() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md")).unwrap();
    let (_, script) =
        scripts(&text).into_iter().find(|(name, _)| name == "Before a commit").unwrap();
    let dir = repository();
    let name = "images/with space.qcow2";
    let sound = fs::read(dir.path().join(name)).unwrap();
    damage(dir.path(), name);
    let ran = run(dir.path(), &script);
    assert_eq!(ran.code, 0, "the damage is not staged: {}{}", ran.out, ran.err);
    git(dir.path(), &["add", "images"]);
    fs::write(dir.path().join(name), sound).unwrap();
    let ran = run(dir.path(), &script);
    assert_eq!(ran.code, 2, "the damage is staged: {}{}", ran.out, ran.err);
    assert!(ran.err.contains("'images/with space.qcow2': found:"), "{}", ran.err);
    assert!(ran.out.contains("images/with space.qcow2: 2 errors"), "{}", ran.out);
    fs::remove_file(dir.path().join(name)).unwrap();
    assert_eq!(run(dir.path(), &script).code, 2, "it is staged and nowhere else");
    git(dir.path(), &["rm", "-rq", "--cached", "."]);
    assert_eq!(run(dir.path(), &script).code, 0, "nothing is staged");
}

#[test]
fn reports_of_the_recipes_are_there_whatever_the_verdict() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci.md")).unwrap();
    let dir = repository();
    fs::write(dir.path().join("images/broken.qcow2"), b"QFI\xfb\0\0\0\x09").unwrap();
    for (heading, script) in scripts(&text) {
        if script.contains("qcheck.xml") {
            assert_eq!(run(dir.path(), &script).code, 1, "{heading}");
            let report = fs::read_to_string(dir.path().join("qcheck.xml")).unwrap();
            assert!(report.contains("tests=\"3\"") && report.contains("errors=\"1\""), "{report}");
            fs::remove_file(dir.path().join("qcheck.xml")).unwrap();
        }
    }
}
