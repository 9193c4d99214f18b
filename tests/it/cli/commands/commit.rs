//! `qcheck commit` beside qemu-img: what it prints, and what image and base hold afterwards.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use qcheck::commit::{CommitOptions, Target, commit, find_base};
use qcheck::convert::Control;
use qcheck::error::{Error, Result};
use qcheck::image::{BackingPolicy, Image, Opened};
use qcheck::progress::Silent;
use qcheck::storage::{Capacity, MemoryStorage, ReadAt, Storage};

use crate::image::tools::{Disk, assert_no_error, assert_same, options, read_all};
use crate::support::programs::chains::{Layer, both, guest, make};
use crate::support::programs::run::{assert_clean, qcheck, qemu, qemu_create, qemu_io, qemu_ok};
use crate::support::storages::crash::{Op, WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

const DATA: &[&str] = &["write -q -P 1 0 512k", "write -q -P 2 700k 70k"];
const MORE: &[&str] = &["write -q -P 3 64k 130k", "write -q -z 450k 30k"];
const TOP: &[&str] =
    &["write -q -P 4 128k 128k", "write -q -z 320k 64k", "discard -q 0 64k", "write -q -P 5 3k 1k"];

/// Chains from the base up to `top`, each with the arguments of the commit.
const CHAINS: [(&[Layer], &[&str]); 17] = [
    (&[("base", "size=1M", DATA), ("top", "size=1M", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=1M", TOP)], &["-d"]),
    (&[("base", "size=1M", DATA), ("top", "size=2M", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=384k", TOP)], &[]),
    (&[("base", "raw 1M", DATA), ("top", "size=1M", TOP)], &[]),
    (&[("base", "raw 800k", DATA), ("top", "size=3M", TOP)], &["-t", "none"]),
    (&[("base", "size=1M,compat=0.10", DATA), ("top", "size=1M", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=1M,compat=0.10", TOP)], &[]),
    (&[("base", "size=1M,cluster_size=4k", DATA), ("top", "size=1M", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=1M,cluster_size=512", TOP)], &["-r", "100M"]),
    (&[("base", "size=1M,extended_l2=on", DATA), ("top", "size=1M", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=1M,extended_l2=on", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=1M,lazy_refcounts=on", TOP)], &[]),
    (&[("base", "size=1M", DATA), ("top", "size=1M,data_file=DATA", TOP)], &[]),
    (
        &[("base", "size=1M", DATA), ("mid", "size=1M", MORE), ("top", "size=1M", TOP)],
        &["-b", "base"],
    ),
    (
        &[("base", "size=1M", DATA), ("mid", "size=512k", MORE), ("top", "size=1M", TOP)],
        &["-b", "base"],
    ),
    (&[("base", "raw 1M", DATA), ("mid", "size=2M", MORE), ("top", "size=1M", TOP)], &["-q"]),
];

#[test]
fn chains_are_committed_as_by_qemu_img() {
    for (layers, args) in CHAINS {
        let what = format!("{layers:?} {args:?}");
        let args = [&["commit"], args, &["top"]].concat();
        let (folders, [real, own]) = both(|folder| make(folder, layers), &args);
        assert_eq!((own.code, &own.out), (0, &real.out), "{what}: {}{}", own.err, real.err);
        for &(name, how, _) in layers {
            let format = if how.starts_with("raw ") { "raw" } else { "qcow2" };
            let [real, own] = [0, 1].map(|n| guest(folders[n].path(), name, format));
            assert_same(&own, &real, &format!("{name} of {what}"));
            if format == "qcow2" {
                assert_clean(folders[1].path(), name);
            }
        }
        let bytes = |n: usize| fs::metadata(folders[n].path().join("top")).unwrap().len();
        assert!(bytes(1) <= bytes(0), "{what}: {} bytes, qemu-img {}", bytes(1), bytes(0));
    }
}

#[test]
fn zeroes_and_compressed_clusters_are_committed_without_data_for_zeroes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("base", "size=4M", DATA), ("top", "size=4M", &["write -q -z 128k 256k"])]);
    qemu_io(at, "top", "write -q -c -P 9 3M 128k");
    let before = guest(at, "top", "qcow2");
    assert_eq!(qcheck(at, &["commit", "top"]).out, "Image committed.\n");
    assert_same(&guest(at, "base", "qcow2"), &before, "base");
    let map = qemu_ok(at, "qemu-img", &["map", "--output=json", "base"]);
    let zero = r#""start": 131072, "length": 262144, "depth": 0, "present": true, "zero": true"#;
    assert!(map.contains(zero), "{map}");
}

#[test]
fn snapshots_and_bitmaps_of_the_image_stay_and_so_does_what_the_snapshot_holds() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("base", "size=1M", DATA), ("top", "size=1M", TOP)]);
    qemu_ok(at, "qemu-img", &["snapshot", "-c", "one", "top"]);
    qemu_ok(at, "qemu-img", &["bitmap", "--add", "top", "b"]);
    let old = guest(at, "top", "qcow2");
    qemu_io(at, "top", "write -q -P 8 0 256k");
    let now = guest(at, "top", "qcow2");
    assert_eq!(qcheck(at, &["commit", "top"]).code, 0);
    assert_same(&guest(at, "base", "qcow2"), &now, "base");
    assert_same(&guest(at, "top", "qcow2"), &now, "top");
    assert_clean(at, "top");
    let info = qemu_ok(at, "qemu-img", &["info", "top"]);
    assert!(info.contains("name: b\n") && info.contains("one"), "{info}");
    qemu_ok(at, "qemu-img", &["bitmap", "--remove", "top", "b"]);
    qemu_ok(at, "qemu-img", &["snapshot", "-a", "one", "top"]);
    // What the snapshot had of its own is there still; the rest is the base's.
    assert_eq!(guest(at, "top", "qcow2")[128 << 10..256 << 10], old[128 << 10..256 << 10]);
}

#[test]
fn errors_are_those_of_qemu_img() {
    let layers: &[Layer] = &[("base", "size=1M", DATA), ("top", "size=1M", TOP)];
    for (args, phrase) in [
        (&["commit", "base"][..], "Image does not have a backing file"),
        (&["commit", "-f", "raw", "top"], "Image does not have a backing file"),
        (&["commit", "-b", "other", "top"], "Did not find 'other' in the backing chain of 'top'"),
        (&["commit", "-b", "top", "top"], "Did not find 'top' in the backing chain of 'top'"),
        (&["commit", "-b", "", "top"], "Did not find '' in the backing chain of 'top'"),
        (&["commit", "none"], "Could not open 'none'"),
        (&["commit", "--image-opts", "-f", "qcow2", "x"], "mutually exclusive"),
    ] {
        let (_folders, [real, own]) = both(|folder| make(folder, layers), args);
        assert_eq!((real.code, own.code), (1, 1), "{args:?}");
        assert!(real.err.contains(phrase) && own.err.contains(phrase), "{args:?}: {}", own.err);
        assert_eq!(own.out, real.out);
    }
}

#[test]
fn a_base_is_found_by_its_stored_name_and_as_a_path_from_the_image() {
    for (name, code) in [("base", 0), ("./base", 0), ("link", 0), ("in/base", 1)] {
        let in_folder = |folder: &Path| {
            let inner = folder.join("in");
            fs::create_dir(&inner).unwrap();
            make(&inner, &[("base", "size=1M", DATA), ("top", "size=1M", TOP)]);
            std::os::unix::fs::symlink("base", inner.join("link")).unwrap();
        };
        let (_folders, [real, own]) = both(in_folder, &["commit", "-b", name, "in/top"]);
        assert_eq!((real.code, own.code), (code, code), "{name}: {}", own.err);
    }
}

#[test]
fn a_base_in_use_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("base", "size=1M", DATA), ("top", "size=1M", TOP)]);
    let before = fs::read(at.join("base")).unwrap();
    let mut reader = Command::new("qemu-io")
        .args(["-r", "-f", "qcow2", "base"])
        .current_dir(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its prompt comes when the image is open.
    let mut prompt = [0];
    std::io::Read::read_exact(reader.stdout.as_mut().unwrap(), &mut prompt).unwrap();
    let (real, own) = (qemu(at, "qemu-img", &["commit", "top"]), qcheck(at, &["commit", "top"]));
    drop(reader.stdin.take());
    reader.wait().unwrap();
    for ran in [real, own] {
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("Failed to get \"write\" lock"), "{}", ran.err);
    }
    assert!(before == fs::read(at.join("base")).unwrap());
}

#[test]
fn a_base_that_is_the_same_file_as_the_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    qemu_create(at, &["-f", "qcow2", "-u", "-b", "again", "-F", "qcow2", "top", "1M"]);
    fs::hard_link(at.join("top"), at.join("again")).unwrap();
    let before = fs::read(at.join("top")).unwrap();
    let ran = qcheck(at, &["commit", "top"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(before == fs::read(at.join("top")).unwrap(), "{}", ran.err);
}

#[test]
fn an_image_with_an_entry_past_the_end_of_its_file_is_not_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("base", "size=1M", DATA), ("top", "size=1M", &["write -q -P 4 0 256k"])]);
    let top = fs::OpenOptions::new().write(true).open(at.join("top")).unwrap();
    top.set_len(top.metadata().unwrap().len() - (128 << 10)).unwrap();
    let before = fs::read(at.join("top")).unwrap();
    let ran = qcheck(at, &["commit", "top"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("past the end of the file"), "{}", ran.err);
    assert!(fs::read(at.join("top")).unwrap() == before);
}

/// A log that notes, at each change, how long another log is.
struct After {
    inner: WriteLog,
    first: Arc<WriteLog>,
    lengths: Mutex<Vec<usize>>,
}

impl After {
    fn note(&self) {
        self.lengths.lock().unwrap().push(self.first.ops().len());
    }
}

impl ReadAt for After {
    fn len(&self) -> std::io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read_at(offset, buf)
    }
}

impl Storage for After {
    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.note();
        self.inner.write_at(offset, data)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.note();
        self.inner.set_len(len)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.inner.sync()
    }
    fn discard(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.note();
        self.inner.discard(offset, length)
    }
    fn write_zeroes(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.note();
        self.inner.write_zeroes(offset, length)
    }
}

/// A chain in memory: `top` over `base`.
struct Case {
    folder: tempfile::TempDir,
    top: Vec<u8>,
    base: Vec<u8>,
    guest: Vec<u8>,
}

/// Chains with small clusters, and a version 2 image or a snapshot in either place.
fn cases() -> [Case; 3] {
    const WRITES: &[&str] = &["write -q -P 4 8k 40k", "write -q -z 20k 9k", "write -q -P 5 90k 3k"];
    const OLD: &[&str] = &["write -q -P 1 0 60k"];
    let of = |base: &'static str, top: &'static str, snapshot: &str| {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        make(at, &[("base", base, OLD), ("top", top, WRITES)]);
        if !snapshot.is_empty() {
            qemu_ok(at, "qemu-img", &["snapshot", "-c", "one", snapshot]);
        }
        let [top, base] = ["top", "base"].map(|name| fs::read(at.join(name)).unwrap());
        let guest = guest(at, "top", "qcow2");
        Case { folder, top, base, guest }
    };
    [
        of("cluster_size=4k,size=64k", "cluster_size=512,size=100k", ""),
        of("cluster_size=512,size=100k", "cluster_size=4k,size=100k", "base"),
        of("cluster_size=4k,compat=0.10,size=100k", "cluster_size=4k,size=100k", "top"),
    ]
}

impl Case {
    /// A chain of these files, by the names that the images have.
    fn disk(&self, top: Vec<u8>, base: Vec<u8>) -> Disk {
        let mut disk = Disk::default();
        for (name, bytes) in [("top", top), ("base", base)] {
            disk.files.insert(self.folder.path().join(name), Arc::new(MemoryStorage::new(bytes)));
        }
        disk
    }

    fn seen(&self, top: Vec<u8>, base: Vec<u8>) -> Vec<u8> {
        let disk = self.disk(top, base);
        let path = self.folder.path().join("top");
        let image = Image::open_read(disk.files[&path].clone(), &options(&path), &disk).unwrap();
        read_all(&image)
    }

    fn run(&self, top: Arc<dyn Storage>, base: Arc<dyn Storage>) -> Result<()> {
        let disk = self.disk(self.top.clone(), self.base.clone());
        let path = self.folder.path().join("top");
        let found = find_base(top.as_ref(), &path, None, &disk)?;
        let open = |storage, path: &Path, backing| {
            let options = options(path).backing(backing);
            match Image::open_write(storage, &options, &disk)? {
                Opened::Ready(image) => Ok(*image),
                Opened::NeedsRepair => Err(Error::NeedsRepair),
            }
        };
        let image = open(top, &path, BackingPolicy::Layers(found.layers - 1))?;
        let base = open(base, &found.path, BackingPolicy::AsNamed)?;
        let options = CommitOptions::default().threads(1);
        let control = Control { cancel: &AtomicBool::new(false), progress: &Silent };
        commit(image, Target::Qcow2(Box::new(base)), &options, control)
    }

    /// What a crash or failure left reads as before, and a second commit completes it.
    fn assert_completed_by_the_next(&self, top: Vec<u8>, base: Vec<u8>, what: &str) {
        assert_same(&self.seen(top.clone(), base.clone()), &self.guest, what);
        let [top, base] = [top, base].map(|bytes| Arc::new(MemoryStorage::new(bytes)));
        self.run(top.clone(), base.clone()).unwrap_or_else(|e| panic!("{what}: again: {e}"));
        assert_no_error(&base.to_vec(), what);
        assert_no_error(&top.to_vec(), what);
        assert_same(&self.seen(top.to_vec(), base.to_vec()), &self.guest, what);
    }
}

#[test]
fn after_a_crash_the_chain_reads_the_same_and_the_next_commit_completes_it() {
    for case in cases() {
        let base = Arc::new(WriteLog::new(case.base.clone()));
        let top = Arc::new(After {
            inner: WriteLog::new(case.top.clone()),
            first: base.clone(),
            lengths: Mutex::default(),
        });
        case.run(top.clone(), base.clone()).unwrap();
        // The base was flushed before the first change of the image, and not written after it.
        assert_eq!(base.ops().last(), Some(&Op::Sync));
        assert!(top.lengths.lock().unwrap().iter().all(|&length| length == base.ops().len()));
        let mut count = crash_images(&base, |crash| {
            let what = format!("base: {}", crash.story);
            case.assert_completed_by_the_next(case.top.clone(), crash.bytes.clone(), &what);
        });
        count += crash_images(&top.inner, |crash| {
            let what = format!("image: {}", crash.story);
            case.assert_completed_by_the_next(crash.bytes.clone(), base.image(), &what);
        });
        assert!(count > 30, "only {count} crash images");
    }
}

#[test]
fn after_a_failure_of_either_file_the_chain_reads_the_same() {
    for case in cases() {
        for (fails, class) in
            [0, 1].into_iter().flat_map(|file| [(file, Class::AnyWrite), (file, Class::Read)])
        {
            for n in 0.. {
                let both = [&case.top, &case.base].map(|b| Arc::new(MemoryStorage::new(b.clone())));
                let failing = Arc::new(FailAfter::new(both[fails].clone(), class, n));
                let mut files: [Arc<dyn Storage>; 2] = [both[0].clone(), both[1].clone()];
                files[fails] = failing.clone();
                let [top, base] = files;
                let outcome = case.run(top, base);
                let what = format!("file {fails}, {class:?} {n}");
                let [top, base] = both.map(|file| file.to_vec());
                if !failing.fired() {
                    outcome.unwrap();
                    assert_same(&case.seen(top, base), &case.guest, &what);
                    break;
                }
                case.assert_completed_by_the_next(top, base, &what);
            }
        }
    }
}
