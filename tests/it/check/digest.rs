//! `check --digest`: one value for a disk, whatever holds it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qcheck::check::{CheckOptions, survey};
use qcheck::crypt::Key;
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt};
use qcheck::verify::{Algorithm, Files, Wanted, digests};
use serde_json::Value;

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{be64, l2_entry_at, poke};
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::rng::Rng;

/// sha256sum's digest of a file.
fn sha256(folder: &Path, name: &str) -> String {
    let output = Command::new("sha256sum").arg(name).current_dir(folder).output();
    let output = output.expect("sha256sum starts").stdout;
    String::from_utf8(output).expect("hexadecimal digits")[..64].to_owned()
}

fn blake3(folder: &Path, name: &str) -> String {
    blake3::hash(&fs::read(folder.join(name)).unwrap()).to_hex().to_string()
}

/// The disk's digest in JSON; the check must end with 0.
fn digest(folder: &Path, algorithm: &str, image: &str) -> Value {
    let args = ["check", "--output", "json", "--digest", algorithm, image];
    let ran = qcheck(folder, &args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{image}");
    serde_json::from_str::<Value>(&ran.out).expect("JSON")["digest"].clone()
}

/// Real qemu-img makes `image` from disk.raw.
fn convert(folder: &Path, options: &[&str], image: &str) {
    let args = [&["convert", "-f", "raw", "-O", "qcow2"], options, &["disk.raw", image]].concat();
    qemu_ok(folder, "qemu-img", &args);
}

/// A disk with runs of data among zeroes.
fn write_disk(folder: &Path, size: u64) {
    let mut rng = Rng::new(size);
    let mut bytes = vec![0; size as usize];
    let mut at = rng.below(100_000) as usize;
    while at < bytes.len() {
        let end = bytes.len().min(at + 1 + rng.below(200_000) as usize);
        // Bytes that can be compressed.
        bytes[at..end].iter_mut().for_each(|byte| *byte = (rng.next() >> 60) as u8);
        at = end + rng.below(2_000_000) as usize;
    }
    fs::write(folder.join("disk.raw"), bytes).unwrap();
}

#[test]
fn a_disk_has_one_digest_whatever_holds_it() {
    let variants: [&[&str]; 9] = [
        &[],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=128k,extended_l2=on"],
        &["-o", "preallocation=metadata"],
        &["-o", "data_file=plain.data"],
        &["-o", "data_file=raw.data,data_file_raw=on"],
    ];
    for size in [5 << 20, (3 << 20) + 512 * 77, 1 << 20, 3584] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        write_disk(folder, size);
        let mut images = vec!["disk.raw".to_owned(), "overlay".to_owned(), "on-raw".to_owned()];
        for (number, options) in variants.iter().enumerate() {
            let image = format!("image{number}");
            convert(folder, options, &image);
            images.push(image);
        }
        qemu_create(folder, &["-f", "qcow2", "-b", "image1", "-F", "qcow2", "overlay"]);
        qemu_create(folder, &["-f", "qcow2", "-b", "disk.raw", "-F", "raw", "on-raw"]);
        for (algorithm, value) in
            [("sha256", sha256(folder, "disk.raw")), ("blake3", blake3(folder, "disk.raw"))]
        {
            for image in &images {
                let digest = digest(folder, algorithm, image);
                assert_eq!(digest["value"], value, "{algorithm} of {image}, {size} bytes");
                assert_eq!(digest["algorithm"], algorithm);
                assert_eq!(digest["size"], size);
            }
        }
    }
}

#[test]
fn a_chain_of_images_of_other_sizes_has_the_digest_of_what_is_read_through_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write_disk(folder, 3 << 20);
    convert(folder, &["-c", "-o", "cluster_size=2M"], "base");
    qemu_create(folder, &["-f", "qcow2", "-b", "base", "-F", "qcow2", "middle", "2M"]);
    qemu_io(folder, "middle", "write -P 5 1000k 100k");
    qemu_create(folder, &["-f", "qcow2", "-b", "middle", "-F", "qcow2", "top", "4M"]);
    qemu_io(folder, "top", "write -z 300k 500k");
    qemu_ok(folder, "qemu-img", &["convert", "-O", "raw", "top", "top.raw"]);
    assert_eq!(digest(folder, "sha256", "top")["value"], sha256(folder, "top.raw"));
    assert_eq!(digest(folder, "blake3", "top")["value"], blake3(folder, "top.raw"));
}

#[test]
fn every_snapshot_has_a_digest_and_a_size_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "image", "2M"]);
    qemu_io(folder, "image", "write -P 1 0 1M");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "first", "image"]);
    qemu_io(folder, "image", "write -P 2 512k 1M");
    qemu_ok(folder, "qemu-img", &["snapshot", "-c", "second", "image"]);
    let mut expected = Vec::new();
    for name in ["first", "second"] {
        qemu_ok(folder, "qemu-img", &["convert", "-l", name, "-O", "raw", "image", name]);
        expected.push((sha256(folder, name), blake3(folder, name)));
    }
    // The disk is longer now, the snapshots' are not.
    qemu_ok(folder, "qemu-img", &["resize", "image", "3M"]);
    qemu_io(folder, "image", "write -P 3 2M 1M");
    for (number, (sha256, blake3)) in expected.iter().enumerate() {
        for (algorithm, value) in [("sha256", sha256), ("blake3", blake3)] {
            let args = ["check", "--output", "json", "--digest", algorithm, "image"];
            let value_of: Value = serde_json::from_str(&qcheck(folder, &args).out).unwrap();
            let snapshot = &value_of["snapshots"][number];
            assert_eq!(snapshot["id"], (number + 1).to_string());
            assert_eq!(snapshot["name"], ["first", "second"][number]);
            assert_eq!(snapshot["digest"]["value"], *value);
            assert_eq!(snapshot["digest"]["size"], 2 << 20);
            assert_eq!(value_of["digest"]["size"], 3 << 20);
        }
    }
    let out = qcheck(folder, &["check", "--digest", "sha256", "image"]).out;
    assert!(out.contains(&format!("\nsha256 of snapshot 1 (first): {}\n", expected[0].0)), "{out}");
    assert!(
        out.contains(&format!("\nsha256 of snapshot 2 (second): {}\n", expected[1].0)),
        "{out}"
    );
}

#[test]
fn snapshots_that_share_most_of_their_data_have_digests_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write_disk(folder, 8 << 20);
    convert(folder, &["-c"], "base");
    qemu_create(folder, &["-f", "qcow2", "-b", "base", "-F", "qcow2", "image"]);
    let mut rng = Rng::new(7);
    let mut expected = Vec::new();
    for number in 0..6 {
        let name = format!("s{number}");
        for _ in 0..rng.below(4) {
            let (at, byte) = (rng.below(8000), rng.below(256));
            let write = ["write -z".to_owned(), format!("write -P {byte}"), "discard".into()];
            let what = &write[rng.below(3) as usize];
            qemu_io(folder, "image", &format!("{what} {at}k 100k"));
        }
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", &name, "image"]);
        qemu_ok(folder, "qemu-img", &["convert", "-l", &name, "-O", "raw", "image", &name]);
        expected.push(blake3(folder, &name));
    }
    let args = ["check", "--output", "json", "--digest", "blake3", "image"];
    let value: Value = serde_json::from_str(&qcheck(folder, &args).out).unwrap();
    let snapshots = value["snapshots"].as_array().unwrap();
    let found: Vec<&Value> = snapshots.iter().map(|s| &s["digest"]["value"]).collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
    assert_eq!(value["digest"]["value"], expected[5]);
}

#[test]
fn what_snapshots_share_is_read_once_for_blake3() {
    let mut image = Builder::new(8 << 20).cluster_bits(16).data(0..100, 7);
    for number in 0..10 {
        image = image.snapshot(Snapshot::shared(&format!("number {number}")));
    }
    let bytes = image.build().bytes;
    let data = be64(&bytes, l2_entry_at(&bytes, 0)) & 0x00ff_ffff_ffff_fe00;
    let file = Arc::new(Counted {
        bytes: MemoryStorage::new(bytes),
        place: data,
        times: AtomicU64::new(0),
    });
    let options = CheckOptions::default();
    let mut found = survey(file.as_ref(), &options, &Silent).unwrap();
    let files =
        Files { path: Path::new("image"), backing: None, data_file: None, key: &Key::default() };
    let wanted = Wanted { algorithm: Algorithm::Blake3, max_bytes: None, snapshots: true };
    let source: Arc<dyn ReadAt> = file.clone();
    let digests = digests(&source, &mut found, &files, wanted, &options, &Silent);
    let active = digests.active.expect("a digest").hex();
    let others: Vec<String> =
        digests.snapshots.iter().map(|s| s.digest.as_ref().expect("a digest").hex()).collect();
    assert_eq!(others, vec![active; 10]);
    assert_eq!(file.times.load(Ordering::Relaxed), 1);
}

/// Counts how often one byte is read.
struct Counted {
    bytes: MemoryStorage,
    place: u64,
    times: AtomicU64,
}

impl ReadAt for Counted {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let there = (offset..offset + buf.len() as u64).contains(&self.place);
        self.times.fetch_add(u64::from(there), Ordering::Relaxed);
        self.bytes.read_at(offset, buf)
    }
}

#[test]
fn of_many_damaged_clusters_the_first_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let packed = (0..64).map(|n| (n * 256, Content::Compressed(9)));
    let mut image = Builder::new(64 << 20);
    image.contents.extend(packed);
    let mut bytes = image.build().bytes;
    for guest in 20..64 {
        let at = be64(&bytes, l2_entry_at(&bytes, guest << 20)) & 0xffff_ffff;
        poke(&mut bytes, at as usize, 8, u64::MAX);
    }
    fs::write(dir.path().join("image"), bytes).unwrap();
    for _ in 0..10 {
        let (code, _, found) = messages(dir.path(), &["image"], "no-digest");
        assert_eq!((code, found.len()), (2, 1));
        assert!(found[0].contains("guest data from 0x1400000 on"), "{found:?}");
    }
}

#[test]
fn a_snapshots_name_passes_for_no_other_line() {
    let dir = tempfile::tempdir().unwrap();
    let image = Builder::new(1 << 20).snapshot(Snapshot::shared("x): 0\nsha256: 0"));
    fs::write(dir.path().join("image"), image.build().bytes).unwrap();
    let out = qcheck(dir.path(), &["check", "--digest", "sha256", "image"]).out;
    assert_eq!(out.lines().filter(|line| line.starts_with("sha256: ")).count(), 1, "{out}");
    assert!(out.contains("(x): 0\\nsha256: 0): "), "{out}");
}

#[test]
fn a_raw_image_has_a_digest_and_nothing_to_check() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write_disk(folder, 2 << 20);
    let value = sha256(folder, "disk.raw");
    let ran = qcheck(folder, &["check", "-f", "raw", "--digest", "sha256", "disk.raw"]);
    assert_eq!((ran.code, ran.out), (0, format!("sha256: {value}\n")));
    assert_eq!(qcheck(folder, &["check", "--data", "disk.raw"]).code, 63);
    let ran = qcheck(folder, &["check", "-q", "--digest", "sha256", "disk.raw"]);
    assert_eq!((ran.code, ran.out), (0, format!("sha256: {value}\n")), "it was asked for");
    fs::write(folder.join("other"), b"QED\0 and more").unwrap();
    assert_eq!(qcheck(folder, &["check", "--digest", "sha256", "other"]).code, 63);
    // A disk has whole sectors.
    fs::write(folder.join("odd"), [7; 1000]).unwrap();
    qemu_ok(folder, "qemu-img", &["convert", "-f", "raw", "-O", "raw", "odd", "even"]);
    assert_eq!(digest(folder, "sha256", "odd")["value"], sha256(folder, "even"));
    fs::write(folder.join("empty"), []).unwrap();
    assert_eq!(digest(folder, "sha256", "empty")["value"], sha256(folder, "empty"));
    assert_eq!(digest(folder, "blake3", "empty")["value"], blake3(folder, "empty"));
}

#[test]
fn many_images_have_a_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write_disk(folder, 1 << 20);
    convert(folder, &[], "image");
    let value = sha256(folder, "disk.raw");
    let ran = qcheck(folder, &["check", "--digest", "sha256", "image", "disk.raw"]);
    let expected = format!(
        "image: no errors\nimage: sha256: {value}\ndisk.raw: digest of raw\ndisk.raw: sha256: \
         {value}\n2 images: 1 clean, 1 digest\n"
    );
    assert_eq!((ran.code, ran.out), (0, expected));
    let args = ["check", "--output", "ndjson", "--digest", "blake3", "image", "disk.raw"];
    let ran = qcheck(folder, &args);
    let value = blake3(folder, "disk.raw");
    for (line, verdict) in ran.out.lines().zip(["clean", "digest"]) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["digest"]["value"], &line["verdict"]),
            (&value.clone().into(), &verdict.into())
        );
    }
}

/// The messages of all findings with this code.
fn messages(folder: &Path, args: &[&str], code: &str) -> (i32, Value, Vec<String>) {
    let args = [&["check", "--output", "json", "--digest", "sha256"], args].concat();
    let ran = qcheck(folder, &args);
    let value: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let findings = value["findings"].as_array().cloned().unwrap_or_default();
    let of_code = findings.iter().filter(|f| f["code"] == code);
    let messages = of_code.map(|f| f["message"].as_str().unwrap().to_owned()).collect();
    (ran.code, value, messages)
}

#[test]
fn a_disk_that_cannot_be_read_whole_has_no_digest_and_a_finding_gives_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let clusters = Builder::new(1 << 20).at(3, Content::Compressed(9)).data(0..2, 5);
    let mut bytes = clusters.clone().snapshot(Snapshot::own("old", &[(0, Content::Data(1))]));
    bytes.size = 1 << 20;
    let mut bytes = bytes.build().bytes;
    let entry = l2_entry_at(&bytes, 3 << 12);
    let at = be64(&bytes, entry) & 0xffff_ffff;
    poke(&mut bytes, at as usize, 8, u64::MAX);
    fs::write(folder.join("broken"), bytes).unwrap();
    let (code, value, found) = messages(folder, &["broken"], "no-digest");
    assert_eq!((code, found.len()), (2, 1), "{value}");
    assert!(
        found[0].contains("guest data from 0x3000 on") && found[0].contains("decompressed"),
        "{found:?}"
    );
    assert!(value["digest"].is_null(), "{value}");
    assert!(value["snapshots"][0]["digest"]["value"].is_string(), "{value}");

    let missing = clusters.clone().backing("nowhere", Some("raw")).build().bytes;
    fs::write(folder.join("missing"), missing).unwrap();
    let (code, _, found) = messages(folder, &["missing"], "no-digest");
    assert_eq!((code, found.len()), (1, 1));
    assert!(found[0].contains("nowhere"), "{found:?}");

    let mut locked = clusters;
    locked.crypt_method = 1;
    fs::write(folder.join("locked"), locked.build().bytes).unwrap();
    let (code, _, found) = messages(folder, &["locked"], "no-digest");
    assert_eq!((code, found.len()), (1, 1));
    assert!(found[0].contains("encrypted"), "{found:?}");
    assert!(qcheck(folder, &["check", "--digest", "sha256", "locked"]).err.contains("encrypted"));
}

#[test]
fn a_policy_bounds_what_is_hashed_and_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write_disk(folder, 1 << 20);
    let image = Builder::new(1 << 20).backing("disk.raw", Some("raw")).build().bytes;
    fs::write(folder.join("overlay"), image).unwrap();
    let (code, _, found) = messages(folder, &["--policy", "untrusted", "overlay"], "no-digest");
    assert_eq!((code, found.len()), (4, 1));
    assert!(found[0].contains("the policy denies 'disk.raw'"), "{found:?}");
    let (code, ..) = messages(folder, &["overlay"], "no-digest");
    assert_eq!(code, 0);

    fs::write(folder.join("huge"), Builder::new(1 << 55).cluster_bits(21).build().bytes).unwrap();
    let args = ["--max-virtual-size", "1G", "huge"];
    let (code, _, found) = messages(folder, &args, "no-digest");
    assert_eq!((code, found.len()), (4, 1));
}

#[test]
fn a_repair_takes_neither_data_nor_digest() {
    let dir = tempfile::tempdir().unwrap();
    qemu_create(dir.path(), &["-f", "qcow2", "image", "1M"]);
    for option in ["--data", "--digest=sha256"] {
        let ran = qcheck(dir.path(), &["check", "-r", "all", option, "image"]);
        assert_eq!(ran.code, 1, "{ran:?}");
    }
    assert_eq!(qcheck(dir.path(), &["check", "--digest", "md5", "image"]).code, 1);
}

#[test]
fn many_snapshots_with_long_names_take_no_longer_than_their_table() {
    let long = |n: u32| Snapshot::shared(&format!("{n}-{}", "n".repeat(60_000)));
    let builder = (0..300).fold(Builder::new(8192).data(0..1, 0x11), |b, n| b.snapshot(long(n)));
    let image = builder.build().bytes;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), image).unwrap();
    let begun = std::time::Instant::now();
    let ran = qcheck(dir.path(), &["check", "--digest", "sha256", "a"]);
    assert_eq!(ran.out.matches("sha256 of snapshot").count(), 300, "{}", ran.err);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
