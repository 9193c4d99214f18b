//! Remote names that are stored in images: followed only where that is allowed.

use std::fs;
use std::path::Path;

use crate::support::programs::run::{Ran, qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::servers::fake_nbd::{FakeNbd, Manner};

/// A base on a server, and an overlay in a file.
fn overlay(folder: &Path) -> FakeNbd {
    qemu_create(folder, &["-f", "qcow2", "base", "4M"]);
    qemu_io(folder, "base", "write -P 7 1M 300k");
    let server = FakeNbd::start(fs::read(folder.join("base")).unwrap(), Manner::default());
    qemu_create(folder, &["-f", "qcow2", "-b", "base", "-F", "qcow2", "over"]);
    let args = ["rebase", "-u", "-b", &server.name(), "-F", "qcow2", "over"];
    qemu_ok(folder, "qemu-img", &args);
    server
}

/// Every command that follows names, on the overlay.
fn runs(folder: &Path, options: &[&str]) -> Vec<Ran> {
    let commands = [
        &["convert", "-O", "raw", "over", "made"][..],
        &["map", "over"],
        &["measure", "-O", "raw", "over"],
        &["compare", "over", "base"],
        &["info", "--backing-chain", "over"],
        &["check", "--digest=sha256", "over"],
        &["check", "--backing-chain", "over"],
        &["commit", "over"],
        &["rebase", "-b", "", "over"],
    ];
    commands.iter().map(|command| qcheck(folder, &[options, command].concat())).collect()
}

#[test]
fn no_server_is_asked_for_a_name_in_an_image_unless_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let server = overlay(dir.path());
    let before = fs::read(dir.path().join("over")).unwrap();
    for ran in runs(dir.path(), &[]) {
        assert_ne!(ran.code, 0, "{ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("is remote"), "{said}");
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    assert!(fs::read(dir.path().join("over")).unwrap() == before);
    let hint = qcheck(dir.path(), &["map", "over"]).err;
    assert!(hint.contains("--allow-remote-names"), "{hint}");
}

#[test]
fn with_leave_a_name_in_an_image_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = overlay(dir.path());
    for ran in runs(dir.path(), &["--allow-remote-names"]) {
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    assert!(!server.seen().is_empty());
    qemu_ok(dir.path(), "qemu-img", &["compare", "-F", "qcow2", "made", "base"]);
}

#[test]
fn a_policy_that_denies_backing_files_opens_none_though_names_may_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = overlay(dir.path());
    let args =
        ["check", "--allow-remote-names", "--deny=backing", "--data", "--digest=sha256", "over"];
    let ran = qcheck(dir.path(), &args);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[test]
fn a_data_file_is_not_followed_to_a_server_either() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let server = FakeNbd::start(vec![3; 4 << 20], Manner::default());
    qemu_create(folder, &["-f", "qcow2", "-o", "data_file=data", "disk", "4M"]);
    qemu_io(folder, "disk", "write -P 3 1M 64k");
    let options = format!("data_file={}", server.name());
    qemu_ok(folder, "qemu-img", &["amend", "-o", &options, "disk"]);
    let args = ["convert", "-O", "raw", "disk", "made"];
    let ran = qcheck(folder, &args);
    assert!(ran.code == 1 && ran.err.contains("is remote"), "{ran:?}");
    assert!(server.seen().is_empty());
    let ran = qcheck(folder, &[&args[..], &["--allow-remote-names"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(fs::read(folder.join("made")).unwrap()[1 << 20], 3);
}

#[test]
fn an_image_is_not_written_over_what_it_is_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeNbd::start(vec![3; 4 << 20], Manner::default());
    let name = server.name();
    let other = name.replace("///x", "///%78");
    for args in [
        ["convert", "-n", "-f", "raw", "-O", "raw", &name, &other],
        ["convert", "-n", "-f", "raw", "-O", "qcow2", &name, &name],
    ] {
        let ran = qcheck(dir.path(), &args);
        assert!(ran.code == 1 && ran.err.contains("is the same file as"), "{ran:?}");
    }
    assert!(server.content() == vec![3; 4 << 20]);
}

#[test]
fn a_relative_name_in_an_image_on_a_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "base", "4M"]);
    qemu_create(folder, &["-f", "qcow2", "-b", "base", "-F", "qcow2", "over"]);
    let server = FakeNbd::start(fs::read(folder.join("over")).unwrap(), Manner::default());
    let ran = qcheck(folder, &["map", &server.name()]);
    assert!(ran.code == 1 && ran.err.contains("relative to an image"), "{ran:?}");
}

#[test]
fn an_image_on_a_server_names_no_file_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::write(folder.join("secret"), vec![7; 65536]).unwrap();
    let secret = folder.join("secret").display().to_string();
    let described =
        format!(r#"json:{{"driver":"raw","file":{{"driver":"file","filename":"{secret}"}}}}"#);
    for name in [secret.clone(), format!("file:{secret}"), described] {
        qemu_create(folder, &["-f", "qcow2", "-u", "-b", &name, "-F", "raw", "over", "64k"]);
        let server = FakeNbd::start(fs::read(folder.join("over")).unwrap(), Manner::default());
        for args in
            [&["convert", "-O", "raw"][..], &["--allow-remote-names", "convert", "-O", "raw"]]
        {
            let ran = qcheck(folder, &[args, &[&server.name(), "made"]].concat());
            assert_eq!(ran.code, 1, "{name}: {}", ran.err);
            assert!(ran.err.contains("is a file of this machine"), "{name}: {}", ran.err);
            assert!(!folder.join("made").exists(), "{name}");
        }
        // The same image as a file is read as by qemu-img.
        assert_eq!(qcheck(folder, &["compare", "over", "secret"]).code, 0, "{name}");
    }
}
