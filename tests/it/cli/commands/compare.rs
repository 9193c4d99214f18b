//! `qcheck compare` against qemu-img, to the letter.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use qcheck::compare::{CompareOptions, Difference, compare};
use qcheck::disk::Disk;
use qcheck::progress::Silent;

use crate::support::programs::disks::{self, DISKS, same};
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    disks::make(dir.path());
    dir
}

#[test]
fn disks_are_compared_as_by_qemu_img() {
    let dir = folder();
    for (first, format) in DISKS {
        for (second, other) in
            DISKS.into_iter().skip(usize::from(first.len().is_multiple_of(2))).step_by(2)
        {
            same(dir.path(), &["compare", "-f", format, "-F", other, first, second]);
            same(dir.path(), &["compare", "-s", first, second]);
        }
        same(dir.path(), &["compare", "-q", first, "plain"]);
        same(dir.path(), &["compare", "-s", "-U", first, first]);
    }
}

#[test]
fn copies_are_identical_in_every_form() {
    let dir = folder();
    for (name, format) in DISKS {
        for options in [&["-O", "raw"][..], &["-O", "qcow2", "-S", "0"], &["-O", "qcow2", "-c"]] {
            let convert = [&["convert", "-f", format][..], options, &[name, "copy"]].concat();
            qemu_ok(dir.path(), "qemu-img", &convert);
            assert_eq!(same(dir.path(), &["compare", name, "copy"]).out, "Images are identical.\n");
            same(dir.path(), &["compare", "-s", name, "copy"]);
            same(dir.path(), &["compare", "-s", "copy", name]);
        }
    }
}

#[test]
fn the_sector_of_the_first_difference_is_reported() {
    let dir = folder();
    for (name, format) in DISKS.into_iter().filter(|(name, _)| *name != "empty") {
        for at in [0, 69_632, 200_000, 1 << 20, 1_400_000] {
            qemu_ok(dir.path(), "qemu-img", &["convert", "-f", format, "-O", "raw", name, "copy"]);
            let file = OpenOptions::new().read(true).write(true).open(dir.path().join("copy"));
            let (file, mut byte) = (file.unwrap(), [0]);
            if file.read_at(&mut byte, at + 3).unwrap() == 0 {
                continue;
            }
            file.write_all_at(&[byte[0] ^ 0xff], at + 3).unwrap();
            let ran = same(dir.path(), &["compare", "-F", "raw", name, "copy"]);
            assert_eq!(ran.code, 1, "{name} at {at}");
            same(dir.path(), &["compare", "-f", "raw", "-p", "-q", "copy", name]);
        }
    }
}

#[test]
fn other_sizes_and_odd_lengths_are_compared_alike() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let mut bytes = vec![7; 70_001];
    write("odd", &bytes);
    bytes.resize(70_100, 0);
    write("padded", &bytes);
    bytes.resize(90_000, 0);
    write("longer", &bytes);
    bytes[70_050] = 1;
    write("in-sector", &bytes);
    bytes[70_050] = 0;
    bytes[80_000] = 1;
    write("after", &bytes);
    write("none", &[]);
    let names = ["odd", "padded", "longer", "in-sector", "after", "none"];
    for first in names {
        for second in names {
            for option in ["-q", "-s", "-U"] {
                let args = ["compare", "-f", "raw", "-F", "raw", option, first, second];
                same(dir.path(), &args);
            }
        }
    }
}

#[test]
fn exit_codes_distinguish_what_went_wrong() {
    let dir = folder();
    for (args, code) in [
        (&["compare"][..], 1),
        (&["compare", "plain"], 1),
        (&["compare", "plain", "v2", "sub"], 1),
        (&["compare", "absent", "plain"], 2),
        (&["compare", "plain", "absent"], 2),
        (&["compare", "-f", "qcow2", "raw", "plain"], 2),
        (&["compare", "-f", "foo", "plain", "plain"], 2),
        (&["compare", "-T", "foo", "plain", "plain"], 2),
        (&["compare", "-T", "none", "plain", "plain"], 0),
        (&["compare", "--foo", "plain", "plain"], 1),
    ] {
        assert_eq!(same(dir.path(), args).code, code, "{args:?}");
    }
}

#[test]
fn damage_before_a_difference_is_an_error_and_damage_after_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        qemu_create(dir.path(), &["-f", "qcow2", name, "1M"]);
        qemu_io(dir.path(), name, "write -q -P 1 0 256k");
    }
    // The third entry of the only L2 table, which is the fifth cluster.
    let file = OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    file.write_all_at(&[0x80, 0, 0, 0, 0, 0, 1, 0], (4 << 16) + 16).unwrap();
    let ran = qcheck(dir.path(), &["compare", "a", "b"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("'a'") && ran.err.contains("0x40010"), "{}", ran.err);
    qemu_io(dir.path(), "b", "write -q -P 2 70k 1k");
    let ran = qcheck(dir.path(), &["compare", "a", "b"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "Content mismatch at offset 71680!\n"));
}

fn library(folder: &Path, first: &str, second: &str) -> Option<Difference> {
    let open = |name: &str| Disk::open(folder.join(name)).unwrap();
    let options = CompareOptions::default();
    compare(&open(first), &open(second), options, &Silent).unwrap()
}

#[test]
fn what_both_chains_share_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "base", "1M"]);
    qemu_io(dir.path(), "base", "write -q -c -P 1 0 1M");
    for name in ["one", "two"] {
        qemu_create(dir.path(), &["-f", "qcow2", "-b", "base", "-F", "qcow2", name]);
        qemu_io(dir.path(), name, "write -q -P 3 128k 64k");
    }
    // Nothing of it could be decompressed any more.
    let length = fs::metadata(dir.path().join("base")).unwrap().len();
    let file = OpenOptions::new().write(true).open(dir.path().join("base")).unwrap();
    file.write_all_at(&vec![0xff; (length - (5 << 16)) as usize], 5 << 16).unwrap();
    assert_eq!(library(dir.path(), "one", "two"), None);
    qemu_io(dir.path(), "two", "write -q -P 4 180k 1k");
    assert_eq!(library(dir.path(), "one", "two"), Some(Difference::Content(180 << 10)));
}
