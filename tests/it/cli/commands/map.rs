//! `qcheck map` against qemu-img, to the letter, and the library's extents.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use qcheck::disk::{Disk, ExtentKind};

use crate::support::programs::disks::{self, DISKS, same};
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    disks::make(dir.path());
    dir
}

#[test]
fn maps_are_printed_as_by_qemu_img() {
    let dir = folder();
    for (name, format) in DISKS {
        for output in ["human", "json"] {
            let output = format!("--output={output}");
            for args in [
                &["map", &output, name][..],
                &["map", &output, "-f", format, name],
                &["map", &output, "-U", "-s", "100k", name],
                &["map", &output, "--start-offset", "1000", "--max-length", "300000", name],
                &["map", &output, "-s", "2M", "-l", "1", name],
                &["map", &output, "-s", "8M", name],
                &["map", &output, "-l", "0", name],
                &["map", &output, "-f", "raw", name],
            ] {
                same(dir.path(), args);
            }
        }
    }
}

#[test]
fn wrong_arguments_end_as_in_qemu_img() {
    let dir = folder();
    for args in [
        &["map"][..],
        &["map", "plain", "v2"],
        &["map", "absent"],
        &["map", "--output=text", "plain"],
        &["map", "-s", "x", "plain"],
        &["map", "-s", "-1", "plain"],
        &["map", "-l", "1x", "plain"],
        &["map", "-f", "foo", "plain"],
        &["map", "-f", "qcow2", "raw"],
        &["map", "--image-opts", "plain"],
    ] {
        assert_eq!(same(dir.path(), args).code, 1, "{args:?}");
    }
}

#[test]
fn files_are_named_as_they_are_found() {
    let dir = folder();
    fs::create_dir(dir.path().join("below")).unwrap();
    for name in ["plain", "raw"] {
        fs::copy(dir.path().join(name), dir.path().join("below").join(name)).unwrap();
    }
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "below/plain", "-F", "qcow2", "top"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-b", "raw", "-F", "raw", "below/on"]);
    qemu_io(dir.path(), "top", "write -q 64k 64k");
    let absolute = dir.path().join("below/on");
    for image in ["top", "./top", "file:top", "below/on", "./below/on", absolute.to_str().unwrap()]
    {
        assert!(same(dir.path(), &["map", image]).out.contains("0x"), "{image}");
    }
}

#[test]
fn what_was_found_before_damage_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    qemu_io(dir.path(), "a", "write -q 0 256k");
    // The third entry of the only L2 table, which is the fifth cluster.
    let file = OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    file.write_all_at(&[0x80, 0, 0, 0, 0, 0, 1, 0], (4 << 16) + 16).unwrap();
    let ran = qcheck(dir.path(), &["map", "a"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("0x20000         0x50000         a\n"), "{}", ran.out);
    assert!(ran.err.contains("'a'") && ran.err.contains("0x40010"), "{}", ran.err);
}

/// Reads a disk by its extents alone, as whoever copies it would.
fn by_extents(folder: &Path, name: &str) -> Vec<u8> {
    let disk = Disk::open(folder.join(name)).unwrap();
    let size = disk.size().unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let mut at = 0;
    for extent in disk.extents(0..u64::MAX) {
        let extent = extent.unwrap();
        assert_eq!(extent.start, at, "{name}: no gaps");
        at += extent.length;
        assert_eq!(extent.zero, extent.zero || extent.kind != ExtentKind::Data);
        if extent.zero {
            continue;
        }
        let part = &mut bytes[usize::try_from(extent.start).unwrap()..][..extent.length as usize];
        match (extent.host, extent.file) {
            // The name of a data file is taken from the current folder.
            (Some(host), Some(file)) if file.is_absolute() => {
                fs::File::open(file).unwrap().read_exact_at(part, host).unwrap();
            }
            _ => disk.read_at(part, extent.start).unwrap(),
        }
    }
    assert_eq!(at, size, "{name}: all of the disk");
    bytes
}

#[test]
fn extents_are_where_the_bytes_of_the_disk_are() {
    let dir = folder();
    let out = dir.path().join("out.raw");
    for (name, format) in DISKS {
        // These have names that the library takes from the current folder.
        if name.ends_with("data") || name == "empty" {
            continue;
        }
        qemu_ok(dir.path(), "qemu-img", &["convert", "-f", format, "-O", "raw", name, "out.raw"]);
        assert!(by_extents(dir.path(), name) == fs::read(&out).unwrap(), "{name}");
    }
}

#[test]
fn a_disk_is_read_from_many_threads() {
    let dir = folder();
    let disk = Disk::open(dir.path().join("third")).unwrap();
    let mut whole = vec![0; disk.size().unwrap() as usize];
    disk.read_at(&mut whole, 0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (disk, whole) = (&disk, &whole);
            scope.spawn(move || {
                for at in (thread * 1000..whole.len()).step_by(50_000) {
                    let mut part = vec![0; 10_000.min(whole.len() - at)];
                    disk.read_at(&mut part, at as u64).unwrap();
                    assert!(part == whole[at..at + part.len()], "{at}");
                }
            });
        }
    });
}
