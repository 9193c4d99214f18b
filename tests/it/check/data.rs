//! `check --data`: each finding with an image that has it and one that has not.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use qcheck::check::{CheckOptions, Finding, survey};
use qcheck::crypt::Key;
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt};
use qcheck::verify::{Files, deep};

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{be64, l2_entry_at};
use crate::support::programs::run::{Ran, qcheck, qemu, qemu_create, qemu_io, qemu_ok};

const SIZE: u64 = 1 << 20;

fn builder() -> Builder {
    Builder::new(SIZE).data(0..3, 7)
}

/// `check --data` in JSON: the exit code, and the findings.
fn verify(folder: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let ran = qcheck(folder, &[&["check", "--data", "--output", "json"], args].concat());
    let value: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, value["findings"].as_array().cloned().unwrap_or_default())
}

/// The only finding of an image that a plain check finds nothing wrong with.
fn only(folder: &Path, image: &str) -> (i32, Value) {
    let plain = qcheck(folder, &["check", image]);
    assert_eq!((plain.code, plain.err.as_str()), (0, ""), "{image}");
    let (code, mut findings) = verify(folder, &[image]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    (code, findings.remove(0))
}

fn assert_sound(folder: &Path, image: &str) {
    let (code, findings) = verify(folder, &[image]);
    assert_eq!((code, findings), (0, vec![]), "{image}");
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).unwrap();
}

/// Where the compressed data of a guest offset begins, in an image of 4 KiB clusters.
fn packed_at(image: &[u8], guest: u64) -> usize {
    (be64(image, l2_entry_at(image, guest)) & ((1 << 58) - 1)) as usize
}

#[test]
fn clean_images_of_every_kind_have_nothing_wrong_with_their_data() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut checked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".qcow2") {
            let plain = qcheck(&folder, &["check", "--output", "json", &name]);
            let data = qcheck(&folder, &["check", "--data", "--output", "json", &name]);
            assert_eq!(data, plain, "{name}");
            checked += 1;
        }
    }
    assert!(checked > 5);
}

#[test]
fn a_damaged_stream_is_reported_with_its_offset_and_guest_range() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for kind in ["zlib", "zstd"] {
        qemu_create(folder, &["-f", "qcow2", "plain", "1M"]);
        qemu_io(folder, "plain", "write -P 3 128k 256k");
        let option = format!("compression_type={kind}");
        let args = ["convert", "-c", "-O", "qcow2", "-o", &option, "plain", "image"];
        qemu_ok(folder, "qemu-img", &args);
        assert_sound(folder, "image");
        let mut bytes = fs::read(folder.join("image")).unwrap();
        let at = (be64(&bytes, l2_entry_at(&bytes, 192 << 10)) & ((1 << 54) - 1)) as usize;
        bytes[at..at + 8].fill(0xff);
        write(folder, "image", &bytes);
        let (code, finding) = only(folder, "image");
        assert_eq!((code, finding["code"].as_str()), (2, Some("compressed-data")), "{kind}");
        assert_eq!(finding["guest"]["offset"], 192 << 10);
        assert_eq!(finding["guest"]["length"], 64 << 10);
        let message = finding["message"].as_str().unwrap();
        assert!(message.contains(&format!("compressed data at {at:#x} is damaged")), "{message}");
    }
}

#[test]
fn a_stream_that_yields_less_than_a_cluster_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = builder().at(9, Content::Compressed(5)).build().bytes;
    write(dir.path(), "image", &bytes);
    assert_sound(dir.path(), "image");
    // One stored block, the last one, of 100 bytes.
    let at = packed_at(&bytes, 9 << 12);
    bytes[at..at + 5].copy_from_slice(&[1, 100, 0, !100, 0xff]);
    write(dir.path(), "image", &bytes);
    let (code, finding) = only(dir.path(), "image");
    assert_eq!(code, 2);
    let message = finding["message"].as_str().unwrap();
    assert!(message.ends_with("ends after 100 bytes of its cluster of 4096"), "{message}");
    let ran = qcheck(dir.path(), &["check", "--data", "--explain", "image"]);
    assert!(ran.out.contains("guest data 0x9000 to 0x9fff"), "{}", ran.out);
    assert!(ran.out.contains("Guest data at risk: 4096 bytes"), "{}", ran.out);
    let sarif = qcheck(dir.path(), &["check", "--data", "--output", "sarif", "image"]);
    assert!(sarif.code == 2 && sarif.out.contains("\"ruleId\": \"compressed-data\""));
    let junit = qcheck(dir.path(), &["check", "--data", "--output", "junit", "image"]);
    assert!(junit.code == 2 && junit.out.contains("compressed-data: ERROR L2 entry 9"));
    let many = qcheck(dir.path(), &["check", "--data", "image", "image"]);
    assert_eq!((many.code, many.out.matches("image: 1 error\n").count()), (2, 2));
}

#[test]
fn damage_that_only_a_snapshot_reads_is_reported_of_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let own = Snapshot::own("old", &[(4, Content::Compressed(5)), (5, Content::Data(3))]);
    let bytes = builder().snapshot(own).build().bytes;
    write(dir.path(), "image", &bytes);
    assert_sound(dir.path(), "image");
    // The stored block's header, which nothing else in this image looks like.
    let head = [1, 0, 0x10, 0xff, 0xef];
    let at = bytes.windows(5).position(|window| window == head).unwrap();
    let mut bytes = bytes;
    bytes[at] = 7;
    write(dir.path(), "image", &bytes);
    let (code, finding) = only(dir.path(), "image");
    assert_eq!((code, &finding["guest"]["snapshot"]), (2, &"1".into()), "{finding}");
    assert_eq!(finding["guest"]["offset"], 4 << 12);
}

#[test]
fn data_past_the_end_of_the_external_data_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let built = builder().data_file("file.data", false).build();
    let data = built.data.unwrap();
    write(dir.path(), "image", &built.bytes);
    write(dir.path(), "file.data", &data);
    assert_sound(dir.path(), "image");
    write(dir.path(), "file.data", &data[..2 << 12]);
    let (code, finding) = only(dir.path(), "image");
    assert_eq!((code, finding["code"].as_str()), (2, Some("data-beyond-end")));
    assert_eq!(finding["guest"]["offset"], 2 << 12);
}

#[test]
fn an_external_data_file_must_be_there_and_a_raw_one_as_long_as_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let built = builder().data_file("file.data", true).build();
    write(folder, "image", &built.bytes);
    let (code, finding) = only(folder, "image");
    assert_eq!((code, finding["code"].as_str()), (2, Some("data-file")), "{finding}");
    let mut data = built.data.unwrap();
    write(folder, "file.data", &data);
    let (code, finding) = only(folder, "image");
    assert_eq!((code, finding["code"].as_str()), (2, Some("data-file")), "{finding}");
    assert!(finding["message"].as_str().unwrap().contains("has 12288 bytes"), "{finding}");
    data.resize(SIZE as usize, 0);
    write(folder, "file.data", &data);
    assert_sound(folder, "image");
    fs::remove_file(folder.join("file.data")).unwrap();
    fs::create_dir(folder.join("file.data")).unwrap();
    assert_eq!(only(folder, "image").0, 2);
}

#[test]
fn every_backing_file_must_be_there_and_of_its_format() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let over = |name: &str, format| builder().backing(name, format).build().bytes;
    write(folder, "base", &builder().build().bytes);
    write(folder, "raw", &[0; 4096]);
    write(folder, "sound", &over("base", Some("qcow2")));
    write(folder, "on-raw", &over("raw", Some("raw")));
    write(folder, "by-guess", &over("raw", None));
    write(folder, "long", &over("sound", Some("qcow2")));
    for image in ["sound", "on-raw", "by-guess", "long"] {
        assert_sound(folder, image);
    }
    write(folder, "vm.vmdk", b"KDMV and more");
    std::fs::create_dir(folder.join("folder")).unwrap();
    let cases = [
        ("nowhere", Some("raw"), 2, "nowhere"),
        ("raw", Some("qcow2"), 2, "not of the recorded format, 'qcow2'"),
        ("base", Some("vmdk"), 2, "not of the recorded format, 'vmdk'"),
        ("base", None, 2, "not recorded"),
        ("image", Some("qcow2"), 2, "comes back"),
        ("folder", Some("raw"), 2, "is a directory"),
        ("/dev/zero", Some("raw"), 2, "is a character device"),
        ("vm.vmdk", Some("vmdk"), 1, "vmdk is not supported"),
        ("ssh://host/disk", Some("raw"), 1, "does not name a local file"),
        ("nbd://host/disk", Some("raw"), 1, "is remote"),
    ];
    for (name, format, expected, text) in cases {
        for image in ["image", "above"] {
            write(folder, "image", &over(name, format));
            write(folder, "above", &over("image", Some("qcow2")));
            let (code, finding) = only(folder, image);
            assert_eq!(
                (code, finding["code"].as_str()),
                (expected, Some("backing-file")),
                "{name}"
            );
            let message = finding["message"].as_str().unwrap();
            assert!(message.contains(text), "{image}, {name}: {message}");
        }
    }
    // Its backing file has a data file of its own.
    write(folder, "image", &builder().data_file("gone.data", false).build().bytes);
    let (code, finding) = only(folder, "above");
    assert!(code == 2 && finding["message"].as_str().unwrap().contains("gone.data"), "{finding}");
}

#[test]
fn a_policy_leaves_named_files_closed_and_reports_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(folder, "backing", &builder().backing("trap", Some("raw")).build().bytes);
    write(folder, "data-file", &builder().data_file("trap", false).build().bytes);
    // Whoever opens it waits for ever.
    assert!(
        std::process::Command::new("mkfifo").arg(folder.join("trap")).status().unwrap().success()
    );
    for word in ["backing", "data-file"] {
        for policy in [["--policy", "untrusted"], ["--deny", word], ["--deny", "data-file,backing"]]
        {
            let (code, findings) = verify(folder, &[policy[0], policy[1], word]);
            assert_eq!((code, &findings[0]["code"]), (4, &"not-opened".into()), "{findings:?}");
            let args = ["check", "--data", policy[0], policy[1], word];
            let Ran { code, err, .. } = qcheck(folder, &args);
            assert!(code == 4 && err.contains("was not opened"), "{err}");
            let args = ["check", "--data", policy[0], policy[1], word, word];
            let Ran { code, err, .. } = qcheck(folder, &args);
            assert!(code == 4 && err.matches("was not opened").count() == 2, "{err}");
        }
    }
}

#[test]
fn bits_of_a_bitmap_past_the_disks_end_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    // 256 clusters: 32 bytes of bits, in a cluster of 4096.
    write(dir.path(), "image", &builder().bitmap("dirty", 12, 0).build().bytes);
    assert_sound(dir.path(), "image");
    write(dir.path(), "image", &builder().bitmap("dirty", 12, 0x10).build().bytes);
    let (code, finding) = only(dir.path(), "image");
    assert_eq!((code, finding["code"].as_str()), (2, Some("bitmap-data")));
    assert!(finding["message"].as_str().unwrap().contains("dirty"), "{finding}");
    // Real bitmaps, with bits set to the last.
    qemu_create(dir.path(), &["-f", "qcow2", "real", "1000k"]);
    qemu_ok(dir.path(), "qemu-img", &["bitmap", "--add", "-g", "512", "real", "dirty"]);
    qemu_io(dir.path(), "real", "write 0 1000k");
    assert_sound(dir.path(), "real");
}

#[test]
fn two_bitmaps_of_one_name_are_reported_without_reading_data_and_the_later_one_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    qemu_create(folder, &["-f", "qcow2", "image", "1M"]);
    for name in ["first", "later"] {
        qemu_ok(folder, "qemu-img", &["bitmap", "--add", "image", name]);
    }
    let mut bytes = fs::read(folder.join("image")).unwrap();
    let at = bytes.windows(5).position(|name| name == b"later").unwrap();
    bytes[at..at + 5].copy_from_slice(b"first");
    write(folder, "image", &bytes);
    let theirs = qemu(folder, "qemu-img", &["check", "image"]);
    assert!(theirs.code == 1 && theirs.err.contains("already exists"), "{theirs:?}");
    let ran = qcheck(folder, &["check", "image"]);
    assert!(ran.code == 2 && ran.err.contains("an earlier bitmap has the same name"), "{ran:?}");
    let ran = qcheck(folder, &["check", "-r", "all", "--allow-data-loss", "image"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let info = qemu_ok(folder, "qemu-img", &["info", "image"]);
    assert_eq!(info.matches("name: first").count(), 1, "{info}");
}

#[test]
fn encrypted_data_is_read_and_not_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut locked = builder();
    locked.crypt_method = 1;
    write(dir.path(), "image", &locked.build().bytes);
    assert_sound(dir.path(), "image");
}

/// A file that cannot be read in some places, and that remembers how often each place was.
struct Worn {
    bytes: MemoryStorage,
    bad: Vec<Range<u64>>,
    reads: Mutex<Vec<Range<u64>>>,
}

impl ReadAt for Worn {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = offset + buf.len() as u64;
        self.reads.lock().unwrap().push(offset..end);
        if self.bad.iter().any(|bad| bad.start < end && offset < bad.end) {
            return Err(io::Error::other("the sector is worn"));
        }
        self.bytes.read_at(offset, buf)
    }
}

fn worn(bytes: Vec<u8>, bad: Vec<Range<u64>>) -> (Vec<Finding>, Vec<Range<u64>>) {
    let file = Worn { bytes: MemoryStorage::new(bytes), bad, reads: Mutex::default() };
    let options = CheckOptions::default();
    let mut survey = survey(&file, &options, &Silent).unwrap();
    file.reads.lock().unwrap().clear();
    let files =
        Files { path: Path::new("image"), backing: None, data_file: None, key: &Key::default() };
    deep(&file, &mut survey, &files, &options, &Silent);
    (survey.report.findings, file.reads.into_inner().unwrap())
}

#[test]
fn what_cannot_be_read_is_reported_cluster_by_cluster() {
    let image = builder().at(20, Content::Compressed(5)).bitmap("dirty", 12, 0).build().bytes;
    let entry = |guest: u64| be64(&image, l2_entry_at(&image, guest << 12)) & 0x00ff_ffff_ffff_fe00;
    let (plain, packed) = (entry(1), packed_at(&image, 20 << 12) as u64);
    let (found, _) =
        worn(image.clone(), vec![plain + 512..plain + 600, packed + 600..packed + 700]);
    let codes: Vec<&str> = found.iter().map(Finding::code).collect();
    assert_eq!(codes, ["data-unreadable", "data-unreadable"], "{found:?}");
    let lines: Vec<String> = found.iter().map(|f| f.line(0, qcheck::check::Verb::Tell)).collect();
    assert!(
        lines[0].starts_with("ERROR L2 entry 1 below L1 entry 0: could not read guest data at")
    );
    assert!(lines[1].contains("L2 entry 20 ") && lines[1].ends_with("worn"), "{lines:?}");
    let (found, _) = worn(image, vec![]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_many_snapshots_share_is_read_once() {
    let mut image = Builder::new(SIZE).data(0..40, 7).at(50, Content::Compressed(5));
    for number in 0..20 {
        image = image.snapshot(Snapshot::shared(&format!("number {number}")));
    }
    let bytes = image.build().bytes;
    let data = be64(&bytes, l2_entry_at(&bytes, 0)) & 0x00ff_ffff_ffff_fe00;
    let packed = packed_at(&bytes, 50 << 12) as u64;
    let (found, reads) = worn(bytes, vec![]);
    assert!(found.is_empty(), "{found:?}");
    for place in [data, data + (39 << 12), packed] {
        let times = reads.iter().filter(|read| read.contains(&place)).count();
        assert_eq!(times, 1, "{place:#x}: {reads:?}");
    }
}
