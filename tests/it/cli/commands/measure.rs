//! `qcheck measure` against qemu-img, to the letter, and what a conversion makes of the promise.

use std::fs;

use crate::support::programs::disks::{self, DISKS, same};
use crate::support::programs::run::{qcheck, qemu_ok};

/// Options of a new image.
const OPTIONS: [&str; 12] = [
    "compat=1.1",
    "compat=0.10",
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=2M",
    "extended_l2=on",
    "refcount_bits=1",
    "refcount_bits=64,lazy_refcounts=on",
    "preallocation=metadata",
    "preallocation=full",
    "preallocation=falloc,cluster_size=8k",
    "data_file=x",
];

#[test]
fn images_are_measured_as_by_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    disks::make(dir.path());
    for name in ["first", "second"] {
        qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "-g", "4096", "four", name]);
    }
    for (name, format) in DISKS {
        same(dir.path(), &["measure", name]);
        same(dir.path(), &["measure", "-U", "-O", "qcow2", "--output=json", "-f", format, name]);
        same(dir.path(), &["measure", "-O", "raw", "-f", "raw", "--output", "json", name]);
        for options in OPTIONS {
            same(dir.path(), &["measure", "-O", "qcow2", "-o", options, name]);
        }
        let backing = "backing_file=plain,backing_fmt=qcow2";
        same(dir.path(), &["measure", "-O", "qcow2", "-o", backing, name]);
    }
    for snapshot in ["one", "two", "snapshot.id=1", "snapshot.name=two", "3", "absent"] {
        same(dir.path(), &["measure", "-O", "qcow2", "-l", snapshot, "snapshots"]);
    }
}

#[test]
fn sizes_are_measured_as_by_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    for size in ["0", "1", "1000", "64k", "3M", "1G", "1000000001", "5T", "100T"] {
        same(dir.path(), &["measure", "--size", size]);
        same(dir.path(), &["measure", "-O", "qcow2", "--size", size, "--output", "json"]);
        for options in OPTIONS {
            same(dir.path(), &["measure", "-O", "qcow2", "-o", options, "--size", size]);
        }
    }
}

#[test]
fn wrong_arguments_end_as_in_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    disks::make(dir.path());
    for args in [
        &["measure"][..],
        &["measure", "--size", "1G", "plain"],
        &["measure", "plain", "raw"],
        &["measure", "absent"],
        &["measure", "-O", "foo", "--size", "1G"],
        &["measure", "-O", "vdi", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "foo=1", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "cluster_size=3", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "cluster_size=512", "--size", "1P"],
        &["measure", "-O", "qcow2", "--size", "8E"],
        &["measure", "--size", "x"],
        &["measure", "-f", "qcow2", "--size", "1G"],
        &["measure", "-l", "one", "--size", "1G"],
        &["measure", "-f", "qcow2", "raw"],
    ] {
        assert_eq!(same(dir.path(), args).code, 1, "{args:?}");
    }
}

#[test]
fn no_conversion_makes_a_longer_file_than_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    disks::make(dir.path());
    for (name, format) in DISKS {
        for options in OPTIONS.into_iter().filter(|options| !options.contains("data_file")) {
            let measure = ["measure", "-f", format, "-O", "qcow2", "-o", options, name];
            let measured = qcheck(dir.path(), &measure);
            let lines: Vec<&str> = measured.out.lines().collect();
            let bytes = |line: &str, before: &str| -> u64 {
                line.strip_prefix(before).unwrap().parse().unwrap()
            };
            // As for qemu-img, space without data is not part of the required size.
            let required = match options.contains("metadata") {
                true => bytes(lines[1], "fully allocated size: "),
                false => bytes(lines[0], "required size: "),
            };
            let convert = ["convert", "-f", format, "-O", "qcow2", "-o", options, name, "new"];
            let ran = qcheck(dir.path(), &convert);
            assert_eq!(ran.code, 0, "{convert:?}: {}", ran.err);
            let length = fs::metadata(dir.path().join("new")).unwrap().len();
            assert!(length <= required, "{convert:?}: {length} instead of {required}");
        }
    }
}
