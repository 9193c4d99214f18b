//! A conversion reads through no entry that a check finds wrong: it is an error, and with `--salvage` a range that is listed.

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use crate::support::images::bytes::{be64, cluster_size, header, l1_entry_at, l2_entry_at, poke};
use crate::support::programs::run::{Ran, qcheck, qemu_create, qemu_io};

const CLUSTER: u64 = 65536;
/// The cluster whose entry is damaged.
const DAMAGED: u64 = 3;

fn convert(folder: &Path, args: &[&str]) -> Ran {
    qcheck(folder, &[&["convert"], args].concat())
}

/// The ranges that a salvage lists.
fn losses(folder: &Path, image: &str) -> Vec<Range<u64>> {
    let ran = convert(folder, &["--salvage", "--output", "json", image, "salvaged.raw"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{image}");
    let value: Value = serde_json::from_str(&ran.out).unwrap();
    let losses = value["losses"].as_array().unwrap().iter();
    let number = |loss: &Value, key: &str| loss[key].as_u64().unwrap();
    losses
        .map(|loss| number(loss, "offset")..number(loss, "offset") + number(loss, "length"))
        .collect()
}

/// An image whose first 16 clusters have data.
fn image(folder: &Path, options: &str) -> Vec<u8> {
    qemu_create(folder, &["-f", "qcow2", "-o", options, "image.qcow2", "2M"]);
    qemu_io(folder, "image.qcow2", "write -q -P 5 0 1M");
    let bytes = fs::read(folder.join("image.qcow2")).unwrap();
    assert_eq!(cluster_size(&bytes), CLUSTER);
    bytes
}

/// Converts an image with these bytes: without `--salvage` nothing is made, with it exactly this range is listed, and the
/// check finds the image wrong.
fn assert_wrong(folder: &Path, what: &str, bytes: &[u8], lost: &Range<u64>) {
    fs::write(folder.join("image.qcow2"), bytes).unwrap();
    let checked = qcheck(folder, &["check", "image.qcow2"]);
    assert_eq!(checked.code, 2, "{what}: {checked:?}");
    let ran = convert(folder, &["image.qcow2", "made.raw"]);
    assert!(ran.code == 1 && !ran.err.is_empty(), "{what}: {ran:?}");
    assert!(!folder.join("made.raw").exists(), "{what}");
    assert_eq!(losses(folder, "image.qcow2"), std::slice::from_ref(lost), "{what}");
    // What is not listed is there.
    let salvaged = fs::read(folder.join("salvaged.raw")).unwrap();
    for at in (0..1 << 20).step_by(CLUSTER as usize) {
        let kept = salvaged[at..at + CLUSTER as usize].iter().all(|&byte| byte == 5);
        assert!(kept || lost.contains(&(at as u64)), "{what}: {at:#x} is lost and not listed");
    }
}

#[test]
fn a_wrong_entry_is_an_error_and_listed_by_a_salvage() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let lost = DAMAGED * CLUSTER..(DAMAGED + 1) * CLUSTER;
    let sound = image(folder, "cluster_size=64k");
    let at = l2_entry_at(&sound, lost.start);
    let entry = be64(&sound, at);
    let past = (sound.len() as u64).next_multiple_of(CLUSTER) + 16 * CLUSTER;
    for (what, wrong) in [
        ("reserved bits", entry | 1 << 57),
        ("a reserved bit and the zero flag", 1 << 57 | 1),
        ("reserved low bits", entry | 2),
        ("zeroes past the end of the file", past | 1),
        ("data past the end of the file", past | 1 << 63),
        ("an offset inside a cluster", entry | 512),
        ("zeroes at an offset inside a cluster", entry | 512 | 1),
    ] {
        let mut bytes = sound.clone();
        poke(&mut bytes, at, 8, wrong);
        assert_wrong(folder, what, &bytes, &lost);
    }
    let sound = image(folder, "extended_l2=on,cluster_size=64k");
    let at = l2_entry_at(&sound, lost.start);
    for (what, entry, bitmap) in [
        ("the zero flag", be64(&sound, at) | 1, be64(&sound, at + 8)),
        ("zero and allocated", be64(&sound, at), u64::MAX),
        ("subclusters without a cluster", 0, 7),
    ] {
        let mut bytes = sound.clone();
        poke(&mut bytes, at, 8, entry);
        poke(&mut bytes, at + 8, 8, bitmap);
        assert_wrong(folder, what, &bytes, &lost);
    }
}

#[test]
fn a_table_in_a_wrong_place_is_an_error_and_listed_by_a_salvage() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let sound = image(folder, "cluster_size=64k");
    let at = l1_entry_at(&sound, 0);
    let entry = be64(&sound, at);
    let reftable = header(&sound, "refcount_table_offset");
    let refblock = be64(&sound, reftable as usize);
    let past = (sound.len() as u64).next_multiple_of(CLUSTER) + 16 * CLUSTER;
    for (what, wrong) in [
        ("a refcount block", refblock | 1 << 63),
        ("the refcount table", reftable | 1 << 63),
        ("the L1 table itself", header(&sound, "l1_table_offset") | 1 << 63),
        ("past the end of the file", past | 1 << 63),
        ("inside a cluster", entry | 512),
        ("reserved bits", entry | 1 << 56),
    ] {
        let mut bytes = sound.clone();
        poke(&mut bytes, at, 8, wrong);
        assert_wrong(folder, what, &bytes, &(0..2 << 20));
    }
}

#[test]
fn a_wrong_entry_of_a_backing_file_is_found_too() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let mut bytes = image(folder, "cluster_size=64k");
    qemu_create(folder, &["-f", "qcow2", "-b", "image.qcow2", "-F", "qcow2", "top.qcow2"]);
    let at = l2_entry_at(&bytes, DAMAGED * CLUSTER);
    poke(&mut bytes, at, 8, 1 << 57 | 1);
    fs::write(folder.join("image.qcow2"), bytes).unwrap();
    assert_eq!(convert(folder, &["top.qcow2", "made.raw"]).code, 1);
    let lost = DAMAGED * CLUSTER..(DAMAGED + 1) * CLUSTER;
    assert_eq!(losses(folder, "top.qcow2"), std::slice::from_ref(&lost));
}
