//! What qemu-img 10.0.2 printed for the images of `tests/data`, qcheck prints today.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::programs::run::{Ran, qcheck};

fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

/// Runs qcheck where the image is, so that it is named as it was to qemu-img.
fn check(name: &str, options: &[&str]) -> Ran {
    let image = format!("{name}.qcow2");
    qcheck(&data(), &[&["check"], options, &[image.as_str()]].concat())
}

/// The sections of an expectation, by the word after `===`.
fn expected(name: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(data().join(format!("{name}.expected"))).expect("an expectation");
    let sections = text.split("=== ").skip(1);
    sections
        .map(|section| {
            let (title, body) = section.split_once('\n').expect("a title line");
            (title.to_owned(), body.to_owned())
        })
        .collect()
}

fn assert_golden(name: &str) {
    let expected = expected(name);
    let image = data().join(format!("{name}.qcow2"));
    let before = fs::read(&image).expect("the image");
    let qemu = Ran {
        code: expected["exit"].trim().parse().expect("a number"),
        out: expected["stdout"].clone(),
        err: expected["stderr"].clone(),
    };
    let own = check(name, &["-f", "qcow2"]);
    assert_eq!(own.code, qemu.code, "{own:#?}");
    assert_eq!(own.out, qemu.out);
    assert_eq!(own.finding_lines(), qemu.finding_lines());
    let json = check(name, &["--output", "json"]);
    let wanted: Value = serde_json::from_str(&expected["json"]).expect("golden JSON");
    assert_eq!(json.json().expect("JSON"), wanted);
    assert_eq!(json.code, qemu.code, "the exit code does not depend on the output");
    assert_eq!(fs::read(&image).expect("the image"), before, "a check changed the image");
}

#[test]
fn a_version_2_image_reads_as_it_did_to_qemu_img() {
    assert_golden("v2");
}

#[test]
fn a_version_3_image_reads_as_it_did_to_qemu_img() {
    assert_golden("v3");
}

#[test]
fn snapshots_and_vm_state_read_as_they_did_to_qemu_img() {
    assert_golden("snapshots");
}

#[test]
fn zlib_clusters_read_as_they_did_to_qemu_img() {
    assert_golden("zlib");
}

#[test]
fn zstd_clusters_read_as_they_did_to_qemu_img() {
    assert_golden("zstd");
}

#[test]
fn subclusters_read_as_they_did_to_qemu_img() {
    assert_golden("subclusters");
}

#[test]
fn bitmaps_read_as_they_did_to_qemu_img() {
    assert_golden("bitmaps");
}

#[test]
fn a_dirty_image_reads_as_it_did_to_qemu_img() {
    assert_golden("dirty");
}

#[test]
fn a_leaking_image_reads_as_it_did_to_qemu_img() {
    assert_golden("leaks");
}

#[test]
fn the_damaged_image_of_the_readme_reads_as_it_did_to_qemu_img() {
    assert_golden("damaged");
}

#[test]
fn every_golden_image_has_a_test() {
    let source = include_str!("golden.rs");
    let mut images = 0;
    for entry in fs::read_dir(data()).expect("the golden images") {
        let path = entry.expect("a directory entry").path();
        if path.extension().is_some_and(|e| e == "qcow2") {
            let name = path.file_stem().and_then(|s| s.to_str()).expect("a UTF-8 name");
            assert!(source.contains(&format!("assert_golden(\"{name}\")")), "{name} has no test");
            images += 1;
        }
    }
    assert!(images >= 10, "only {images} golden images");
}
