//! The phrases that programs search qemu-img's output for are in qcheck's, too: `docs/interface.md` lists them.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};

use crate::repair::device::Device;
use crate::support::programs::run::{Ran, qemu_create, qemu_io, qemu_ok};

/// A phrase of the document, and command lines whose output has it. `DEVICE` is a block device of 1 MiB.
const CASES: [(&str, &[&str]); 32] = [
    (
        "Failed to get \"write\" lock",
        &["resize busy.qcow2 4M", "check -r all busy.qcow2", "snapshot -c x busy.qcow2"],
    ),
    (
        "Failed to get shared \"write\" lock",
        &["info busy.qcow2", "check busy.qcow2", "convert busy.qcow2 new"],
    ),
    (
        "Is another process using the image [",
        &["info busy.qcow2", "resize busy.qcow2 4M", "convert busy-top.qcow2 new"],
    ),
    (
        "Could not open 'absent': No such file or directory",
        &[
            "info absent",
            "check absent",
            "convert absent new",
            "resize absent 1M",
            "snapshot -l absent",
            "create -f qcow2 -b absent -F qcow2 new",
            "convert -n raw absent",
        ],
    ),
    (
        "Could not open backing file",
        &["convert top.qcow2 new", "resize top.qcow2 4M", "convert busy-top.qcow2 new"],
    ),
    (
        "Image is not in qcow2 format",
        &[
            "info -f qcow2 raw",
            "check -f qcow2 raw",
            "convert -f qcow2 raw new",
            "snapshot -l -f qcow2 raw",
            "resize -f qcow2 raw 4M",
            "create -f qcow2 -b raw -F qcow2 new",
        ],
    ),
    (
        "Unsupported preallocation mode",
        &[
            "create -f raw -o preallocation=metadata new 1M",
            "create -f raw -o preallocation=falloc DEVICE 1M",
            "convert -O raw -o preallocation=full raw DEVICE",
            "resize -f raw --preallocation=metadata raw 4M",
        ],
    ),
    ("No space left on device", &["convert -O qcow2 image.qcow2 DEVICE"]),
    ("snapshot not found", &["snapshot -d none image.qcow2", "snapshot -d none -f raw raw"]),
    (
        "Failed to load snapshot",
        &[
            "snapshot -a none image.qcow2",
            "convert -l none image.qcow2 new",
            "convert -l none -f raw raw new",
        ],
    ),
    (
        "Can't find snapshot",
        &["convert -l none image.qcow2 new", "convert -l snapshot.id=7 image.qcow2 new"],
    ),
    ("Could not create snapshot", &["snapshot -c x external.qcow2", "snapshot -c x -f raw raw"]),
    (
        "Could not delete snapshot 'none'",
        &["snapshot -d none image.qcow2", "snapshot -d none -f raw raw"],
    ),
    (
        "Could not apply snapshot 'none'",
        &["snapshot -a none image.qcow2", "snapshot -a none -f raw raw"],
    ),
    (
        "Backing file specified without backing format",
        &["create -f qcow2 -b image.qcow2 new", "create -f qcow2 -o backing_file=raw new"],
    ),
    (
        "Use of backing file requires explicit backing format",
        &["convert -O qcow2 -B image.qcow2 raw new"],
    ),
    (
        "Backing format cannot be used without backing file",
        &["create -f qcow2 -F raw new 1M", "convert -O qcow2 -F raw raw new"],
    ),
    (
        "Use the --shrink option to perform a shrink operation",
        &["resize image.qcow2 1M", "resize -f raw raw 1k"],
    ),
    ("Image is corrupt; cannot be opened read/write", &["resize corrupt.qcow2 4M"]),
    ("Could not create 'absent/new'", &["create -f qcow2 absent/new 1M", "convert raw absent/new"]),
    ("Unknown protocol 'foo'", &["info foo:bar", "check foo:bar", "create foo:bar 1M"]),
    ("This image format does not support checks", &["check -f raw raw"]),
    ("\nSupported image formats:", &["--help"]),
    ("qemu-img version 10.0.2", &["--version", "--help"]),
    ("\r    (100.00/100%)", &["convert -p raw new"]),
    ("Formatting '", &["create -f qcow2 new 1M"]),
    ("Image resized.", &["resize -f raw raw 4M"]),
    ("No errors were found on the image.", &["check image.qcow2"]),
    ("Image end offset: ", &["check image.qcow2"]),
    ("virtual size: 1 MiB (1048576 bytes)", &["info external.qcow2"]),
    ("Snapshot list:", &["info image.qcow2", "snapshot -l image.qcow2"]),
    ("(actual path: ", &["info sub/over.qcow2"]),
];

/// A phrase of qemu-img before version 10, for which programs still search.
const OLDER: &str = "Supported formats:";

/// What the commands are about.
fn images(folder: &Path) {
    File::create(folder.join("raw")).unwrap().set_len(1 << 20).unwrap();
    for name in ["image.qcow2", "busy.qcow2", "gone.qcow2", "corrupt.qcow2"] {
        qemu_create(folder, &["-f", "qcow2", name, "2M"]);
    }
    qemu_io(folder, "image.qcow2", "write -q -P 1 0 2M");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "one", "image.qcow2"]);
    for (below, name) in [("busy.qcow2", "busy-top.qcow2"), ("gone.qcow2", "top.qcow2")] {
        qemu_create(folder, &["-f", "qcow2", "-b", below, "-F", "qcow2", name]);
    }
    fs::remove_file(folder.join("gone.qcow2")).unwrap();
    qemu_create(folder, &["-f", "qcow2", "-o", "data_file=data", "external.qcow2", "1M"]);
    let mut corrupt = fs::read(folder.join("corrupt.qcow2")).unwrap();
    corrupt[79] |= 2;
    fs::write(folder.join("corrupt.qcow2"), corrupt).unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    fs::copy(folder.join("image.qcow2"), folder.join("sub/base.qcow2")).unwrap();
    let over = ["-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "sub/over.qcow2"];
    qemu_create(folder, &over);
    symlink(assert_cmd::cargo::cargo_bin!("qcheck"), folder.join("qemu-img")).unwrap();
}

/// Another opening that writes to the image, as far as locks show.
fn hold(image: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    for byte in [100, 101, 103, 201, 203] {
        let request = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&request)).unwrap();
    }
    file
}

#[test]
fn phrases_that_programs_match_are_in_the_output_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    images(folder);
    let _busy = hold(&folder.join("busy.qcow2"));
    let device = Device::new(&vec![0; 1 << 20]);
    let ours = folder.join("qemu-img");
    let run = |program: &Path, args: &[&str]| -> Ran {
        let mut command = Command::new(program);
        command.current_dir(folder).env_remove("COLUMNS").args(args).output().unwrap().into()
    };
    for (phrase, commands) in CASES {
        for command in commands {
            let name = match (&device, command.contains("DEVICE")) {
                (None, true) => continue,
                (device, _) => device.as_ref().map_or("", Device::name),
            };
            let command = command.replace("DEVICE", name);
            let args: Vec<&str> = command.split(' ').collect();
            let theirs = run(Path::new("qemu-img"), &args);
            let _ = fs::remove_file(folder.join("new"));
            let own = run(&ours, &args);
            let _ = fs::remove_file(folder.join("new"));
            for ran in [&theirs, &own] {
                let output = format!("{}\n{}", ran.out, ran.err);
                assert!(output.contains(phrase), "'{phrase}' after '{command}': {ran:?}");
            }
            assert_eq!(own.code, theirs.code, "{command}: {own:?}");
            let lines = own.err.lines().count();
            assert!(lines <= 1 || own.err.contains("Try 'qemu-img"), "{command}: {}", own.err);
        }
    }
}

#[test]
fn formats_are_found_in_the_help_as_in_that_of_older_versions() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("qemu-img");
    symlink(assert_cmd::cargo::cargo_bin!("qcheck"), &link).unwrap();
    let help = Command::new(link).env_remove("COLUMNS").arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let line = help.lines().find(|line| line.starts_with(OLDER));
    assert_eq!(line, Some("Supported formats: qcow2 raw"));
}

#[test]
fn the_document_lists_the_phrases_that_are_tested() {
    let document = include_str!("../../../docs/interface.md");
    let listed = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<&str> = listed.collect();
    let phrases = CASES.iter().map(|(phrase, _)| phrase.trim_start());
    let tested: BTreeSet<&str> = phrases.chain([OLDER]).collect();
    assert_eq!(listed, tested);
}
