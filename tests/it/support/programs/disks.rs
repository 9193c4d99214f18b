//! Disks of every kind that the format has, made by QEMU's tools, for commands that read them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::programs::run::{Ran, qcheck, qemu, qemu_create, qemu_io, qemu_ok};

/// Images with one file each, and the options that they are made with.
const SINGLE: [(&str, &str); 12] = [
    ("plain", "size=3M"),
    ("v2", "compat=0.10,size=3M"),
    ("small", "cluster_size=512,size=3M"),
    ("four", "cluster_size=4k,refcount_bits=1,size=3M"),
    ("big", "cluster_size=2M,size=5M"),
    ("sub", "extended_l2=on,size=3M"),
    ("sub16", "extended_l2=on,cluster_size=16k,size=3M"),
    ("data", "data_file=data.raw,size=3M"),
    ("rawdata", "data_file=rawdata.raw,data_file_raw=on,size=3M"),
    ("mapped", "preallocation=metadata,size=3M"),
    ("submapped", "preallocation=metadata,extended_l2=on,size=3M"),
    ("odd", "size=2999808"),
];

/// What is written to each of them.
const WRITES: [&str; 6] = [
    "write -q -P 1 0 700k",
    "write -q -P 2 1M 64k",
    "write -q -z 192k 64k",
    "discard -q 320k 64k",
    "write -q -z -u 448k 70k",
    "write -q -P 3 2000k 30k",
];

/// Overlays: their names, their backing files and formats, and their options.
const OVERLAYS: [(&str, &str, &str, &str); 9] = [
    ("over", "plain", "qcow2", "size=3M"),
    ("longer", "four", "qcow2", "size=5M"),
    ("shorter", "plain", "qcow2", "size=1500k"),
    ("fine", "big", "qcow2", "cluster_size=4k,size=6M"),
    ("coarse", "small", "qcow2", "cluster_size=1M,size=3M"),
    ("subover", "v2", "qcow2", "extended_l2=on,size=4M"),
    ("onraw", "raw", "raw", "size=3M"),
    ("third", "longer", "qcow2", "cluster_size=16k,size=7M"),
    ("short-third", "shorter", "qcow2", "size=4M"),
];

/// Every image, with its format.
pub const DISKS: [(&str, &str); 27] = [
    ("plain", "qcow2"),
    ("v2", "qcow2"),
    ("small", "qcow2"),
    ("four", "qcow2"),
    ("big", "qcow2"),
    ("sub", "qcow2"),
    ("sub16", "qcow2"),
    ("data", "qcow2"),
    ("rawdata", "qcow2"),
    ("mapped", "qcow2"),
    ("submapped", "qcow2"),
    ("odd", "qcow2"),
    ("over", "qcow2"),
    ("longer", "qcow2"),
    ("shorter", "qcow2"),
    ("fine", "qcow2"),
    ("coarse", "qcow2"),
    ("subover", "qcow2"),
    ("onraw", "qcow2"),
    ("third", "qcow2"),
    ("short-third", "qcow2"),
    ("packed", "qcow2"),
    ("onpacked", "qcow2"),
    ("snapshots", "qcow2"),
    ("empty", "qcow2"),
    ("raw", "raw"),
    ("tail", "raw"),
];

/// Makes all of them in a folder.
pub fn make(folder: &Path) {
    for (name, options) in SINGLE {
        qemu_create(folder, &["-f", "qcow2", "-o", options, name]);
        write(folder, name, &WRITES);
    }
    raw(folder);
    for (name, backing, format, options) in OVERLAYS {
        let args = ["-f", "qcow2", "-b", backing, "-F", format, "-o", options, name];
        qemu_create(folder, &args);
        let own = ["write -q -P 4 128k 100k", "write -q -z 600k 33k", "discard -q 1M 64k"];
        write(folder, name, &own);
    }
    let packed = ["convert", "-c", "-O", "qcow2", "plain", "packed"];
    qemu_ok(folder, "qemu-img", &packed);
    write(folder, "packed", &["write -q -P 9 256k 64k"]);
    qemu_create(folder, &["-f", "qcow2", "-b", "packed", "-F", "qcow2", "onpacked"]);
    write(folder, "onpacked", &["write -q -P 7 1M 64k", "write -q -c -P 8 1280k 64k"]);
    qemu_create(folder, &["-f", "qcow2", "snapshots", "3M"]);
    for (number, name) in ["one", "two"].iter().enumerate() {
        write(folder, "snapshots", &[&format!("write -q -P {} {number}M 1M", number + 1)]);
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", name, "snapshots"]);
    }
    write(folder, "snapshots", &["write -q -P 5 512k 1M"]);
    qemu_create(folder, &["-f", "qcow2", "empty", "0"]);
}

fn raw(folder: &Path) {
    let file = File::create(folder.join("raw")).unwrap();
    file.set_len(2 << 20).unwrap();
    file.write_all_at(&[5; 70_000], 65_536).unwrap();
    file.write_all_at(&[6; 4096], 1 << 20).unwrap();
    fs::write(folder.join("tail"), [7; 70_001]).unwrap();
}

fn write(folder: &Path, image: &str, commands: &[&str]) {
    commands.iter().for_each(|command| qemu_io(folder, image, command));
}

/// Runs both programs; standard output and exit code are the same. Returns qcheck's run.
pub fn same(folder: &Path, args: &[&str]) -> Ran {
    let (ours, theirs) = (qcheck(folder, args), qemu(folder, "qemu-img", args));
    assert_eq!(ours.out, theirs.out, "{args:?}: {}{}", ours.err, theirs.err);
    assert_eq!(ours.code, theirs.code, "{args:?}: {}{}", ours.err, theirs.err);
    assert!(ours.err.lines().count() <= 2, "{args:?}: {}", ours.err);
    ours
}
