//! What the documentation has to be complete about.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use qcheck::storage::FileStorage;

fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(full).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn no_entry_of_the_documentation_is_empty() {
    for path in ["docs/findings.md", "docs/differences.md"] {
        for entry in read(path).split("\n### ").skip(1) {
            let (title, body) = entry.split_once('\n').unwrap_or((entry, ""));
            assert!(body.trim().len() > 40, "{path}: {title}");
        }
    }
}

#[test]
fn the_readme_has_a_heading_for_every_command() {
    let readme = read("README.md");
    for name in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        if let Some(command) = name.strip_prefix("qcheck-").and_then(|n| n.strip_suffix(".1")) {
            assert!(readme.contains(&format!("qcheck {command} ")), "README lacks {command}");
        }
    }
}

#[test]
fn the_debian_package_names_the_version_and_the_authors_of_the_program() {
    let (cargo, copyright) = (read("Cargo.toml"), read("docs/debian/copyright"));
    let version = format!("qcheck ({}-1) ", env!("CARGO_PKG_VERSION"));
    assert!(
        read("docs/debian/changelog").starts_with(&version),
        "the changelog is not of {version}"
    );
    let licence = read("LICENSE-MIT");
    let owners = licence.lines().find_map(|line| line.strip_prefix("Copyright (c) ")).unwrap();
    assert!(copyright.contains(&format!("Copyright: {owners}\n")), "{owners}");
    let (_, names) = owners.split_once(" The ").unwrap();
    for key in ["maintainer", "copyright"] {
        let line = cargo.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        assert!(line.contains(names), "{line}");
    }
    assert!(read("docs/debian/changelog").contains(&format!("\n -- {names} <")), "{names}");
}

/// Runs an example of the library that was built.
fn example(name: &str, args: &[&Path]) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_qcheck")).with_file_name("examples");
    let done = Command::new(programs.join(name)).args(args).output().expect("an example");
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_examples_of_the_library_do_what_they_describe() {
    // Only a run of all tests has built them already.
    let build = ["build", "--quiet", "--offline", "--examples"];
    assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    let (image, record) = (folder.path().join("disk.qcow2"), folder.path().join("before.undo"));
    fs::copy("tests/data/damaged.qcow2", &image).unwrap();
    let mut run = BTreeSet::new();
    let mut example = |name: &str, args: &[&Path]| {
        run.insert(format!("{name}.rs"));
        example(name, args)
    };
    assert!(example("check", &[&image]).ends_with("\nverdict: errors\n"));
    let repaired = example("repair_with_undo", &[&image, &record]);
    assert!(repaired.starts_with("repaired: "), "{repaired}");
    assert!(repaired.ends_with("0 corruptions and 0 leaked clusters are left\n"), "{repaired}");
    let clean = "0 corruptions, 0 leaked clusters\n";
    assert_eq!(example("check", &[&image]), format!("{clean}verdict: clean\n"));
    assert!(qcheck::undo::Record::load(&FileStorage::open_read(&record).unwrap()).is_ok());
    let overlay = folder.path().join("overlay.qcow2");
    let made = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "disk.qcow2"];
    let made = Command::new("qemu-img").args(made).arg(&overlay).status();
    assert!(made.expect("qemu-img").success());
    let chain = example("read_chain", &[&overlay]);
    assert!(chain.contains("\nbacking file ") && chain.lines().count() == 3, "{chain}");
    let extents = example("list_extents", &[&overlay]);
    assert!(extents.starts_with("0x0: ") && extents.contains("1 backing files down"), "{extents}");
    assert_eq!(example("custom_storage", &[]), format!("read back: hello\n{clean}"));
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let all: BTreeSet<_> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(run, all, "every example is run");
}
