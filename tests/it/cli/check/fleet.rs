//! `check --output-file`, `--shard` and `--since`: many images, in runs that share nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::many::mixed;
use crate::support::programs::run::{qcheck, qemu_create};

fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    fs::read_dir(folder).unwrap().map(|e| name(e).into_string().unwrap()).collect()
}

#[test]
fn every_form_is_the_same_in_a_file_as_on_standard_output() {
    let dir = mixed();
    for form in ["human", "json", "ndjson", "sarif"] {
        for images in [&["corrupt"][..], &["clean", "leaky", "missing"]] {
            let plain = [&["check", "--output", form][..], images].concat();
            let plain = qcheck(dir.path(), &plain);
            let args = [&["check", "--output", form, "--output-file", "result"][..], images];
            let ran = qcheck(dir.path(), &args.concat());
            assert_eq!((ran.code, ran.out.as_str()), (plain.code, ""), "{form}");
            assert_eq!(ran.err, plain.err, "{form}");
            assert_eq!(fs::read_to_string(dir.path().join("result")).unwrap(), plain.out, "{form}");
        }
    }
    for form in ["junit", "prometheus"] {
        let ran =
            qcheck(dir.path(), &["check", "--output", form, "--output-file", "result", "leaky"]);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{form}");
        assert!(fs::read_to_string(dir.path().join("result")).unwrap().contains("leaky"), "{form}");
    }
}

#[test]
fn a_result_that_cannot_be_made_leaves_the_former_one() {
    let dir = mixed();
    fs::write(dir.path().join("result"), "former").unwrap();
    // A raw disk, which is not one of the images.
    fs::write(dir.path().join("disk"), [0; 4096]).unwrap();
    let before = names(dir.path());
    for args in [
        &["check", "--output-file", "result", "--files-from", "nowhere"][..],
        &["check", "--output-file", "nowhere/result", "clean"],
        &["check", "--output-file", "clean", "leaky"],
        &["check", "--output-file", "raw", "clean", "./raw"],
        &["check", "--output-file", ".", "clean"],
        &["check", "--output-file", "disk", "clean"],
    ] {
        let contents = |name: &str| fs::read(dir.path().join(name)).unwrap();
        let images: Vec<Vec<u8>> = ["clean", "raw", "leaky", "disk"].map(contents).into();
        let ran = qcheck(dir.path(), args);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert_eq!(contents("result"), b"former", "{args:?}");
        assert_eq!(images, ["clean", "raw", "leaky", "disk"].map(contents), "{args:?}");
        assert_eq!(names(dir.path()), before, "{args:?}");
    }
}

#[test]
fn the_parts_of_a_list_are_all_of_it_and_an_empty_part_is_a_success() {
    let dir = mixed();
    let images = ["clean", "leaky", "corrupt", "raw"];
    let list = images.join("\n");
    fs::write(dir.path().join("list"), &list).unwrap();
    let part = |shard: &str, args: &[&str]| {
        let all = [&["check", "--output", "ndjson", "--shard", shard][..], args].concat();
        let ran = qcheck(dir.path(), &all);
        let names: Vec<String> = ran
            .out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["filename"].to_string())
            .collect();
        (ran.code, names)
    };
    let mut all = Vec::new();
    let mut empty = 0;
    for index in 1..=9 {
        let shard = format!("{index}/9");
        let (code, of_list) = part(&shard, &["--files-from", "list"]);
        empty += usize::from(of_list.is_empty());
        assert!(!of_list.is_empty() || code == 0, "{shard}");
        // The part of a name does not depend on the others.
        for name in images.iter().filter(|name| of_list.contains(&format!("\"{name}\""))) {
            assert_eq!(part(&shard, &[name]).1, [format!("\"{name}\"")]);
        }
        all.extend(of_list);
    }
    all.sort();
    assert_eq!(all, ["\"clean\"", "\"corrupt\"", "\"leaky\"", "\"raw\""]);
    assert!(empty >= 5, "four names in nine parts");
    for wrong in ["0/3", "4/3", "3"] {
        assert_eq!(qcheck(dir.path(), &["check", "--shard", wrong, "clean"]).code, 1);
    }
    fs::write(dir.path().join("list"), "").unwrap();
    assert_eq!(part("1/2", &["--files-from", "list"]).0, 1, "the list itself is empty");
}

/// Sets when a file was last written to some time ago.
fn age(path: &Path, seconds: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn since(folder: &Path, images: &[&str]) -> (i32, Vec<Value>) {
    let args = ["check", "--since", "state", "--output", "ndjson"];
    let ran = qcheck(folder, &[&args[..], images].concat());
    let lines = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (ran.code, lines)
}

#[test]
fn only_what_was_clean_and_did_not_change_is_left_out() {
    let dir = mixed();
    let folder = dir.path();
    let images = ["clean", "leaky", "corrupt", "raw"];
    images.iter().for_each(|name| age(&folder.join(name), 100));
    let (code, first) = since(folder, &images);
    assert!(code == 2 && first.iter().all(|line| line.get("unchanged-since").is_none()));
    let (code, second) = since(folder, &images);
    assert_eq!(code, 2, "errors are never left out");
    for (before, after) in first.iter().zip(&second) {
        let mut after = after.clone();
        let since = after.as_object_mut().unwrap().remove("unchanged-since");
        assert_eq!(since.is_some(), after["filename"] == "clean", "{after}");
        assert_eq!(&after, before, "the rest is as it was");
    }
    let human = qcheck(folder, &["check", "--since", "state", "clean"]);
    assert!(human.code == 0 && human.out.starts_with("clean: no errors, unchanged since 20"));

    // What is not named keeps its record, and other arguments ask for another verdict.
    let denied = qcheck(folder, &["check", "--since", "state", "--max-virtual-size", "1", "clean"]);
    assert_eq!(denied.code, 4, "{}", denied.out);
    let lines = fs::read_to_string(folder.join("state")).unwrap();
    assert_eq!(lines.lines().count(), 4);
    assert_eq!(since(folder, &["clean"]).1[0].get("unchanged-since"), None);
}

#[test]
fn a_change_shows_by_length_by_time_and_by_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let path = folder.join("a");
    let is_skipped = || since(folder, &["a"]).1[0].get("unchanged-since").is_some();
    qemu_create(folder, &["-f", "qcow2", "a", "10M"]);
    let settle = || {
        age(&path, 1000);
        assert!(!is_skipped());
        assert!(is_skipped());
    };
    settle();
    age(&path, 500);
    assert!(!is_skipped(), "another time");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let restore = || fs::File::options().write(true).open(&path).unwrap().set_modified(time);
    let file = fs::File::options().write(true).open(&path).unwrap();
    assert!(is_skipped());
    file.set_len(fs::metadata(&path).unwrap().len() + 65536).unwrap();
    restore().unwrap();
    assert!(!is_skipped(), "another length");
    assert!(is_skipped());
    std::os::unix::fs::FileExt::write_all_at(&file, b"\xff", 11).unwrap();
    restore().unwrap();
    let (code, lines) = since(folder, &["a"]);
    assert!(code != 0 && lines[0].get("unchanged-since").is_none(), "another header: {lines:?}");

    // The same name, length, time and header, and another content.
    qemu_create(folder, &["-f", "qcow2", "a", "10M"]);
    settle();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x7f; 8], 0x30000).unwrap();
    file.set_modified(time).unwrap();
    let (code, lines) = since(folder, &["a"]);
    assert!(code == 2 && lines[0].get("unchanged-since").is_none(), "another table: {lines:?}");
}

#[test]
fn what_is_read_is_not_replaced_by_a_result() {
    let dir = mixed();
    let folder = dir.path();
    fs::write(folder.join("list"), "clean\n").unwrap();
    since(folder, &["clean"]);
    std::os::unix::fs::symlink("nowhere", folder.join("dangling")).unwrap();
    for args in [
        &["check", "--files-from", "list", "--output-file", "list"][..],
        &["check", "--since", "state", "--output-file", "state", "clean"],
        &["check", "--since", "new", "--output-file", "new", "clean"],
        &["report", "--files-from", "list", "-o", "list"],
        &["report", "--from", "state", "-o", "state"],
        &["check", "--output-file", "dangling", "clean"],
    ] {
        let before =
            [fs::read(folder.join("list")).unwrap(), fs::read(folder.join("state")).unwrap()];
        let ran = qcheck(folder, args);
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{args:?}: {}", ran.err);
        let after =
            [fs::read(folder.join("list")).unwrap(), fs::read(folder.join("state")).unwrap()];
        assert_eq!(before, after, "{args:?}");
    }
    assert!(!folder.join("new").exists() && !folder.join("nowhere").exists());
}

#[test]
fn a_state_that_cannot_be_read_is_an_error_and_stays() {
    let dir = mixed();
    for content in ["not a record\n", "{}\n", "\u{0}"] {
        fs::write(dir.path().join("state"), content).unwrap();
        let ran = qcheck(dir.path(), &["check", "--since", "state", "clean"]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{content:?}");
        assert!(ran.err.contains("'state'") && ran.err.contains("line 1"), "{}", ran.err);
        assert_eq!(fs::read_to_string(dir.path().join("state")).unwrap(), content);
    }
    let clean = fs::read(dir.path().join("clean")).unwrap();
    let ran = qcheck(dir.path(), &["check", "--since", "clean", "clean"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert_eq!(fs::read(dir.path().join("clean")).unwrap(), clean);
}
