//! `convert -n -B`: into an image that exists, only what it does not read from its backing file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::convert::round::sample;
use crate::repair::device::Device;
use crate::support::programs::run::{assert_clean, qcheck, qemu_create, qemu_io, qemu_ok};

fn room(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).unwrap().blocks() * 512
}

fn convert_ok(folder: &Path, args: &[&str]) {
    let ran = qcheck(folder, &[&["convert"], args].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
}

/// base.qcow2 <- source.qcow2, which has some of its own, zeroes among it.
fn chain(folder: &Path) {
    sample(&folder.join("base.raw"), 3, 8 << 20);
    qemu_ok(folder, "qemu-img", &["convert", "-O", "qcow2", "base.raw", "base.qcow2"]);
    qemu_create(folder, &["-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "source.qcow2"]);
    qemu_io(folder, "source.qcow2", "write -q -P 7 1M 200k");
    qemu_io(folder, "source.qcow2", "write -q -z 3M 1M");
    qemu_ok(folder, "qemu-img", &["convert", "source.qcow2", "disk.raw"]);
}

#[test]
fn only_what_differs_goes_into_an_overlay_of_the_same_file_or_of_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    chain(folder);
    fs::copy(folder.join("base.qcow2"), folder.join("copy.qcow2")).unwrap();
    for base in ["base.qcow2", "copy.qcow2"] {
        for (options, more) in [
            ("cluster_size=64k", &[][..]),
            ("cluster_size=64k", &["-c"]),
            ("cluster_size=4k", &["-S", "0"]),
            ("extended_l2=on", &["-m", "4", "-W"]),
            ("compat=0.10", &[]),
        ] {
            let create = ["-f", "qcow2", "-b", base, "-F", "qcow2", "-o", options, "target.qcow2"];
            qemu_create(folder, &create);
            // What the target has already counts, too.
            qemu_io(folder, "target.qcow2", "write -q -P 9 6M 100k");
            let into = ["-n", "-B", base, "-O", "qcow2", "source.qcow2", "target.qcow2"];
            convert_ok(folder, &[more, &into].concat());
            let compare = ["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", "target.qcow2"];
            qemu_ok(folder, "qemu-img", &compare);
            assert_clean(folder, "target.qcow2");
            let bytes = room(folder, "target.qcow2");
            assert!(bytes < 3 << 20, "{base} {options} {more:?}: {bytes} bytes are stored");
        }
    }
}

#[test]
fn without_a_backing_file_of_its_own_the_target_gets_everything() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    chain(folder);
    qemu_create(folder, &["-f", "qcow2", "target.qcow2", "8M"]);
    convert_ok(folder, &["-n", "-B", "base.qcow2", "-O", "qcow2", "source.qcow2", "target.qcow2"]);
    fs::remove_file(folder.join("base.qcow2")).unwrap();
    let compare = ["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", "target.qcow2"];
    qemu_ok(folder, "qemu-img", &compare);
}

#[test]
fn a_volume_of_the_size_that_qemu_img_needs_is_large_enough() {
    let Some(device) = Device::new(&vec![0; 2 << 20]) else { return };
    let folder = device.folder();
    chain(folder);
    let base = folder.join("base.qcow2");
    let base = base.to_str().unwrap();
    let name = device.name();
    qemu_create(folder, &["-f", "qcow2", "-b", base, "-F", "qcow2", name]);
    convert_ok(folder, &["-n", "-B", base, "-O", "qcow2", "source.qcow2", name]);
    qemu_ok(folder, "qemu-img", &["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", name]);
}

#[test]
fn a_deeper_chain_is_left_to_a_new_overlay_of_its_lower_part() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    chain(folder);
    qemu_create(folder, &["-f", "qcow2", "-b", "source.qcow2", "-F", "qcow2", "top.qcow2"]);
    qemu_io(folder, "top.qcow2", "write -q -P 5 2M 64k");
    qemu_ok(folder, "qemu-img", &["convert", "top.qcow2", "disk.raw"]);
    for (base, most) in [("source.qcow2", 1 << 20), ("base.qcow2", 2 << 20)] {
        let into = ["-O", "qcow2", "-B", base, "-F", "qcow2", "top.qcow2", "flat.qcow2"];
        convert_ok(folder, &into);
        let compare = ["compare", "-q", "-f", "raw", "-F", "qcow2", "disk.raw", "flat.qcow2"];
        qemu_ok(folder, "qemu-img", &compare);
        assert!(room(folder, "flat.qcow2") < most, "{base}");
    }
}

/// How often a device was asked to flush, and how many writes it had.
fn flushes(device: &Device) -> u64 {
    let name = Path::new(device.name()).file_name().unwrap();
    let stat = Path::new("/sys/block").join(name).join("stat");
    let stat = fs::read_to_string(stat).unwrap();
    stat.split_whitespace().nth(15).unwrap().parse().unwrap()
}

#[test]
fn the_cache_mode_unsafe_flushes_nothing() {
    let Some(device) = Device::new(&vec![0; 8 << 20]) else { return };
    let folder = device.folder();
    sample(&folder.join("disk.raw"), 5, 2 << 20);
    let name = device.name();
    for (args, is_new) in [
        (&["-O", "raw", "disk.raw", name][..], true),
        (&["-O", "qcow2", "disk.raw", name], true),
        (&["-O", "qcow2", "-o", "preallocation=metadata", "disk.raw", name], true),
        (&["-n", "-O", "qcow2", "disk.raw", name], false),
        (&["-n", "-O", "raw", "disk.raw", name], false),
    ] {
        let before = flushes(&device);
        convert_ok(folder, args);
        assert_eq!(flushes(&device), before, "{args:?} has flushed");
        if is_new {
            convert_ok(folder, &[&["-t", "writeback"], args].concat());
            assert!(flushes(&device) > before, "{args:?} has not flushed with writeback");
        }
    }
}

#[test]
fn a_backing_file_without_a_recorded_format_can_be_opened_by_naming_its_format() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    chain(folder);
    // As QEMU before 6.1 made it: the extension with the format is gone.
    let path = folder.join("source.qcow2");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|four| four == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    bytes[at..at + 4].copy_from_slice(b"none");
    fs::write(&path, bytes).unwrap();
    let ran = qcheck(folder, &["convert", "source.qcow2", "out.raw"]);
    assert_eq!(ran.code, 1);
    let wanted = "does not record the format of 'base.qcow2'";
    let hint = "; if it is such an image, --source-backing-format qcow2 opens it\n";
    assert!(ran.err.contains(wanted) && ran.err.ends_with(hint), "{}", ran.err);
    // No other command has an option for it: the image can be made to record it.
    for command in ["map", "measure -O raw", "commit", "amend -o lazy_refcounts=on"] {
        let args: Vec<&str> = command.split(' ').chain(["source.qcow2"]).collect();
        let ran = qcheck(folder, &args);
        let hint =
            "; if it is such an image, 'rebase -u' of the image that names it, with -F qcow2";
        assert!(ran.code == 1 && ran.err.contains(hint), "{command}: {}", ran.err);
    }
    let ran = qcheck(folder, &["info", "--backing-chain", "source.qcow2"]);
    assert!(ran.code == 1 && ran.err.contains("'rebase -u'"), "{}", ran.err);
    convert_ok(folder, &["--source-backing-format", "qcow2", "source.qcow2", "out.raw"]);
    assert!(
        fs::read(folder.join("out.raw")).unwrap() == fs::read(folder.join("disk.raw")).unwrap()
    );
    let ran = qcheck(folder, &["resize", "source.qcow2", "9M"]);
    assert!(ran.code == 1 && ran.err.contains("--backing-format qcow2 opens it"), "{}", ran.err);
    let ran = qcheck(folder, &["resize", "-q", "--backing-format", "qcow2", "source.qcow2", "9M"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
