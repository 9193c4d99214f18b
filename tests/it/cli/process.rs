//! How commands behave as processes: signals, modes of new files, names, terminals.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::programs::run::{Ran, interruptible, qcheck, qemu, qemu_create, qemu_ok};
use crate::support::storages::mounted::Mounted;

const QCHECK: &str = env!("CARGO_BIN_EXE_qcheck");

/// Runs a line of shell in which `$0` is qcheck.
fn shell(folder: &Path, line: &str) -> Ran {
    let mut shell = Command::new("sh");
    shell.current_dir(folder).args(["-c", line, QCHECK]).output().expect("sh starts").into()
}

/// A conversion that takes about two seconds, started by a line of shell, which has set its signals up by now.
fn slow(folder: &Path, before: &str) -> Child {
    fs::write(folder.join("disk.raw"), vec![7; 2 << 20]).unwrap();
    let line = format!("{before} exec $0 convert -r 1M -O qcow2 disk.raw made.qcow2");
    let mut shell = Command::new("sh");
    shell.current_dir(folder).args(["-c", &line, QCHECK]).stderr(Stdio::piped());
    let child = shell.spawn().expect("sh starts");
    // The new file is made once the handlers are registered.
    while !folder.join("made.qcow2").exists() {
        sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

#[test]
fn signals_that_are_ignored_by_inheritance_stay_ignored() {
    for name in ["HUP", "INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let child = slow(dir.path(), &format!("trap '' {name};"));
        signal(&child, name);
        signal(&child, name);
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "SIG{name}");
        qemu_ok(dir.path(), "qemu-img", &["compare", "-q", "disk.raw", "made.qcow2"]);
    }
}

#[test]
fn sigusr1_prints_the_progress_in_the_form_of_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = slow(dir.path(), "");
    while child.try_wait().unwrap().is_none() {
        signal(&child, "USR1");
        sleep(Duration::from_millis(50));
    }
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let line = ran.err.lines().next().expect("a line of progress");
    let percent = line.strip_prefix("    (").and_then(|rest| rest.strip_suffix("/100%)"));
    assert!(percent.is_some_and(|percent| percent.parse::<f64>().is_ok()), "{line}");
}

#[test]
fn an_interrupted_create_leaves_no_file() {
    for (format, name) in [("qcow2", "INT"), ("raw", "TERM")] {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        let mut create = interruptible();
        create.current_dir(dir.path()).stderr(Stdio::piped());
        create.args(["create", "-q", "-f", format, "-o", "preallocation=full", "new", "16G"]);
        let child = create.spawn().expect("qcheck starts");
        // It writes: the handlers are there.
        while fs::metadata(&new).map_or(0, |made| made.blocks()) < 8192 {
            sleep(Duration::from_millis(1));
        }
        signal(&child, name);
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert!(ran.code == 1 && ran.err.contains("interrupted"), "{format}: {}", ran.err);
        assert!(!new.exists(), "{format}");
    }
}

#[test]
fn a_new_file_has_the_mode_of_one_of_qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for umask in ["0", "022", "077"] {
        let mode = |program: &str, command: &str| {
            let _ = fs::remove_file(folder.join("new"));
            let ran = shell(folder, &format!("umask {umask}; exec {program} {command}"));
            assert_eq!(ran.code, 0, "{}", ran.err);
            fs::metadata(folder.join("new")).unwrap().permissions().mode()
        };
        fs::write(folder.join("disk.raw"), [0; 512]).unwrap();
        for command in [
            "create -q -f qcow2 new 1M",
            "create -q -f raw new 1M",
            "convert -f raw -O qcow2 disk.raw new",
            "convert -f raw -O raw disk.raw new",
        ] {
            assert_eq!(mode("$0", command), mode("qemu-img", command), "{umask} {command}");
        }
    }
}

#[test]
fn the_last_format_counts_and_dev_null_is_an_empty_backing_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let args = ["create", "-q", "-f", "foo", "-f", "qcow2", "-b", "/dev/null", "-F", "raw"];
    let args = [&args[..], &["new", "1M"]].concat();
    let ran = qcheck(folder, &args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = qcheck(folder, &["convert", "-O", "raw", "new", "new.raw"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(fs::read(folder.join("new.raw")).unwrap().iter().all(|byte| *byte == 0));
    let ours = fs::read(folder.join("new")).unwrap();
    qemu_ok(folder, "qemu-img", &args);
    assert!(ours == fs::read(folder.join("new")).unwrap());
    qemu_create(folder, &["-f", "qcow2", "-b", "new.raw", "-F", "raw", "top"]);
    for args in [
        &["rebase", "-b", "/dev/null", "-F", "raw", "top"][..],
        &["map", "/dev/null"],
        &["compare", "-f", "raw", "/dev/null", "new.raw"],
        &["convert", "-f", "raw", "/dev/null", "empty.raw"],
    ] {
        let (ours, theirs) = (qcheck(folder, args), qemu(folder, "qemu-img", args));
        assert_eq!((ours.code, ours.out, ours.err.as_str()), (0, theirs.out, ""), "{args:?}");
    }
    let ran = qcheck(folder, &["create", "-f", "foo", "other", "1M"]);
    assert!(ran.code == 1 && ran.err.contains("unknown format 'foo'"), "{}", ran.err);
}

#[test]
fn a_name_with_a_colon_is_a_protocol_and_after_a_folder_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for args in [&["info", "foo:bar"][..], &["create", "foo:bar", "1M"], &["check", "foo:bar"]] {
        for ran in [qcheck(folder, args), qemu(folder, "qemu-img", args)] {
            assert_eq!(ran.code, 1, "{args:?}");
            assert!(ran.err.contains("Unknown protocol 'foo'"), "{}", ran.err);
        }
    }
    assert_eq!(qcheck(folder, &["create", "-q", "./foo:bar", "1M"]).code, 0);
    assert!(folder.join("foo:bar").exists());
}

#[test]
fn no_escape_sequences_come_before_half_a_second_or_on_a_dumb_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "disk.qcow2", "1G"]);
    fs::write(folder.join("disk.raw"), vec![7; 2 << 20]).unwrap();
    let drawn = |term: &str, command: &str| {
        let mut script = Command::new("script");
        let line = format!("{QCHECK} --color never {command}");
        script.current_dir(folder).env("TERM", term).args(["-qec", &line, "/dev/null"]);
        let output = script.stdin(Stdio::null()).output().expect("script starts");
        assert!(output.status.success(), "{command}");
        output.stdout.contains(&0x1b)
    };
    assert!(!drawn("xterm", "check disk.qcow2"));
    let slow = "convert -r 1M -O qcow2 disk.raw made.qcow2";
    assert!(drawn("xterm", slow), "the bar of a long operation");
    assert!(!drawn("dumb", slow));
}

#[test]
fn preallocated_space_is_written_where_the_file_system_cannot_reserve_it() {
    // The driver has no fallocate for files without extents.
    let Some(mounted) = Mounted::of_type("ext2", 32 << 20) else { return };
    let args = ["create", "-q", "-f", "raw", "-o", "preallocation=falloc", "new", "4M"];
    let ran = qcheck(mounted.path(), &args);
    let blocks = fs::metadata(mounted.path().join("new")).map(|made| made.blocks());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(blocks.unwrap() * 512 >= 4 << 20);
}

#[test]
fn new_images_on_xfs_have_the_extent_size_hint_of_qemu_img() {
    let Some(mounted) = Mounted::of_type("xfs", 512 << 20) else { return };
    let folder = mounted.path();
    fs::write(folder.join("disk.raw"), vec![7; 1 << 20]).unwrap();
    let hinted = |made: &str| {
        let lines = |ran: Ran| {
            let hint = |line: &&str| line.contains("extent size hint");
            ran.success().out.lines().filter(hint).map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = lines(qcheck(folder, &["info", made]));
        assert_eq!(ours, lines(qemu(folder, "qemu-img", &["info", made])), "{made}");
        let json = ["info", "--output", "json", made];
        let children = |ran: Ran| ran.success().json().unwrap()["children"].clone();
        let theirs = children(qemu(folder, "qemu-img", &json));
        assert_eq!(children(qcheck(folder, &json)), theirs, "{made}");
        ours
    };
    let kept = b"a file that is there already and longer than a cluster".repeat(2000);
    let commands: [&[&str]; 12] = [
        &["create", "-f", "qcow2", "made", "1G"],
        &["create", "-f", "raw", "made", "1G"],
        &["create", "-f", "raw", "-o", "extent_size_hint=0", "made", "1G"],
        &["create", "-f", "qcow2", "-o", "extent_size_hint=64k", "made", "1G"],
        &["create", "-f", "qcow2", "-o", "data_file=made,extent_size_hint=64k", "other", "1G"],
        // No multiple of the block size, and more than half an allocation group.
        &["create", "-f", "raw", "-o", "extent_size_hint=5000", "made", "1G"],
        &["create", "-f", "raw", "-o", "extent_size_hint=1G", "made", "1G"],
        &["create", "-f", "raw", "-o", "extent_size_hint=4G", "made", "1G"],
        &["convert", "-O", "qcow2", "disk.raw", "made"],
        &["convert", "-O", "raw", "disk.raw", "made"],
        &["convert", "-O", "raw", "-o", "extent_size_hint=2M", "disk.raw", "made"],
        &["dd", "if=disk.raw", "of=made", "-O", "qcow2"],
    ];
    for command in commands {
        for existing in [false, true] {
            let made = |program: &dyn Fn() -> Ran| {
                let _ = fs::remove_file(folder.join("made"));
                if existing {
                    fs::write(folder.join("made"), &kept).unwrap();
                }
                let ran = program();
                let warned = ran.err.contains("extent size hint");
                (ran.code, warned, folder.join("made").exists().then(|| hinted("made")))
            };
            let ours = made(&|| qcheck(folder, command));
            let theirs = made(&|| qemu(folder, "qemu-img", command));
            assert_eq!(ours, theirs, "{command:?}, existing: {existing}");
        }
    }
}
