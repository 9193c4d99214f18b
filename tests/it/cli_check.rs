//! `qcheck check` as a user and a script see it: arguments, exit codes, streams.

use std::fs;
use std::path::Path;

use crate::support::run::{qcheck, qemu, qemu_create};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn refusal(folder: &Path, args: &[&str]) -> String {
    let ran = qcheck(folder, args);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {}", ran.err);
    assert!(ran.err.starts_with("qcheck: "), "{args:?}: {}", ran.err);
    ran.err
}

#[test]
fn arguments_that_cannot_be_are_refused_with_exit_code_1() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    for args in [
        &["check"][..],
        &["check", "a", "b"],
        &["check", "--nonsense", "a"],
        &["check", "-r"],
        &["check", "-r", "some", "a"],
        &["check", "--repair=some", "a"],
        &["check", "-U", "-r", "all", "a"],
        &["check", "-U", "--repair", "a"],
        &["check", "--output", "xml", "a"],
        &["check", "-T", "fast", "a"],
        &["check", "-f", "nonsense", "a"],
        &["check", "--max-findings", "some", "a"],
        &["nonsense"],
        &[],
    ] {
        refusal(dir.path(), args);
    }
}

#[test]
fn what_cannot_be_opened_is_told_in_one_line_with_its_name_and_cause() {
    let dir = folder();
    let err = refusal(dir.path(), &["check", "missing"]);
    assert_eq!(err, "qcheck: could not open 'missing': No such file or directory (os error 2)\n");
    let err = refusal(dir.path(), &["check", "."]);
    assert!(err.contains("'.'") && err.contains("directory"), "{err}");
    assert_eq!(err.lines().count(), 1);
}

#[test]
fn formats_without_a_checker_end_with_63_as_in_qemu_img() {
    let dir = folder();
    fs::write(dir.path().join("raw"), b"some bytes").unwrap();
    fs::write(dir.path().join("empty"), b"").unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    for args in [
        &["check", "raw"][..],
        &["check", "empty"],
        &["check", "/dev/null"],
        &["check", "-f", "raw", "a"],
        &["check", "-q", "raw"],
        &["check", "--output", "json", "raw"],
    ] {
        let ran = qcheck(dir.path(), args);
        assert_eq!((ran.code, ran.out.as_str()), (63, ""), "{args:?}: {}", ran.err);
        assert_eq!(qemu(dir.path(), "qemu-img", args).code, 63, "{args:?}");
        assert_eq!(ran.err.lines().count(), 1);
    }
}

#[test]
fn other_formats_are_named() {
    let dir = folder();
    for format in ["vdi", "vmdk", "vhdx", "qed", "vpc", "parallels", "qcow"] {
        qemu_create(dir.path(), &["-f", format, format, "1M"]);
        let ran = qcheck(dir.path(), &["check", format]);
        assert_eq!(ran.code, 63, "{format}: {}", ran.err);
        let want = format!("there is no checker for the format {format}\n");
        assert!(ran.err.ends_with(&want), "{}", ran.err);
    }
}

#[test]
fn help_and_version_succeed_on_standard_output() {
    let dir = folder();
    for args in [&["--help"][..], &["check", "--help"], &["--version"]] {
        let ran = qcheck(dir.path(), args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(ran.out.contains("qcheck"), "{}", ran.out);
    }
}
