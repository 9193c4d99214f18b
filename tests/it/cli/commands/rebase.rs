//! `qcheck rebase` beside qemu-img: the guest reads the same, at every moment, from fewer clusters
//! of the image's own or as many.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qcheck::convert::Control;
use qcheck::disk::Disk;
use qcheck::error::{Error, Result};
use qcheck::image::{Image, OpenOptions, Opened, Opener};
use qcheck::progress::Silent;
use qcheck::rebase::{BackingLabel, RebaseOptions, rebase, relabel};
use qcheck::storage::{FileStorage, MemoryStorage, ReadAt, Storage};

use crate::image::tools::{self, assert_no_error, assert_same, options, read_all};
use crate::support::programs::chains::{Layer, both, guest, make};
use crate::support::programs::run::{assert_clean, qcheck, qemu_create, qemu_io, qemu_ok};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

const DATA: &[&str] = &["write -q -P 1 0 512k", "write -q -P 2 700k 70k", "write -q -P 6 2M 9k"];
const MORE: &[&str] = &["write -q -P 3 64k 130k", "write -q -z 448k 64k", "write -q -P 9 900k 40k"];
const TOP: &[&str] = &["write -q -P 4 128k 128k", "write -q -z 320k 64k", "write -q -P 5 3k 1k"];
const OTHER: &[&str] = &[
    "write -q -P 1 0 100k",
    "write -q -P 7 600k 300k",
    "write -q -z 300k 10k",
    "write -P 8 3M 1k",
];

/// Chains up to `top`, and another image `other`, made beside them.
type Case = (&'static [Layer], Layer);

const CASES: [Case; 12] = [
    (&[("base", "size=3M", DATA), ("top", "size=3M", TOP)], ("other", "size=3M", OTHER)),
    (&[("base", "size=1M", DATA), ("top", "size=4M", TOP)], ("other", "size=2M", OTHER)),
    (&[("base", "size=4M", DATA), ("top", "size=1M", TOP)], ("other", "size=512k", OTHER)),
    (&[("base", "raw 900k", DATA), ("top", "size=3M", TOP)], ("other", "raw 4M", OTHER)),
    (
        &[("base", "size=3M", DATA), ("top", "size=3M,compat=0.10", TOP)],
        ("other", "size=4M", OTHER),
    ),
    (
        &[("base", "size=3M,cluster_size=512", DATA), ("top", "size=3M", TOP)],
        ("other", "size=3M,cluster_size=2M", OTHER),
    ),
    (
        &[("base", "size=3M", DATA), ("top", "size=3M,cluster_size=512", TOP)],
        ("other", "size=3M", OTHER),
    ),
    (
        &[("base", "size=3M", DATA), ("top", "size=3M,extended_l2=on", TOP)],
        ("other", "size=3M,extended_l2=on", OTHER),
    ),
    (
        &[("base", "size=3M", DATA), ("mid", "size=2M", MORE), ("top", "size=4M", TOP)],
        ("other", "size=1M", OTHER),
    ),
    (&[("top", "size=3M", TOP)], ("other", "size=4M", OTHER)),
    (&[("top", "size=3M,compat=0.10", TOP)], ("other", "size=4M", OTHER)),
    (
        &[("base", "size=3M", DATA), ("top", "size=3M,data_file=DATA", TOP)],
        ("other", "size=3M", OTHER),
    ),
];

fn make_case(folder: &Path, (layers, other): &Case) {
    make(folder, &[*other]);
    make(folder, layers);
}

const fn format_of(layer: &Layer) -> &'static str {
    match layer.1.as_bytes() {
        [b'r', b'a', b'w', ..] => "raw",
        _ => "qcow2",
    }
}

/// How many bytes of the disk the image itself holds as data.
fn own_data(folder: &Path, image: &str) -> u64 {
    let map = qemu_ok(folder, "qemu-img", &["map", "--output=json", image]);
    let extents: serde_json::Value = serde_json::from_str(&map).unwrap();
    let own = |extent: &&serde_json::Value| extent["depth"] == 0 && extent["data"] == true;
    let extents = extents.as_array().unwrap().iter().filter(own);
    extents.map(|extent| extent["length"].as_u64().unwrap()).sum()
}

#[test]
fn what_a_guest_reads_stays_above_any_other_chain() {
    for case in CASES {
        let mut targets = vec![vec!["-b", "other", "-F", format_of(&case.1)], vec!["-b", ""]];
        if case.0.len() == 3 {
            targets.push(vec!["-b", "base", "-F", "qcow2"]);
        }
        for target in targets {
            let what = format!("{case:?} {target:?}");
            let args = [&["rebase"][..], &target, &["top"]].concat();
            let (folders, [real, own]) = both(|folder| make_case(folder, &case), &args);
            assert_eq!((own.code, &own.out), (0, &real.out), "{what}: {}{}", own.err, real.err);
            let at = [folders[0].path(), folders[1].path()];
            let before = {
                let folder = tempfile::tempdir().unwrap();
                make_case(folder.path(), &case);
                guest(folder.path(), "top", "qcow2")
            };
            assert_same(&guest(at[1], "top", "qcow2"), &before, &what);
            assert_clean(at[1], "top");
            // Where an image of version 2 had no backing file, qemu-img loses its zeroes.
            let is_kept = guest(at[0], "top", "qcow2") == before;
            assert!(is_kept || case.0.len() == 1, "{what}");
            let [theirs, ours] = at.map(|folder| own_data(folder, "top"));
            assert!(!is_kept || ours <= theirs, "{what}: {ours} bytes of data, not {theirs}");
            let [theirs, ours] = at.map(|folder| {
                let info = qemu_ok(folder, "qemu-img", &["info", "--output=json", "top"]);
                let info: serde_json::Value = serde_json::from_str(&info).unwrap();
                (info["backing-filename"].clone(), info["backing-filename-format"].clone())
            });
            assert_eq!(ours, theirs, "{what}");
        }
    }
}

#[test]
fn clusters_are_compressed_where_that_is_asked_for() {
    for case in [CASES[0], CASES[4], CASES[7], CASES[8]] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        make_case(at, &case);
        let before = guest(at, "top", "qcow2");
        let ran = qcheck(at, &["rebase", "-c", "-b", "other", "-F", "qcow2", "top"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_same(&guest(at, "top", "qcow2"), &before, "compressed");
        assert_clean(at, "top");
        let map = qemu_ok(at, "qemu-img", &["map", "--output=json", "top"]);
        assert!(map.contains("\"compressed\": true"), "{map}");
    }
}

#[test]
fn the_unsafe_mode_changes_the_header_alone() {
    for args in [
        &["rebase", "-u", "-b", "gone", "-F", "vmdk", "top"][..],
        &["rebase", "-u", "-b", "", "top"],
        &["rebase", "-u", "top"],
        &["rebase", "-u", "-c", "-p", "-b", r#"json:{"file.filename":"x"}"#, "-F", "raw", "top"],
    ] {
        let (folders, [real, own]) = both(|folder| make_case(folder, &CASES[0]), args);
        assert_eq!(own.code, real.code, "{args:?}: {}", own.err);
        // The steps of the percents are others.
        let last = |out: &str| out.rsplit_terminator('\r').nth(1).map(str::to_owned);
        assert_eq!(last(&own.out), last(&real.out), "{args:?}");
        let [theirs, ours] = [0, 1].map(|n| fs::read(folders[n].path().join("top")).unwrap());
        assert!(theirs[65536..] == ours[65536..], "{args:?}");
        let info = |n: usize| {
            let info = ["info", "-U", "--output=json", "top"];
            let text = qemu_ok(folders[n].path(), "qemu-img", &info);
            let info: serde_json::Value = serde_json::from_str(&text).unwrap();
            (info["backing-filename"].clone(), info["backing-filename-format"].clone())
        };
        assert_eq!(info(1), info(0), "{args:?}");
    }
}

#[test]
fn bitmaps_and_snapshots_stay_and_are_found_in_the_changed_header() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_case(at, &CASES[0]);
    qemu_ok(at, "qemu-img", &["bitmap", "--add", "top", "b"]);
    qemu_ok(at, "qemu-img", &["snapshot", "-c", "one", "top"]);
    let before = guest(at, "top", "qcow2");
    for args in [
        &["rebase", "-b", "other", "-F", "qcow2", "top"][..],
        &["rebase", "-b", "", "top"],
        &["rebase", "-b", "a-name-that-is-longer-than-the-others", "-F", "raw", "top"],
    ] {
        fs::copy(at.join("base"), at.join("a-name-that-is-longer-than-the-others")).unwrap();
        let ran = qcheck(at, args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert_same(&guest(at, "top", "qcow2"), &before, &format!("{args:?}"));
        assert_clean(at, "top");
        let info = qemu_ok(at, "qemu-img", &["info", "top"]);
        assert!(info.contains("name: b\n") && info.contains("one"), "{info}");
        assert!(!info.contains("in-use"), "{info}");
    }
    qemu_io(at, "top", "write -q -P 1 0 64k");
    assert_clean(at, "top");
}

#[test]
fn errors_are_those_of_qemu_img_and_leave_the_image_as_it_was() {
    for (args, phrase) in [
        (
            &["rebase", "-b", "other", "top"][..],
            "Could not change the backing file to 'other': backing format must be specified",
        ),
        (
            &["rebase", "-u", "-b", "other", "top"],
            "Could not change the backing file to 'other': backing format must be specified",
        ),
        (&["rebase", "top"], "Must specify backing file (-b) or use unsafe mode (-u)"),
        (&["rebase", "-b", "gone", "-F", "raw", "top"], "Could not open new backing file 'gone'"),
        (&["rebase", "-b", "other", "-F", "qcow2", "none"], "Could not open 'none'"),
        (
            &["rebase", "-f", "raw", "-b", "other", "-F", "raw", "top"],
            "Could not change the backing file to 'other'",
        ),
        (&["rebase", "--image-opts", "-f", "raw", "-b", "", "x"], "mutually exclusive"),
    ] {
        let (folders, [real, own]) = both(|folder| make_case(folder, &CASES[0]), args);
        assert_eq!((real.code, own.code), (1, 1), "{args:?}: {}", own.err);
        assert!(real.err.contains(phrase), "{args:?}: {}", real.err);
        assert!(own.err.contains(phrase), "{args:?}: {}", own.err);
        let before = tempfile::tempdir().unwrap();
        make_case(before.path(), &CASES[0]);
        let [now, before] =
            [folders[1].path(), before.path()].map(|at| fs::read(at.join("top")).unwrap());
        assert!(now == before, "{args:?}");
    }
}

#[test]
fn a_chain_that_would_come_back_to_the_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_case(at, &CASES[8]);
    qemu_create(at, &["-f", "qcow2", "-b", "top", "-F", "qcow2", "above"]);
    fs::hard_link(at.join("top"), at.join("link")).unwrap();
    let before = fs::read(at.join("top")).unwrap();
    for new in ["top", "above", "link"] {
        for mode in [&["rebase"][..], &["rebase", "-u"]] {
            let ran = qcheck(at, &[mode, &["-b", new, "-F", "qcow2", "top"]].concat());
            assert_eq!(ran.code, 1, "{new} {mode:?}");
            assert!(ran.err.contains("is the same file as"), "{}", ran.err);
            assert!(fs::read(at.join("top")).unwrap() == before, "{new} {mode:?}");
        }
    }
}

/// Files from which metadata can be read, and no run of guest data.
struct MetadataOnly;

struct NoData(FileStorage);

impl ReadAt for NoData {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let is_metadata = buf.len() <= 65536;
        if is_metadata {
            self.0.read_at(offset, buf)
        } else {
            Err(std::io::ErrorKind::Other.into())
        }
    }
    fn file(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.0.file()
    }
}

impl Opener for MetadataOnly {
    fn open_read(&self, path: &Path) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(NoData(FileStorage::open_read(path).unwrap())))
    }
    fn open_write(&self, path: &Path) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(FileStorage::open_write(path).unwrap()))
    }
}

#[test]
fn what_both_chains_leave_to_the_same_image_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("base", "size=64M", &["write -q -P 1 0 64M"]), ("top", "size=64M", TOP)]);
    qemu_create(at, &["-f", "qcow2", "-b", "base", "-F", "qcow2", "other"]);
    let before = guest(at, "top", "qcow2");
    let (top, other) = (at.join("top"), at.join("other"));
    let opener = MetadataOnly;
    let opened = Image::open_write(opener.open_write(&top).unwrap(), &options(&top), &opener);
    let Opened::Ready(image) = opened.unwrap() else { panic!("the image is dirty") };
    let new = Image::open_read(opener.open_read(&other).unwrap(), &options(&other), &opener);
    let new = Disk::Qcow2(Box::new(new.unwrap()));
    let label = BackingLabel { name: b"other".into(), format: b"qcow2".into() };
    let control = Control { cancel: &AtomicBool::new(false), progress: &Silent };
    let same = RebaseOptions::default();
    rebase(*image, Some(&new), Some(&label), same, control).unwrap();
    assert_same(&guest(at, "top", "qcow2"), &before, "top");
    assert!(own_data(at, "top") < 1 << 20);
}

/// A chain in memory: `top` over `base`, and the disk `other`.
struct Chain {
    folder: tempfile::TempDir,
    top: Vec<u8>,
    guest: Vec<u8>,
    format: Option<&'static str>,
}

/// Chains with small clusters: to another base, to none, and from none.
fn chains() -> [Chain; 4] {
    const WRITES: &[&str] = &["write -q -P 4 8k 20k", "write -q -z 40k 8k", "write -q -P 5 90k 3k"];
    const OLD: &[&str] = &["write -q -P 1 0 60k"];
    const NEW: &[&str] = &["write -q -P 2 30k 60k"];
    let of = |layers: &[Layer], format: Option<&'static str>| {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        make(at, &[("other", "size=100k,cluster_size=512", NEW)]);
        make(at, layers);
        let top = fs::read(at.join("top")).unwrap();
        let guest = guest(at, "top", "qcow2");
        Chain { folder, top, guest, format }
    };
    let base: Layer = ("base", "size=64k,cluster_size=4k", OLD);
    [
        of(&[base, ("top", "size=100k,cluster_size=512", WRITES)], Some("qcow2")),
        of(&[base, ("top", "size=100k,cluster_size=4k", WRITES)], None),
        of(&[base, ("top", "size=100k,cluster_size=4k,compat=0.10", WRITES)], Some("qcow2")),
        of(&[("top", "size=100k,cluster_size=4k", WRITES)], Some("qcow2")),
    ]
}

impl Chain {
    fn disk(&self) -> tools::Disk {
        let mut disk = tools::Disk::default();
        for name in ["base", "other"] {
            if self.folder.path().join(name).exists() {
                disk.load(&self.folder.path().join(name));
            }
        }
        disk
    }

    fn label(&self) -> Option<BackingLabel> {
        let label = |format: &str| BackingLabel { name: b"other".into(), format: format.into() };
        self.format.map(label)
    }

    fn run(&self, top: Arc<dyn Storage>) -> Result<()> {
        let (disk, at) = (self.disk(), self.folder.path());
        let opened = Image::open_write(top, &options(&at.join("top")), &disk)?;
        let Opened::Ready(image) = opened else { return Err(Error::NeedsRepair) };
        let other = disk.files[&at.join("other")].clone();
        let new = Image::open_read(other, &OpenOptions::default(), &disk)?;
        let new = self.format.map(|_| Disk::Qcow2(Box::new(new)));
        let control = Control { cancel: &AtomicBool::new(false), progress: &Silent };
        let options = RebaseOptions::default().threads(1);
        rebase(*image, new.as_ref(), self.label().as_ref(), options, control)
    }

    fn assert_reads_the_same(&self, top: Vec<u8>, what: &str) {
        assert_no_error(&top, what);
        let (disk, path) = (self.disk(), self.folder.path().join("top"));
        let storage = Arc::new(MemoryStorage::new(top));
        let image = Image::open_read(storage, &options(&path), &disk);
        let image = image.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&read_all(&image), &self.guest, what);
    }
}

#[test]
fn the_guest_reads_the_same_after_every_crash() {
    let mut count = 0;
    for chain in chains() {
        let log = Arc::new(WriteLog::new(chain.top.clone()));
        chain.run(log.clone()).unwrap();
        chain.assert_reads_the_same(log.image(), "without a crash");
        count += crash_images(&log, |crash| {
            chain.assert_reads_the_same(crash.bytes.clone(), &crash.story);
            // Either backing file is named as a whole, and the same rebase goes on from there.
            let again = Arc::new(MemoryStorage::new(crash.bytes.clone()));
            chain.run(again.clone()).unwrap();
            chain.assert_reads_the_same(again.to_vec(), &format!("again: {}", crash.story));
        });
    }
    assert!(count > 50, "only {count} crash images");
}

#[test]
fn the_guest_reads_the_same_after_every_failure() {
    for chain in chains() {
        for class in [Class::AnyWrite, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(chain.top.clone()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = chain.run(failing.clone());
                let what = format!("{class:?} {n}");
                chain.assert_reads_the_same(memory.to_vec(), &what);
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
                // One read that failed may have been a look ahead.
                assert!(outcome.is_err() || class == Class::Read, "{what}: no error");
            }
        }
    }
}

#[test]
fn a_label_that_cannot_be_recorded_is_refused_before_the_first_write() {
    let [chain, ..] = chains();
    let open = |bytes: &[u8]| {
        let memory = Arc::new(MemoryStorage::new(bytes.to_vec()));
        let path = chain.folder.path().join("top");
        match Image::open_write(memory.clone(), &options(&path), &chain.disk()).unwrap() {
            Opened::Ready(image) => (memory, *image),
            Opened::NeedsRepair => panic!("the image is dirty"),
        }
    };
    // A header cluster of 512 bytes has no space for a name of 500, nor any for one of 1024.
    for name in [vec![b'n'; 500], vec![b'n'; 1024], b"a\0b".to_vec()] {
        let (memory, image) = open(&chain.top);
        let label = BackingLabel { name, format: b"raw".into() };
        assert!(matches!(relabel(image, Some(&label)), Err(Error::Refused(_))));
        assert!(memory.to_vec() == chain.top);
    }
}
