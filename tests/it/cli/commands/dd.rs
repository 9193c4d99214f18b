//! `qcheck dd` against qemu-img: the same disks, the same output.

use std::fs;
use std::path::Path;

use crate::support::programs::disks::{self, DISKS};
use crate::support::programs::run::{Ran, assert_clean, qcheck, qemu, qemu_ok};

/// Runs a command with `of=NAME` at its end.
fn run(folder: &Path, program: &str, args: &[&str], name: &str) -> Ran {
    let output = format!("of={name}");
    let args = [&["dd"][..], args, &[&output]].concat();
    if program == "qcheck" { qcheck(folder, &args) } else { qemu(folder, program, &args) }
}

/// Both programs print and end alike, and make the same disk.
fn same(folder: &Path, format: &str, args: &[&str]) {
    let all = [&["-O", format][..], args].concat();
    let ours = run(folder, "qcheck", &all, "ours");
    let theirs = run(folder, "qemu-img", &all, "theirs");
    assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out), "{all:?}: {}", ours.err);
    assert_eq!(ours.err.is_empty(), theirs.err.is_empty(), "{all:?}: {}", ours.err);
    if ours.code != 0 {
        return;
    }
    if format == "raw" {
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        assert!(read("ours") == read("theirs"), "{all:?}");
    } else {
        assert_clean(folder, "ours");
        let compare = ["compare", "-s", "-f", "raw", "-F", "raw", "ours.raw", "theirs.raw"];
        for name in ["ours", "theirs"] {
            let raw = format!("{name}.raw");
            qemu_ok(folder, "qemu-img", &["convert", "-O", "raw", name, &raw]);
        }
        qemu_ok(folder, "qemu-img", &compare);
    }
    for name in ["ours", "theirs"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn disks_are_copied_as_by_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    disks::make(dir.path());
    for (name, format) in DISKS {
        let input = format!("if={name}");
        for target in ["raw", "qcow2"] {
            for operands in
                ["bs=64k", "bs=1000 count=300", "bs=4k skip=30", "bs=700 skip=3 count=99"]
            {
                let operands: Vec<&str> = operands.split(' ').collect();
                same(dir.path(), target, &[&["-f", format, &input][..], &operands].concat());
            }
        }
    }
}

#[test]
fn operands_mean_what_they_mean_to_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), [7; 70_001]).unwrap();
    for args in [
        &["if=in"][..],
        &["if=in", "count=0"],
        &["if=in", "bs=1", "count=5"],
        &["if=in", "bs=4k", "skip=17"],
        &["if=in", "bs=4k", "skip=18"],
        &["if=in", "bs=4k", "skip=3", "count=2"],
        &["if=in", "bs=4k", "skip=3", "count=3"],
        &["if=in", "bs=1k", "bs=2k", "count=1"],
        &["if=in", "bs=1k", "count=1k"],
        &["if=in", "bs=1k", "count=1.5"],
        &["if=in", "bs=1k", "count=010"],
        &["if=in", "bs=1.5k", "count=0x3", "skip=0x1"],
        &["if=in", "skip=9223372036854775807"],
        &["if=in", "count=9223372036854775808"],
        &["-U", "if=in", "bs=0x400", "count=2"],
        &["if=absent"],
        &["if=in", "bs=0"],
        &["if=in", "bs=2G"],
        &["if=in", "bs=x"],
        &["if=in", "count=x"],
        &["if=in", "skip=-1"],
        &["if=in", "seek=1"],
        &["if=in", "conv=notrunc"],
        &["if=in", "word"],
        &["bs=1k"],
        &["-n", "if=in"],
        &["-f", "qcow2", "if=in"],
        &["-f", "foo", "if=in"],
    ] {
        same(dir.path(), "raw", args);
    }
    for args in [&["dd", "if=in"][..], &["dd", "-O", "foo", "if=in", "of=x"]] {
        assert_eq!(qcheck(dir.path(), args).code, qemu(dir.path(), "qemu-img", args).code);
    }
}

#[test]
fn a_disk_is_not_written_over_itself() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), [7; 70_000]).unwrap();
    let ran = qcheck(dir.path(), &["dd", "if=in", "of=./in"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is the same file"), "{}", ran.err);
    assert_eq!(fs::read(dir.path().join("in")).unwrap(), [7; 70_000]);
}
