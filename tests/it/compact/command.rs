//! `qcheck compact`: what it prints, what it refuses, and what it leaves alone.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::encryption::{SECRET, bytes, content, create, guest, own, qcow2};
use crate::repair::device::Device;
use crate::support::programs::run::{assert_clean, qcheck, qemu_create, qemu_io, qemu_ok};

/// An image of which the beginning is free: data, a snapshot that is deleted, and a bitmap.
fn grown(folder: &Path) {
    qemu_create(folder, &["-f", "qcow2", "i", "64M"]);
    qemu_io(folder, "i", "write -q -P 1 0 20M");
    qemu_ok(folder, "qemu-img", &["bitmap", "--add", "i", "map"]);
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "s", "i"]);
    qemu_io(folder, "i", "write -q -P 2 0 10M");
    qemu_io(folder, "i", "write -q -P 0 30M 2M");
    qemu_ok(folder, "qemu-img", &["snapshot", "-d", "s", "i"]);
    qemu_io(folder, "i", "discard -q 12M 4M");
    // Free clusters are not holes any more.
    let bytes = fs::read(folder.join("i")).unwrap();
    fs::write(folder.join("i"), bytes).unwrap();
}

fn length(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).unwrap().len()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn raw(folder: &Path, name: &str) -> Vec<u8> {
    qemu_ok(folder, "qemu-img", &["convert", "-O", "raw", name, "raw"]);
    fs::read(folder.join("raw")).unwrap()
}

#[test]
fn a_dry_run_has_the_numbers_of_the_work_and_changes_nothing() {
    for options in
        [&[][..], &["--zeroes"], &["--punch-only"], &["--max-moves", "2M"], &["--until", "24M"]]
    {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        grown(folder);
        let before = fs::read(folder.join("i")).unwrap();
        let run = |more: &[&str]| {
            let args = [&["compact", "--output", "json"], options, more, &["i"]].concat();
            let ran = qcheck(folder, &args);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
            ran.json().unwrap()
        };
        let mut planned = run(&["--dry-run"]);
        assert!(fs::read(folder.join("i")).unwrap() == before, "{options:?}: a dry run writes");
        let guest = raw(folder, "i");
        let done = run(&[]);
        planned["dry-run"] = false.into();
        assert_eq!(planned, done, "{options:?}");
        assert_eq!(number(&done, "file-size-after"), length(folder, "i"), "{options:?}");
        assert!(number(&done, "moved") <= if options.contains(&"2M") { 2 << 20 } else { u64::MAX });
        assert!(raw(folder, "i") == guest, "{options:?}: other contents");
        assert_clean(folder, "i");
        match options.first() {
            Some(&"--punch-only") => assert!(number(&done, "punched") > 4 << 20, "{done}"),
            Some(&"--until") => {
                let length = length(folder, "i");
                assert!(length <= 24 << 20 && length > 23 << 20, "{length}");
            }
            Some(&"--max-moves") => assert!(number(&done, "moved") > 1 << 20, "{done}"),
            _ => assert!(length(folder, "i") < before.len() as u64 - (12 << 20), "{done}"),
        }
    }
}

#[test]
fn people_read_what_was_gained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    grown(folder);
    let before = length(folder, "i");
    let ran = qcheck(folder, &["compact", "--dry-run", "i"]).success();
    assert!(ran.out.starts_with("The file would end at "), "{}", ran.out);
    assert_eq!(length(folder, "i"), before);
    let ran = qcheck(folder, &["compact", "i"]).success();
    let after = length(folder, "i");
    let ends = ran.out.starts_with("The file ends at ");
    assert!(ends && ran.out.contains(&format!("({after} bytes)")), "{}", ran.out);
    assert!(ran.out.contains(&format!("({before} bytes)")), "{}", ran.out);
    let ran = qcheck(folder, &["compact", "-q", "i"]).success();
    assert_eq!(ran.out, "");
}

#[test]
fn what_a_check_finds_is_repaired_first() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    grown(folder);
    // A refcount of the last cluster that is one too high.
    let mut bytes = fs::read(folder.join("i")).unwrap();
    let at = |n: usize| u64::from_be_bytes(bytes[n..n + 8].try_into().unwrap()) as usize;
    let block = at(at(48));
    let leak = (5..).find(|n| bytes[block + 2 * n + 1] == 1).unwrap();
    bytes[block + 2 * leak + 1] = 2;
    bytes[block + 2 * leak] = 0;
    fs::write(folder.join("i"), &bytes).unwrap();
    for options in [&[][..], &["--dry-run"]] {
        let ran = qcheck(folder, &[&["compact"], options, &["i"]].concat());
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("repair the image first"), "{}", ran.err);
        assert!(fs::read(folder.join("i")).unwrap() == bytes, "something is written");
    }
    fs::write(folder.join("raw"), [1; 4096]).unwrap();
    let ran = qcheck(folder, &["compact", "raw"]);
    assert!(ran.code == 1 && ran.err.contains("cannot compact the format raw"), "{}", ran.err);
}

#[test]
fn a_volume_can_be_cut_to_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    grown(folder);
    let guest = raw(folder, "i");
    let mut bytes = fs::read(folder.join("i")).unwrap();
    bytes.resize(bytes.len().next_multiple_of(65536) + (4 << 20), 0xee);
    let Some(device) = Device::new(&bytes) else { return };
    let name = device.name();
    let run = |args: &[&str]| {
        qcheck(device.folder(), &[&["compact", "-f", "qcow2", "--output", "json"], args].concat())
    };
    let planned = run(&["--dry-run", "--zeroes", name]).success().json().unwrap();
    let least = number(&planned, "image-end-offset-after");
    let too_small = (least - 65536).to_string();
    let ran = run(&["--zeroes", "--target-size", &too_small, name]);
    assert!(ran.code == 1 && ran.err.contains("cannot end at"), "{}", ran.err);
    assert!(device.bytes() == bytes, "something is written");
    let target = least.to_string();
    let done = run(&["--zeroes", "--target-size", &target, name]).success().json().unwrap();
    assert!(number(&done, "image-end-offset-after") <= least, "{done}");
    fs::write(folder.join("i"), &device.bytes()[..least as usize]).unwrap();
    assert_clean(folder, "i");
    assert!(raw(folder, "i") == guest, "other contents");
}

#[test]
fn clusters_that_are_holes_take_no_space_after_they_have_moved() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    qemu_create(folder, &["-f", "qcow2", "-o", "preallocation=metadata", "i", "64M"]);
    qemu_io(folder, "i", "discard -q 0 16M");
    qemu_io(folder, "i", "write -q -P 1 60M 1M");
    let used = || fs::metadata(folder.join("i")).unwrap().blocks() * 512;
    let (before, guest) = (used(), raw(folder, "i"));
    let done = qcheck(folder, &["compact", "--output", "json", "i"]).success().json().unwrap();
    assert!(number(&done, "moved") >= 15 << 20, "{done}");
    assert!(used() <= before + (512 << 10), "{before} to {}", used());
    assert!(raw(folder, "i") == guest, "other contents");
    assert_clean(folder, "i");
}

#[test]
fn zeroes_of_an_external_data_file_become_holes() {
    use std::os::unix::fs::MetadataExt;
    for raw_file in ["off", "on"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let options = format!("data_file=data,data_file_raw={raw_file}");
        qemu_create(folder, &["-f", "qcow2", "-o", &options, "i", "16M"]);
        qemu_io(folder, "i", "write -q -P 1 0 8M");
        qemu_io(folder, "i", "write -q -P 0 2M 4M");
        let used = || fs::metadata(folder.join("data")).unwrap().blocks() * 512;
        let (before, guest) = (used(), raw(folder, "i"));
        let args = ["compact", "--zeroes", "--output", "json"];
        let plan = qcheck(folder, &[&args[..], &["--dry-run", "i"]].concat()).success();
        assert_eq!(used(), before, "a dry run changes the data file");
        let done = qcheck(folder, &[&args[..], &["i"]].concat()).success().json().unwrap();
        assert_eq!(number(&done, "data-file-punched"), 4 << 20, "{done}");
        assert_eq!(number(&plan.json().unwrap(), "data-file-punched"), 4 << 20);
        assert!(used() + (4 << 20) <= before, "{before} to {}", used());
        assert!(raw(folder, "i") == guest, "other contents");
        assert_clean(folder, "i");
    }
}

#[test]
fn data_of_luks_are_encrypted_for_their_new_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    create(folder, &["-f", "qcow2", "-o", options, "i", "8M"]);
    fs::write(folder.join("pattern"), content(2 << 20, 3)).unwrap();
    let image = qcow2("i");
    for command in ["write -q -P 3 0 2M", "write -q -s pattern 4M 2M", "discard -q 0 2M"] {
        guest(folder, &image, command);
    }
    guest(folder, &image, "write -q -P 0 5M 64k");
    let want = bytes(folder, &image);
    let ran = qcheck(folder, &["compact", "i"]);
    assert!(ran.code == 1 && ran.err.contains("encrypt.key-secret"), "{}", ran.err);
    let before = length(folder, "i");
    own(folder, "compact", &["--zeroes", "--image-opts", &image]).success();
    assert!(length(folder, "i") + (2 << 20) <= before, "nothing was gained");
    assert!(bytes(folder, &image) == want, "other contents");
    qemu_ok(
        folder,
        "qemu-img",
        &[&["check", "-q"], &SECRET[..], &["--image-opts", &image]].concat(),
    );
}

#[test]
fn an_image_that_is_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    grown(folder);
    let before = fs::read(folder.join("i")).unwrap();
    let held = qcheck::file::ImageFile::open(
        &folder.join("i"),
        None,
        qcheck::file::Intent::WriteData,
        false,
    )
    .unwrap();
    let ran = qcheck(folder, &["compact", "i"]);
    assert!(ran.code == 1 && ran.err.contains("lock"), "{}", ran.err);
    drop(held);
    assert!(fs::read(folder.join("i")).unwrap() == before);
}
