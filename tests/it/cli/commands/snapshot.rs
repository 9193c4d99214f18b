//! `qcheck snapshot` beside qemu-img.

use std::fs;
use std::path::Path;

use qcheck::storage::{Access, FileStorage, lock};

use crate::support::programs::run::{
    assert_clean, qcheck, qemu, qemu_create, qemu_io as io, qemu_ok,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The list without its dates, which are those of two moments.
fn list(folder: &Path, image: &str) -> Vec<String> {
    let ours = qcheck(folder, &["snapshot", "-l", image]);
    let theirs = qemu_ok(folder, "qemu-img", &["snapshot", "-l", image]);
    assert_eq!((ours.code, &ours.out), (0, &theirs), "{}", ours.err);
    let told = |line: &str| {
        let icount = line.split_whitespace().last().unwrap_or_default();
        line.chars().take(33).collect::<String>() + icount
    };
    ours.out.lines().map(told).collect()
}

#[test]
fn each_operation_leaves_what_qemu_img_leaves() {
    for options in ["compat=1.1", "compat=0.10", "cluster_size=512", "extended_l2=on"] {
        let dir = folder();
        qemu_create(dir.path(), &["-f", "qcow2", "-o", options, "a", "4M"]);
        io(dir.path(), "a", "write -q -P 1 0 1M");
        fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
        let steps: [(&[&str], &str); 9] = [
            (&["-c", "one"], "write -q -P 2 512k 1M"),
            (&["-c", "2"], "write -q -P 3 0 100k"),
            (&["-c", "one", "-q"], "discard -q 0 64k"),
            (&["-a", "1"], "write -q -P 4 3M 100k"),
            (&["-c", "zwölf \"x\""], "write -q -P 5 1M 1M"),
            (&["-d", "2"], "write -q -P 6 0 64k"),
            (&["-d", "1"], "write -q -P 6 64k 64k"),
            (&["-a", "zwölf \"x\""], "write -q -P 7 2M 64k"),
            (&["-d", "one"], "write -q -P 8 2M 1M"),
        ];
        for (step, write) in steps {
            let ours = qcheck(dir.path(), &[&["snapshot"], step, &["a"]].concat());
            let theirs = qemu(dir.path(), "qemu-img", &[&["snapshot"], step, &["b"]].concat());
            assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out), "{step:?} {}", ours.err);
            assert_clean(dir.path(), "a");
            for image in ["a", "b"] {
                io(dir.path(), image, write);
            }
            qemu_ok(dir.path(), "qemu-img", &["compare", "-q", "a", "b"]);
            assert_eq!(list(dir.path(), "a"), list(dir.path(), "b"), "{step:?}");
        }
    }
}

#[test]
fn what_qemu_img_refuses_is_refused_with_the_same_code_and_nothing_is_written() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", "a"]);
    qemu_create(dir.path(), &["-f", "raw", "raw", "1M"]);
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "data_file=d", "data", "1M"]);
    let before = fs::read(dir.path().join("a")).unwrap();
    for args in [
        &["-d", "1", "a"][..],
        &["-d", "none", "a"],
        &["-a", "none", "a"],
        &["-l", "-c", "x", "a"],
        &["-l", "-l", "a"],
        &["-c", "x", "-c", "y", "a"],
        &["-U", "-c", "x", "a"],
        &["-c", "x", "-f", "raw", "raw"],
        &["-c", "x", "data"],
        &["-f", "qcow2", "-l", "raw"],
        &["-l", "absent"],
    ] {
        let args = [&["snapshot"], args].concat();
        let (ours, theirs) = (qcheck(dir.path(), &args), qemu(dir.path(), "qemu-img", &args));
        assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out), "{args:?}: {}", ours.err);
        assert_ne!(ours.err, "", "{args:?}");
    }
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), before);
    let long = "x".repeat(256);
    assert_eq!(qcheck(dir.path(), &["snapshot", "-c", &long, "a"]).code, 1);
}

#[test]
fn a_list_is_the_default_and_json_is_what_info_has() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    assert_eq!(qcheck(dir.path(), &["snapshot", "a"]).out, "");
    assert_eq!(qcheck(dir.path(), &["snapshot", "-l", "--output=json", "a"]).out, "[\n]\n");
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "one", "a"]);
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let ours = json(&qcheck(dir.path(), &["snapshot", "--output", "json", "a"]).out);
    let info = json(&qemu_ok(dir.path(), "qemu-img", &["info", "--output", "json", "a"]));
    assert_eq!(ours, info["snapshots"]);
    assert_eq!(qcheck(dir.path(), &["snapshot", "-f", "raw", "-l", "a"]).out, "");
}

#[test]
fn a_dirty_image_is_repaired_first_and_reports_it() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "-o", "lazy_refcounts=on", "a", "1M"]);
    let crash = ["-c", "write -q -P 1 0 64k", "-c", "abort", "a"];
    // It ends by a signal, so it has no exit code.
    std::process::Command::new("qemu-io").current_dir(dir.path()).args(crash).output().unwrap();
    let info = qemu_ok(dir.path(), "qemu-img", &["info", "a"]);
    assert!(info.contains("cleanly shut down: no"), "{info}");
    let ran = qcheck(dir.path(), &["snapshot", "-c", "one", "a"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.starts_with("qcheck: NOTICE: "), "{}", ran.err);
    assert_clean(dir.path(), "a");
    let info = qemu_ok(dir.path(), "qemu-img", &["info", "a"]);
    assert!(!info.contains("cleanly shut down: no"), "{info}");
}

#[test]
fn an_image_in_use_is_not_written_and_is_listed_only_when_forced() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    let file = FileStorage::open_write(&dir.path().join("a")).unwrap();
    lock(&file, Access::Write).unwrap();
    for args in [&["-c", "x"][..], &["-d", "x"], &["-a", "x"], &["-l"]] {
        let ran = qcheck(dir.path(), &[&["snapshot"], args, &["a"]].concat());
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.err.contains("lock"), "{}", ran.err);
    }
    assert_eq!(qcheck(dir.path(), &["snapshot", "-U", "-l", "a"]).code, 0);
    lock(&file, Access::Read).unwrap();
    assert_eq!(qcheck(dir.path(), &["snapshot", "-l", "a"]).code, 0);
    assert_eq!(qcheck(dir.path(), &["snapshot", "-c", "x", "a"]).code, 1);
}

#[test]
fn an_empty_disk_has_snapshots_too() {
    let dir = folder();
    for image in ["a", "b"] {
        qemu_create(dir.path(), &["-f", "qcow2", image, "0"]);
    }
    for args in [
        &["snapshot", "-c", "one"][..],
        &["resize", "3M"],
        &["snapshot", "-c", "-1"],
        &["snapshot", "-a", "one"],
        &["resize", "2M"],
        &["snapshot", "-a", "-1"],
        &["snapshot", "-d", "one"],
        &["snapshot", "-d", "-1"],
    ] {
        let all = |image| match args {
            ["resize", size] => vec!["resize", image, size],
            _ => [args, &[image]].concat(),
        };
        let ours = qcheck(dir.path(), &all("a"));
        let theirs = qemu(dir.path(), "qemu-img", &all("b"));
        assert_eq!((ours.code, &ours.out), (theirs.code, &theirs.out), "{args:?} {}", ours.err);
        assert_clean(dir.path(), "a");
        qemu_ok(dir.path(), "qemu-img", &["compare", "-q", "a", "b"]);
        assert_eq!(list(dir.path(), "a"), list(dir.path(), "b"), "{args:?}");
    }
}

#[test]
fn a_snapshot_of_an_image_with_errors_is_taken_with_a_warning() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    io(dir.path(), "a", "write -q -P 1 0 128k");
    let ran = qcheck(dir.path(), &["snapshot", "-c", "one", "a"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let mut bytes = fs::read(dir.path().join("a")).unwrap();
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    // COPIED for a cluster that the snapshot has too.
    let table = (number(number(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    bytes[table] |= 0x80;
    fs::write(dir.path().join("a"), bytes).unwrap();
    let ran = qcheck(dir.path(), &["snapshot", "-c", "two", "a"]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.starts_with("qcheck: WARNING: the image has 1 error, "), "{}", ran.err);
    let ran = qcheck(dir.path(), &["snapshot", "-d", "two", "a"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn an_id_that_is_not_a_name_is_reported_with_the_name_of_its_snapshot() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "1M"]);
    qemu_ok(dir.path(), "qemu-img", &["snapshot", "-c", "before upgrade", "a"]);
    let ran = qcheck(dir.path(), &["snapshot", "-d", "1", "a"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("snapshot not found: '1' is not a name but the id of 'before upgrade'"),
        "{}",
        ran.err
    );
    assert!(!qcheck(dir.path(), &["snapshot", "-d", "2", "a"]).err.contains("id"));
}
