//! `qcheck snapshot` and `qcheck resize` on full file systems and interrupted by a signal: the image is as before or as after.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::programs::run::{
    Ran, assert_clean, interruptible, qcheck, qemu_create, qemu_io as io, qemu_ok,
};
use crate::support::storages::mounted::Mounted;

/// What an image is to a user, and what it takes of the disk.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    length: u64,
    snapshots: String,
    guest: Vec<u8>,
}

fn seen(path: &Path) -> Seen {
    let elsewhere = tempfile::tempdir().unwrap();
    let (raw, name) = (elsewhere.path().join("raw"), path.to_str().unwrap());
    let convert = ["convert", "-O", "raw", name, raw.to_str().unwrap()];
    qemu_ok(elsewhere.path(), "qemu-img", &convert);
    Seen {
        length: fs::metadata(path).unwrap().len(),
        snapshots: qemu_ok(elsewhere.path(), "qemu-img", &["snapshot", "-l", name]),
        guest: fs::read(raw).unwrap(),
    }
}

#[test]
fn on_a_full_file_system_a_failed_command_leaves_the_image_as_it_was() {
    let Some(small) = Mounted::in_memory(4 << 20) else { return };
    let folder = small.path();
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=512", "a", "2M"]);
    io(folder, "a", "write -q -P 1 0 1M");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "one", "a"]);
    io(folder, "a", "write -q -P 2 100k 400k");
    small.fill_but(4096);
    let (path, before) = (folder.join("a"), seen(&folder.join("a")));
    let blocks = fs::metadata(&path).unwrap().blocks();
    for args in [
        &["snapshot", "-c", "two", "a"][..],
        &["resize", "--preallocation=metadata", "a", "64M"],
        &["resize", "--preallocation=falloc", "a", "64M"],
        &["resize", "--preallocation=full", "a", "64M"],
        &["resize", "a", "64G"],
    ] {
        let ran = qcheck(folder, args);
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.err.contains("No space left on device"), "{args:?}: {}", ran.err);
        assert_clean(folder, "a");
        assert!(seen(&path) == before, "{args:?}");
        assert!(fs::metadata(&path).unwrap().blocks() <= blocks, "{args:?} takes space");
    }
    // This is how someone gets space.
    let ran = qcheck(folder, &["snapshot", "-d", "one", "a"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_clean(folder, "a");
    let after = seen(&path);
    assert_eq!((after.snapshots.as_str(), after.guest == before.guest), ("", true));
    assert!(fs::metadata(&path).unwrap().blocks() < blocks);
}

/// An image `a` and its backing file `b`.
fn backed(folder: &Path) {
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=512", "b", "64M"]);
    io(folder, "b", "write -q -P 1 0 300k");
    let options = ["-f", "qcow2", "-o", "cluster_size=512", "-b", "b", "-F", "qcow2", "a", "64M"];
    qemu_create(folder, &options);
    io(folder, "a", "write -q -P 2 20M 300k");
    io(folder, "a", "write -q -z 1k 200k");
}

#[test]
fn on_a_full_file_system_no_command_leaves_errors_or_changes_what_a_guest_reads() {
    for args in [
        &["amend", "-o", "compat=0.10", "a"][..],
        &["commit", "a"],
        &["rebase", "-b", "", "a"],
        &["snapshot", "-c", "one", "a"],
    ] {
        let (mut failed, mut done) = (0, 0);
        for pages in [0, 2, 20, 400] {
            let Some(small) = Mounted::in_memory(4 << 20) else { return };
            let folder = small.path();
            backed(folder);
            let before = seen(&folder.join("a"));
            small.fill_but(pages * 4096);
            let ran = qcheck(folder, args);
            match ran.code {
                0 => done += 1,
                1 => failed += 1,
                _ => panic!("{args:?} with {pages} pages: {} {}", ran.code, ran.err),
            }
            small.make_space();
            ["a", "b"].iter().for_each(|name| assert_clean(folder, name));
            assert!(seen(&folder.join("a")).guest == before.guest, "{args:?} with {pages} pages");
        }
        println!("{args:?}: {failed} failed, {done} done");
        assert!(failed > 0 && done > 0, "{args:?}: {failed} failed, {done} done");
    }
}

/// A command whose file may not get longer than so many KiB.
fn within(folder: &Path, kilobytes: u64, args: &[&str]) -> Ran {
    let limited = format!("trap '' XFSZ; ulimit -f {} && exec \"$@\"", kilobytes * 2);
    let program = assert_cmd::cargo::cargo_bin!("qcheck");
    let mut command = Command::new("sh");
    command.args(["-c", &limited, "sh"]).arg(program).args(args).current_dir(folder);
    command.output().unwrap().into()
}

#[test]
fn a_file_that_may_not_get_longer_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", "a", "1M"]);
    io(folder, "a", "write -q -P 1 0 1M");
    let (path, before) = (folder.join("a"), seen(&folder.join("a")));
    for args in
        [&["snapshot", "-c", "one", "a"][..], &["resize", "--preallocation=full", "a", "3M"]]
    {
        let ran = within(folder, before.length.div_ceil(1024), args);
        assert_eq!(ran.code, 1, "{args:?}: {}", ran.err);
        assert_clean(folder, "a");
        assert!(seen(&path) == before, "{args:?}");
    }
}

/// Starts a command and interrupts it once the image has got longer.
fn interrupted(folder: &Path, args: &[&str]) -> (Ran, PathBuf) {
    let path = folder.join("a");
    let length = || fs::metadata(&path).unwrap().len();
    let before = length();
    let mut child = start(folder, args);
    let begun = Instant::now();
    while length() <= before && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{args:?} does nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = child.id().to_string();
    // It may have ended already.
    Command::new("kill").args(["-s", "INT", &id]).stderr(Stdio::null()).status().unwrap();
    (child.wait_with_output().unwrap().into(), path)
}

fn start(folder: &Path, args: &[&str]) -> Child {
    let mut command = interruptible();
    command.current_dir(folder).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_interruption_leaves_the_image_as_it_was_or_the_command_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    // So many tables that the work takes a moment.
    let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=512,preallocation=metadata"];
    assert_eq!(qcheck(folder, &[&create[..], &["a", "64M"]].concat()).code, 0);
    io(folder, "a", "write -q -P 1 0 64k");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "one", "a"]);
    io(folder, "a", "write -q -P 2 0 64k");
    for args in [
        &["snapshot", "-c", "two", "a"][..],
        &["snapshot", "-a", "one", "a"],
        &["snapshot", "-d", "one", "a"],
        &["resize", "--preallocation=metadata", "a", "1G"],
    ] {
        let before = seen(&folder.join("a"));
        let (ran, path) = interrupted(folder, args);
        match ran.code {
            0 => assert!(seen(&path) != before, "{args:?}"),
            code => {
                assert_eq!(code, 1, "{args:?}");
                assert!(ran.err.ends_with("interrupted\n"), "{args:?}: {}", ran.err);
                assert!(seen(&path) == before, "{args:?}");
            }
        }
        assert_clean(folder, "a");
    }
}

#[test]
fn writing_out_a_longer_disk_can_be_interrupted() {
    for format in ["qcow2", "raw"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        qemu_create(folder, &["-f", format, "a", "1M"]);
        let before = fs::read(folder.join("a")).unwrap();
        let args = ["resize", "-f", format, "--preallocation=full", "a", "1T"];
        let (ran, path) = interrupted(folder, &args);
        assert_eq!(ran.code, 1, "{format}");
        assert!(ran.err.ends_with("interrupted\n"), "{format}: {}", ran.err);
        assert!(fs::read(path).unwrap() == before, "{format}");
    }
}
