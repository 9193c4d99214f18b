//! `qcheck info` against qemu-img, to the letter.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use qcheck::storage::{Access, FileStorage, lock};

use crate::support::programs::run::{qcheck, qemu, qemu_create, qemu_ok};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Both programs print and end alike for every way of asking.
fn same(folder: &Path, image: &str) {
    for args in [
        &["info", image][..],
        &["info", "--output", "json", image],
        &["info", "--output=human", "-U", image],
        &["info", "-f", "raw", image],
        &["info", "--backing-chain", image],
        &["info", "--backing-chain", "--output", "json", image],
    ] {
        let (ours, theirs) = (qcheck(folder, args), qemu(folder, "qemu-img", args));
        assert_eq!(ours.out, theirs.out, "{args:?}");
        assert_eq!(ours.code, theirs.code, "{args:?}: {}", ours.err);
        assert_eq!(ours.err, "", "{args:?}");
    }
}

#[test]
fn every_feature_is_printed_as_by_qemu_img() {
    let dir = folder();
    for (name, options) in [
        ("plain", "size=10M"),
        ("v2", "compat=0.10,size=1M"),
        ("big", "size=3T,cluster_size=2M"),
        ("features", "extended_l2=on,compression_type=zstd,lazy_refcounts=on,size=1000"),
        ("widths", "refcount_bits=1,cluster_size=512,size=999999488"),
        ("data", "data_file=d.raw,size=1M"),
        ("raw-data", "data_file=e.raw,data_file_raw=on,size=1M"),
        ("mapped", "preallocation=metadata,size=100M"),
    ] {
        qemu_create(dir.path(), &["-f", "qcow2", "-o", options, name]);
        same(dir.path(), name);
    }
    fs::remove_file(dir.path().join("d.raw")).unwrap();
    let ran = qcheck(dir.path(), &["info", "data"]);
    assert_eq!(ran.code, 0, "the data file is not opened: {}", ran.err);
}

#[test]
fn raw_images_and_odd_lengths_are_reported_alike() {
    let dir = folder();
    for length in [0, 1, 511, 512, 1000, 1_023_488, 1_024_000, 5 << 30] {
        let file = fs::File::create(dir.path().join("a")).unwrap();
        file.set_len(length).unwrap();
        same(dir.path(), "a");
    }
}

#[test]
fn snapshots_and_bitmaps_are_listed_alike() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "10M"]);
    for name in ["one", "zwölf \"x\"", "a name that is longer than its column"] {
        qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", name, "a"]);
    }
    qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "a", "first"]);
    qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "-g", "4096", "--disable", "a", "next"]);
    same(dir.path(), "a");
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "compat=v2", "b", "1M"]);
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "old", "b"]);
    same(dir.path(), "b");
}

#[test]
fn encryption_is_reported_without_a_key() {
    let dir = folder();
    for format in ["luks", "aes"] {
        let options = format!(
            "encrypt.format={format},encrypt.key-secret=s{}",
            if format == "luks" { ",encrypt.iter-time=10" } else { "" }
        );
        let secret = ["--object", "secret,id=s,data=abc"];
        let args = [&["-f", "qcow2"][..], &secret, &["-o", &options, format, "1M"]].concat();
        qemu_create(dir.path(), &args);
        same(dir.path(), format);
    }
}

#[test]
fn a_dirty_and_corrupt_image_reports_it() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    file.write_all_at(&[3], 79).unwrap();
    let args = ["info", "a"];
    let (ours, theirs) = (qcheck(dir.path(), &args), qemu(dir.path(), "qemu-img", &args));
    assert_eq!(ours.out, theirs.out);
    assert!(ours.out.contains("cleanly shut down: no") && ours.out.contains("corrupt: true"));
}

#[test]
fn names_of_backing_files_are_printed_as_given_and_as_found() {
    let dir = folder();
    fs::create_dir(dir.path().join("sub")).unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "base", "10M"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "../base", "-F", "qcow2", "sub/mid"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "sub/mid", "-F", "qcow2", "top", "20M"]);
    for image in ["base", "sub/mid", "top"] {
        same(dir.path(), image);
    }
}

#[test]
fn a_missing_backing_file_matters_only_for_the_chain() {
    let dir = folder();
    qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", "missing", "-F", "raw", "a", "1M"]);
    assert_eq!(qcheck(dir.path(), &["info", "a"]).code, 0);
    let ran = qcheck(dir.path(), &["info", "--backing-chain", "a"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("'missing'"), "{}", ran.err);
}

#[test]
fn an_endless_backing_chain_is_refused() {
    let dir = folder();
    qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", "b", "-F", "qcow2", "a", "1M"]);
    qemu_create(dir.path(), &["-u", "-f", "qcow2", "-b", "a", "-F", "qcow2", "b", "1M"]);
    let ran = qcheck(dir.path(), &["info", "--backing-chain", "a"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.err, "qcheck: 'a': the backing chain comes back to it\n");
}

#[test]
fn a_backing_file_without_a_recorded_format_is_raw_or_refused() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "base", "1M"]);
    let image = crate::support::images::builder::Builder::new(1 << 20).backing("base", None);
    fs::write(dir.path().join("image"), image.build().bytes).unwrap();
    assert_eq!(qcheck(dir.path(), &["info", "image"]).code, 0);
    let ran = qcheck(dir.path(), &["info", "--backing-chain", "image"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let refused = "'image': backing file: the image does not record the format of 'base'";
    let hint = "; if it is such an image, 'rebase -u' of the image that names it, with -F qcow2";
    assert!(ran.err.contains(refused) && ran.err.contains(hint), "{}", ran.err);
    fs::write(dir.path().join("base"), vec![7; 1 << 20]).unwrap();
    let ran = qcheck(dir.path(), &["info", "--backing-chain", "image"]);
    assert!(ran.code == 0 && ran.out.contains("file format: raw"), "{ran:?}");
}

#[test]
fn an_image_in_use_is_reported_only_with_force_share() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    let user = FileStorage::open_write(&dir.path().join("a")).unwrap();
    lock(&user, Access::Write).unwrap();
    assert_eq!(qcheck(dir.path(), &["info", "a"]).code, 1);
    assert_eq!(qcheck(dir.path(), &["info", "-U", "a"]).code, 0);
}

#[test]
fn hostile_bytes_end_in_one_line() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "good", "1M"]);
    let good = fs::read(dir.path().join("good")).unwrap();
    for at in 4..112 {
        let mut bytes = good.clone();
        bytes[at] = 0xFF;
        fs::write(dir.path().join("bad"), bytes).unwrap();
        let ran = qcheck(dir.path(), &["info", "-f", "qcow2", "bad"]);
        match ran.code {
            0 => assert!(ran.err.lines().all(|l| l.starts_with("qcheck: warn: ")), "byte {at}"),
            1 => assert_eq!(ran.err.lines().count(), 1, "byte {at}: {}", ran.err),
            other => panic!("byte {at}: exit code {other}"),
        }
    }
}

#[test]
fn names_with_colons_are_files_as_in_qemu_img() {
    let dir = folder();
    let create = ["create", "-f", "qcow2", "-b", "file:base:2", "-F", "raw", "file:top:1", "1M"];
    qemu_ok(dir.path(), "qemu-img", &["create", "-q", "-f", "raw", "file:base:2", "1M"]);
    let theirs = qemu(dir.path(), "qemu-img", &create);
    let ours = qcheck(dir.path(), &create);
    assert_eq!((ours.out, ours.code), (theirs.out, 0), "{}", ours.err);
    same(dir.path(), "file:top:1");
    let absolute = format!("file:{}", dir.path().join("top:1").display());
    same(dir.path(), &absolute);
    let refused = qcheck(dir.path(), &["info", "ssh://localhost"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("of remote files, those of nbd://"), "{}", refused.err);
}

#[test]
fn of_two_extensions_of_a_type_the_last_counts_as_for_qemu() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "raw", "base", "1M"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "base", "-F", "raw", "image"]);
    let image = dir.path().join("image");
    let mut bytes = fs::read(&image).unwrap();
    let start = u32::from_be_bytes(bytes[100..104].try_into().unwrap()) as usize;
    let name = u64::from_be_bytes(bytes[8..16].try_into().unwrap()) as usize;
    let mut second = 0xE279_2ACAu32.to_be_bytes().to_vec();
    second.extend([0, 0, 0, 5]);
    second.extend(b"qcow2\0\0\0");
    // In the place of the feature names, which end the list.
    let first = start + 16;
    bytes[first..name].fill(0);
    bytes[first..first + second.len()].copy_from_slice(&second);
    fs::write(&image, bytes).unwrap();
    let told = qcheck(dir.path(), &["info", "image"]);
    assert!(told.out.contains("backing file format: qcow2"), "{}", told.out);
    same_but_for_the_chain(dir.path(), "image");
}

/// As [`same`], where the backing file cannot be opened.
fn same_but_for_the_chain(folder: &Path, image: &str) {
    for args in [&["info", image][..], &["info", "--output", "json", image]] {
        let (ours, theirs) = (qcheck(folder, args), qemu(folder, "qemu-img", args));
        assert_eq!((ours.out, ours.code), (theirs.out, theirs.code), "{args:?}");
    }
}

#[test]
fn a_disk_has_whole_sectors_whatever_the_header_has() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    file.write_all_at(&1_000_100_u64.to_be_bytes(), 24).unwrap();
    same(dir.path(), "a");
    for (program, raw) in [("qemu-img", "theirs"), ("qcheck", "ours")] {
        let args = ["convert", "-O", "raw", "a", raw];
        let ran = if program == "qcheck" {
            qcheck(dir.path(), &args)
        } else {
            qemu(dir.path(), program, &args)
        };
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(fs::metadata(dir.path().join(raw)).unwrap().len(), 999_936);
    }
}

#[test]
fn a_result_that_cannot_be_written_ends_with_one_line() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "10M"]);
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    for args in [
        &["info", "a"][..],
        &["info", "--metadata", "a"],
        &["info", "--layout", "--output", "json", "a"],
        &["check", "--explain", "a"],
        &["check", "--output", "sarif", "a", "a"],
        &["snapshot", "-l", "--output", "json", "a"],
        &["create", "b", "1M"],
        &["create", "-f", "qcow2", "-o", "help"],
        &["resize", "a", "20M"],
        &["help"],
        &["check", "--help"],
        &["--version"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(program);
        let ran = command.current_dir(dir.path()).args(args).stdout(full).output().unwrap();
        let err = String::from_utf8(ran.stderr).unwrap();
        assert!(err.starts_with("qcheck: could not write the result: No space"), "{args:?}: {err}");
        assert_eq!((ran.status.code(), err.lines().count()), (Some(1), 1), "{args:?}: {err}");
        assert_eq!(err.matches("could not").count(), 1, "{args:?}: {err}");
    }
}
