//! `qcheck check --dry-run` as a user and a script see it.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use qcheck::storage::{Access, FileStorage, lock};
use serde_json::Value;

use crate::support::images::builder::{Builder, Content};
use crate::support::images::bytes::{be64, l2_entry_at, poke};
use crate::support::programs::run::{qcheck, qemu_create, qemu_io};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// An image of qemu-img's with counts that are too low and too high.
fn damaged(folder: &Path, name: &str) {
    qemu_create(folder, &["-f", "qcow2", "-o", "cluster_size=4k", name, "10M"]);
    qemu_io(folder, name, "write -P 5 0 1M");
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.join(name)).unwrap();
    let mut pointer = [0; 8];
    file.read_exact_at(&mut pointer, 0x1000).unwrap();
    for (cluster, count) in [(258, 2_u16), (7, 0), (8, 2)] {
        let at = u64::from_be_bytes(pointer) + 2 * cluster;
        file.write_all_at(&count.to_be_bytes(), at).unwrap();
    }
}

#[test]
fn a_plan_is_printed_after_the_verdict_and_nothing_is_written() {
    let dir = folder();
    damaged(dir.path(), "a");
    let state = || {
        let meta = fs::metadata(dir.path().join("a")).unwrap();
        (fs::read(dir.path().join("a")).unwrap(), meta.mtime_nsec(), meta.ctime_nsec())
    };
    let before = state();
    let check = qcheck(dir.path(), &["check", "a"]);
    for args in [&["--dry-run", "--repair", "a"][..], &["-r", "all", "--dry-run", "a"]] {
        let ran = qcheck(dir.path(), &[&["check"], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (2, check.err.as_str()));
        let plan =
            ran.out.strip_prefix(check.out.as_str()).expect("the check's output comes first");
        let lines: Vec<&str> = plan.lines().collect();
        assert_eq!(lines[1], "A repair would do this; nothing was written:");
        assert!(lines.contains(&"Round 1: the sign that a repair is under way"), "{plan}");
        let want = "  write   0x000000002000      1024 bytes  safe   refcounts that are wrong in the \
                    refcount block of clusters 0 - 2047 [refcount-too-low, leak]";
        assert!(lines.contains(&want), "{plan}");
        assert!(plan.contains("Nothing would be wrong with the image after it."), "{plan}");
        assert!(state() == before, "something was written");
    }
}

#[test]
fn a_plan_as_json_is_beside_the_keys_of_the_check() {
    let dir = folder();
    damaged(dir.path(), "a");
    let check = qcheck(dir.path(), &["check", "--output", "json", "a"]);
    let args = ["check", "--output", "json", "-r", "all", "--dry-run", "a"];
    let ran = qcheck(dir.path(), &args);
    assert_eq!(ran.code, 2);
    let mut value: Value = serde_json::from_str(&ran.out).expect("JSON");
    let plan = value.as_object_mut().unwrap().remove("plan").expect("a plan");
    assert_eq!(value, serde_json::from_str::<Value>(&check.out).unwrap());
    let stages = plan["stages"].as_array().unwrap();
    assert!(stages.len() > 2 && stages[0]["round"] == 1);
    let counts = stages.iter().find(|stage| stage["what"] == "refcounts").expect("a stage");
    let write = &counts["writes"][0];
    assert_eq!((&write["offset"], &write["length"]), (&Value::from(0x2000), &Value::from(1024)));
    assert_eq!(write["risk"], "safe");
    assert_eq!(write["fixes"], Value::from(vec!["refcount-too-low", "leak"]));
    assert_eq!(
        (&plan["corruptions-left"], &plan["leaks-left"]),
        (&Value::from(0), &Value::from(0))
    );
    let listed: usize = stages.iter().map(|s| s["writes"].as_array().unwrap().len()).sum();
    assert_eq!(plan["writes"], listed);
}

#[test]
fn a_clean_image_needs_no_writes() {
    let dir = folder();
    qemu_create(dir.path(), &["-f", "qcow2", "a", "10M"]);
    let ran = qcheck(dir.path(), &["check", "-r", "all", "--dry-run", "a"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.ends_with("\nA repair would write nothing.\n"), "{}", ran.out);
}

#[test]
fn no_more_writes_are_listed_than_asked_for() {
    let dir = folder();
    damaged(dir.path(), "a");
    let args = ["check", "-r", "all", "--dry-run", "--max-findings", "1", "a"];
    let ran = qcheck(dir.path(), &args);
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("  write")).count(), 1);
    assert!(ran.out.contains(" more writes are not listed."), "{}", ran.out);
}

#[test]
fn a_program_gets_a_hundred_thousand_writes() {
    let dir = folder();
    // A damaged entry in each of many tables.
    let entries = 1200_u64;
    let mut image = Builder::new(entries << 15).cluster_bits(9);
    image.contents.extend((0..entries).map(|n| (n * 64, Content::Data(1))));
    let mut image = image.build().bytes;
    for table in 0..entries {
        let at = l2_entry_at(&image, table << 15);
        let reserved = be64(&image, at) | 1 << 57;
        poke(&mut image, at, 8, reserved);
    }
    fs::write(dir.path().join("a"), image).unwrap();
    let ran = qcheck(dir.path(), &["check", "-r", "all", "--dry-run", "--output", "json", "a"]);
    let value: Value = serde_json::from_str(&ran.out).expect("JSON");
    let stages = value["plan"]["stages"].as_array().expect("stages").iter();
    let writes: usize = stages.map(|stage| stage["writes"].as_array().expect("writes").len()).sum();
    assert!(writes > entries as usize, "{writes}");
    let ran = qcheck(dir.path(), &["check", "-r", "all", "--dry-run", "a"]);
    assert!(ran.out.lines().count() > entries as usize);
}

#[test]
fn a_plan_is_made_of_an_image_that_others_read_and_that_is_read_only() {
    let dir = folder();
    damaged(dir.path(), "a");
    let reader = FileStorage::open_read(&dir.path().join("a")).unwrap();
    lock(&reader, Access::Read).unwrap();
    let mut permissions = fs::metadata(dir.path().join("a")).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(dir.path().join("a"), permissions).unwrap();
    assert_eq!(qcheck(dir.path(), &["check", "-r", "all", "--dry-run", "a"]).code, 2);
    assert_eq!(qcheck(dir.path(), &["check", "-r", "all", "a"]).code, 1);
}

#[test]
fn a_plan_is_for_repairs_only_and_has_nothing_to_undo() {
    let dir = folder();
    damaged(dir.path(), "a");
    for args in
        [&["check", "--dry-run", "a"][..], &["check", "--dry-run", "-r", "all", "--undo", "u", "a"]]
    {
        assert_eq!(qcheck(dir.path(), args).code, 1, "{args:?}");
    }
    assert!(!dir.path().join("u").exists());
}

#[test]
fn a_plan_can_be_made_of_an_image_in_use_and_a_repair_cannot() {
    let dir = folder();
    damaged(dir.path(), "a");
    let other = FileStorage::open_write(&dir.path().join("a")).unwrap();
    lock(&other, Access::Write).unwrap();
    let planned = qcheck(dir.path(), &["check", "-U", "-r", "all", "--dry-run", "a"]);
    assert_eq!(planned.code, 2, "{}", planned.err);
    assert!(planned.out.contains("nothing was written"), "{}", planned.out);
    assert_eq!(qcheck(dir.path(), &["check", "-r", "all", "--dry-run", "a"]).code, 1);
    let refused = qcheck(dir.path(), &["check", "-U", "-r", "all", "a"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("-U reads an image that may change"), "{}", refused.err);
}
