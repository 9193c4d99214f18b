//! No command writes over a file that it reads, by whatever name the file is given.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::repair::device::Device;
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};

/// The files of a folder in which each is read by some image.
const FILES: [&str; 7] =
    ["base.raw", "base.qcow2", "mid.qcow2", "top.qcow2", "data.raw", "ext.qcow2", "over.qcow2"];

/// base.raw and base.qcow2 <- mid <- top; ext with data.raw <- over.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::write(folder.join("base.raw"), vec![7; 1 << 20]).unwrap();
    qemu_create(folder, &["-f", "qcow2", "base.qcow2", "1M"]);
    qemu_io(folder, "base.qcow2", "write -P 1 0 64k");
    for (below, name) in [("base.qcow2", "mid.qcow2"), ("mid.qcow2", "top.qcow2")] {
        qemu_create(folder, &["-f", "qcow2", "-b", below, "-F", "qcow2", name]);
        qemu_io(folder, name, "write -P 2 64k 64k");
    }
    qemu_create(folder, &["-f", "qcow2", "-o", "data_file=data.raw", "ext.qcow2", "1M"]);
    qemu_io(folder, "ext.qcow2", "write -P 3 0 128k");
    qemu_create(folder, &["-f", "qcow2", "-b", "ext.qcow2", "-F", "qcow2", "over.qcow2"]);
    for name in FILES {
        fs::hard_link(folder.join(name), folder.join(format!("hard-{name}"))).unwrap();
        symlink(name, folder.join(format!("soft-{name}"))).unwrap();
    }
    dir
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// Runs a command whose target `{}` is a file that it reads, under each of the file's names: it is refused, and
/// nothing changes.
fn assert_refused(folder: &Path, target: &str, args: &[&str]) {
    let before = contents(folder);
    let absolute = folder.join(target).to_str().unwrap().to_owned();
    let names = [
        target.to_owned(),
        format!("hard-{target}"),
        format!("soft-{target}"),
        format!("./{target}"),
        absolute,
    ];
    for name in &names {
        let put = |arg: &&str| arg.replace("{}", name);
        let filled: Vec<String> = args.iter().map(put).collect();
        let filled: Vec<&str> = filled.iter().map(String::as_str).collect();
        let ran = qcheck(folder, &filled);
        assert_eq!(ran.code, 1, "{filled:?}: {ran:?}");
        let named = ran.err.contains(&format!("'{name}' is the same file as the "))
            && ran.err.ends_with("; nothing was written\n");
        assert!(named && ran.out.is_empty(), "{filled:?}: {ran:?}");
        assert!(contents(folder) == before, "{filled:?} changed a file");
    }
}

#[test]
fn convert_does_not_write_over_a_file_that_it_reads() {
    let dir = folder();
    let folder = dir.path();
    for (source, read) in [
        ("base.raw", &["base.raw"][..]),
        ("top.qcow2", &["top.qcow2", "mid.qcow2", "base.qcow2"]),
        ("over.qcow2", &["over.qcow2", "ext.qcow2", "data.raw"]),
    ] {
        for target in read {
            for format in ["raw", "qcow2"] {
                // Without -U the locks would do as well; with it nothing else does.
                assert_refused(folder, target, &["convert", "-O", format, source, "{}"]);
                assert_refused(folder, target, &["convert", "-U", "-O", format, source, "{}"]);
            }
            let existing = ["convert", "-U", "-n", "-O", "raw", "base.raw", source, "{}"];
            assert_refused(folder, target, &existing);
        }
    }
}

#[test]
fn convert_does_not_write_over_what_its_target_needs() {
    let dir = folder();
    let folder = dir.path();
    let convert = ["convert", "-U", "-O", "qcow2"];
    for target in ["top.qcow2", "mid.qcow2", "base.qcow2"] {
        let backing = ["-B", "top.qcow2", "-F", "qcow2", "base.raw", "{}"];
        assert_refused(folder, target, &[&convert[..], &backing].concat());
    }
    assert_refused(
        folder,
        "base.raw",
        &["convert", "-U", "-O", "qcow2", "-o", "data_file={}", "base.raw", "new.qcow2"],
    );
    assert!(!folder.join("new.qcow2").exists());
    let data = ["-o", "data_file=new.qcow2", "base.raw", "new.qcow2"];
    let ran = qcheck(folder, &[&convert[..], &data].concat());
    assert!(ran.code == 1 && ran.err.contains("is the same file as the target"), "{ran:?}");
    assert!(!folder.join("new.qcow2").exists());
}

#[test]
fn convert_does_not_read_the_data_file_of_an_existing_target() {
    let dir = folder();
    let folder = dir.path();
    let before = contents(folder);
    for source in ["data.raw", "hard-data.raw", "soft-data.raw"] {
        let args = ["convert", "-U", "-n", "-f", "raw", "-O", "qcow2", source, "ext.qcow2"];
        let ran = qcheck(folder, &args);
        let named = format!("'data.raw' is the same file as the source '{source}'");
        assert!(ran.code == 1 && ran.err.contains(&named), "{ran:?}");
        assert!(contents(folder) == before);
    }
}

#[test]
fn create_does_not_write_over_its_backing_files() {
    let dir = folder();
    let folder = dir.path();
    for (backing, format, read) in [
        ("base.raw", "raw", &["base.raw"][..]),
        ("top.qcow2", "qcow2", &["top.qcow2", "mid.qcow2", "base.qcow2"]),
        ("over.qcow2", "qcow2", &["over.qcow2", "ext.qcow2", "data.raw"]),
    ] {
        for target in read {
            let common = ["create", "-f", "qcow2", "-b", backing, "-F", format];
            assert_refused(folder, target, &[&common[..], &["{}"]].concat());
            assert_refused(folder, target, &[&common[..], &["-u", "{}", "1M"]].concat());
            let data = ["-o", "data_file={}", "new.qcow2"];
            assert_refused(folder, target, &[&common[..], &data].concat());
        }
    }
    let ran = qcheck(folder, &["create", "-f", "qcow2", "-o", "data_file=a", "./a", "1M"]);
    assert!(ran.code == 1 && ran.err.contains("is the same file as the new image"), "{ran:?}");
    assert!(!folder.join("a").exists());
}

#[test]
fn a_stream_does_not_go_into_a_file_that_is_read() {
    let dir = folder();
    let folder = dir.path();
    let before = contents(folder);
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    for target in ["top.qcow2", "hard-base.qcow2"] {
        let out = fs::OpenOptions::new().append(true).open(folder.join(target)).unwrap();
        let mut command = std::process::Command::new(program);
        command.current_dir(folder).args(["convert", "-U", "top.qcow2", "-"]).stdout(out);
        let ran = command.output().unwrap();
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(text.contains("is the same file as the"), "{text}");
        assert!(contents(folder) == before);
    }
    let input = fs::File::open(folder.join("base.raw")).unwrap();
    let mut command = std::process::Command::new(program);
    command.current_dir(folder).args(["convert", "-U", "-", "hard-base.raw"]).stdin(input);
    let text = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
    assert!(text.contains("is the same file as the source '-'"), "{text}");
    assert!(contents(folder) == before);
}

#[test]
fn a_second_node_of_a_device_is_the_same_device() {
    let Some(device) = Device::new(&vec![5; 1 << 20]) else { return };
    let node = device.folder().join("node");
    let number =
        fs::metadata(device.name()).map(|m| std::os::unix::fs::MetadataExt::rdev(&m)).unwrap();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    qemu_ok(
        device.folder(),
        "mknod",
        &[node.to_str().unwrap(), "b", &major.to_string(), &minor.to_string()],
    );
    let args = ["convert", "-U", "-f", "raw", "-O", "qcow2", device.name(), node.to_str().unwrap()];
    let ran = qcheck(device.folder(), &args);
    assert!(ran.code == 1 && ran.err.contains("is the same file as the source"), "{ran:?}");
    assert!(device.bytes() == vec![5; 1 << 20], "the device was written");
}

#[test]
fn a_loop_device_is_the_file_that_it_shows() {
    let Some(device) = Device::new(&vec![5; 1 << 20]) else { return };
    for (source, target) in [(device.name(), "disk"), ("disk", device.name())] {
        let args = ["convert", "-U", "-f", "raw", "-O", "qcow2", source, target];
        let ran = qcheck(device.folder(), &args);
        assert!(ran.code == 1 && ran.err.contains("is the same file as the source"), "{ran:?}");
        assert!(device.bytes() == vec![5; 1 << 20], "{args:?} wrote");
    }
}

#[test]
fn files_that_are_only_copies_are_not_a_hindrance() {
    let dir = folder();
    let folder = dir.path();
    fs::copy(folder.join("base.raw"), folder.join("copy.raw")).unwrap();
    let ran = qcheck(folder, &["convert", "base.raw", "copy.raw"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    // An overlay is written from its own backing file, which only is read.
    let ran = qcheck(folder, &["convert", "-n", "-O", "qcow2", "base.qcow2", "mid.qcow2"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
