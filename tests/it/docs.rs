//! What the documentation has to be complete about.

use std::fs;
use std::path::Path;

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
fn the_debian_package_names_the_version_and_the_owners_of_the_program() {
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

#[test]
fn the_examples_of_the_library_check_and_repair_an_image() {
    // Only a run of all tests has built them already.
    let build = ["build", "--quiet", "--offline", "--examples"];
    assert!(std::process::Command::new(env!("CARGO")).args(build).status().unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_qcheck")).with_file_name("examples");
    let image = folder.path().join("disk.qcow2");
    std::fs::copy("tests/data/damaged.qcow2", &image).unwrap();
    let run = |name: &str, more: &[&std::path::Path]| {
        let mut command = std::process::Command::new(programs.join(name));
        let done = command.arg(&image).args(more).output().expect("an example");
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let record = folder.path().join("before.undo");
    assert!(!run("check", &[]).ends_with("0 corruptions, 0 leaked clusters\n"));
    let repaired = run("repair_with_undo", &[&record]);
    assert!(repaired.starts_with("0 corruptions and 0 leaked clusters are left\n"), "{repaired}");
    assert!(run("check", &[]).ends_with("0 corruptions, 0 leaked clusters\n"));
    let undo = qcheck::undo::Record::load;
    assert!(undo(&qcheck::storage::FileStorage::open_read(&record).unwrap()).is_ok());
}
