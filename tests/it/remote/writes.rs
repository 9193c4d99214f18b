//! Writing exports of real NBD servers: every command, and every request that can fail.

use std::fs::{self, File};
use std::path::Path;

use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::servers::fake_nbd::{FLUSH, FakeNbd, Fault, Manner, WRITE};
use crate::support::servers::real::Server;

/// An image with a snapshot and free space after its end, as an export needs it.
fn image(folder: &Path) {
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", "disk", "4M"]);
    qemu_io(folder, "disk", "write -P 7 1M 300k");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "before", "disk"]);
    qemu_io(folder, "disk", "write -P 8 1100k 100k");
    File::options().write(true).open(folder.join("disk")).unwrap().set_len(8 << 20).unwrap();
}

/// Commands that change an image, one after the other.
const CHANGES: [&[&str]; 9] = [
    &["snapshot", "-c", "new"],
    &["snapshot", "-a", "before"],
    &["snapshot", "-d", "before"],
    &["bitmap", "--add", "NAME", "bits"],
    &["bitmap", "--remove", "NAME", "bits"],
    &["resize", "NAME", "5M"],
    &["resize", "--shrink", "NAME", "3M"],
    &["amend", "-o", "lazy_refcounts=on"],
    &["check", "-r", "all"],
];

fn with_name<'a>(args: &[&'a str], name: &'a str) -> Vec<&'a str> {
    let mut args: Vec<&str> =
        args.iter().map(|&arg| if arg == "NAME" { name } else { arg }).collect();
    if !args.contains(&name) {
        args.push(name);
    }
    args
}

#[test]
fn every_command_that_writes_does_to_an_export_what_it_does_to_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    image(folder);
    fs::copy(folder.join("disk"), folder.join("near")).unwrap();
    let server = Server::storage_daemon(&folder.join("disk"));
    let name = server.name("disk");
    for args in CHANGES {
        let far = qcheck(folder, &with_name(args, &name));
        let near = qcheck(folder, &with_name(args, "near"));
        assert_eq!((far.code, near.code), (0, 0), "{args:?}: {}{}", far.err, near.err);
        let compared = ["compare", "-U", "-f", "qcow2", "-F", "qcow2", "disk", "near"];
        qemu_ok(folder, "qemu-img", &compared);
        qemu_ok(folder, "qemu-img", &["check", "-U", "-q", "disk"]);
    }
    qemu_io(folder, "near", "write -P 9 0 1M");
    let ran = qcheck(folder, &["convert", "-n", "-O", "qcow2", "near", &name]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    qemu_ok(folder, "qemu-img", &["compare", "-U", "-F", "qcow2", "disk", "near"]);
}

#[test]
fn a_new_image_is_made_on_an_export_that_is_large_enough() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    image(folder);
    File::create(folder.join("device")).unwrap().set_len(8 << 20).unwrap();
    let server = Server::qemu_nbd_with(&folder.join("device"), &["--discard=unmap"]);
    for (format, options) in [("qcow2", &["-c"][..]), ("qcow2", &[]), ("raw", &[])] {
        let name = server.name("");
        let args = [&["convert", "-O", format], options, &["disk", &name]].concat();
        let ran = qcheck(folder, &args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        let args = ["compare", "-F", format, "disk", &name];
        // A raw disk on a device is followed by what is on the rest of the device.
        let ran = qcheck(folder, &args);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
    let small = Server::qemu_nbd(&folder.join("disk"));
    let ran = qcheck(folder, &["convert", "-O", "raw", "-n", &small.name(""), &server.name("")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn data_of_an_overlay_is_committed_to_a_base_on_a_server_and_rebased_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    image(folder);
    let server = Server::storage_daemon(&folder.join("disk"));
    let name = server.name("disk");
    qemu_create(folder, &["-f", "qcow2", "-u", "-b", &name, "-F", "qcow2", "over", "4M"]);
    let args = ["convert", "--allow-remote-names", "-O", "qcow2", "over", "copy"];
    assert_eq!(qcheck(folder, &args).code, 0);
    qemu_io(folder, "copy", "write -P 5 2M 64k");
    for (action, args) in [
        ("rebase", &["rebase", "-b", "copy", "-F", "qcow2", "over"][..]),
        ("rebase", &["rebase", "-b", &name, "-F", "qcow2", "over"]),
        ("commit", &["commit", "over"]),
    ] {
        if action == "commit" {
            // The daemon has the base open: it is written through the server alone.
            let write = ["-c", "write -P 6 3M 64k", "over"];
            qemu_ok(folder, "qemu-io", &write);
        }
        let ran = qcheck(folder, &[&["--allow-remote-names"], args].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    }
    let read = ["-r", "-U", "-c", "read -P 6 3M 64k", "disk"];
    assert!(!qemu_ok(folder, "qemu-io", &read).contains("failed"));
}

#[test]
fn a_request_that_fails_leaves_an_image_without_errors() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    image(folder);
    let without = fs::read(folder.join("disk")).unwrap();
    qemu_ok(folder, "qemu-img", &["bitmap", "--add", "disk", "bits"]);
    let with = fs::read(folder.join("disk")).unwrap();
    for args in CHANGES {
        let content = if args.contains(&"--remove") { &with } else { &without };
        for (command, fault) in
            [(WRITE, Fault::Error(5)), (WRITE, Fault::Close), (FLUSH, Fault::Error(28))]
        {
            for after in 0..12 {
                let manner = Manner { command, fault, after, ..Manner::default() };
                let server = FakeNbd::start(content.clone(), manner);
                let name = server.name();
                let ran = qcheck(folder, &with_name(args, &name));
                let requests = server.seen().iter().filter(|seen| seen.1 == command).count();
                fs::write(folder.join("left"), server.content()).unwrap();
                let checked = qcheck(folder, &["check", "-q", "left"]);
                let what = format!("{args:?} {fault:?} after {after}: {}", ran.err);
                assert!([0, 3].contains(&checked.code), "{what}{}", checked.err);
                if requests <= after {
                    assert_eq!(ran.code, 0, "{what}");
                    break;
                }
                assert!(ran.code != 0 && ran.is_orderly(), "{what}");
            }
        }
    }
}
