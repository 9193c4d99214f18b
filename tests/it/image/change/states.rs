//! Snapshots and sizes: as qemu-img sees them, after every crash, and on failing disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qcheck::edit::resize::{Preallocation, ResizeOptions, resize};
use qcheck::edit::snapshot;
use qcheck::error::Result;
use qcheck::image::{Image, Opened};
use qcheck::storage::{MemoryStorage, ReadAt, Storage};

use crate::image::invariants::violation;
use crate::image::tools::{
    Disk, assert_clean, assert_no_error, assert_same, at, convert, options, qemu, read_all,
};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

/// For a disk that may get shorter.
pub fn shrinking() -> ResizeOptions {
    ResizeOptions::default().shrink(true)
}

pub struct Case {
    pub disk: Disk,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

/// An image of `kilobytes` with data, a snapshot of it, and newer data.
pub fn case(create: &str, kilobytes: u64) -> Case {
    case_over(create, kilobytes, false)
}

/// The same, if requested over a raw image of a megabyte without a zero.
fn case_over(create: &str, kilobytes: u64, base: bool) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    let size = format!("{kilobytes}k");
    let mut disk = Disk::default();
    let mut args = vec!["create", "-q", "-f", "qcow2", "-o", create];
    if base {
        std::fs::write(folder.path().join("base"), vec![7; 1 << 20]).unwrap();
        disk.load(&folder.path().join("base"));
        args.extend(["-b", "base", "-F", "raw"]);
    }
    qemu("qemu-img", &[&args[..], &[name, &size]].concat());
    let io = |commands: &[&str]| {
        let mut args = vec!["-f", "qcow2"];
        commands.iter().for_each(|command| args.extend(["-c", command]));
        qemu("qemu-io", &[&args[..], &[name]].concat());
    };
    io(&["write -q -P 1 0 40k", "write -q -P 2 100k 30k"]);
    if !create.contains("refcount_bits=1,") {
        qemu("qemu-img", &["snapshot", "-c", "first", name]);
    }
    io(&["write -q -P 3 20k 10k", "write -q -P 4 110k 4k"]);
    disk.load(&path);
    Case { disk, path, _folder: folder }
}

impl Case {
    /// The image that `make` makes at a path.
    pub fn new(make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.qcow2");
        make(&path);
        let mut disk = Disk::default();
        disk.load(&path);
        Self { disk, path, _folder: folder }
    }

    /// The image without any change.
    pub fn bytes(&self) -> Vec<u8> {
        self.disk.files[&self.path].to_vec()
    }

    /// The names of the snapshots, in table order.
    pub fn snapshots(&self, bytes: Vec<u8>) -> Vec<String> {
        let storage: Arc<dyn ReadAt> = Arc::new(MemoryStorage::new(bytes));
        let image = Image::open_read(storage, &options(&self.path), &self.disk).unwrap();
        let snapshots = image.snapshots().unwrap();
        snapshots.iter().map(|snapshot| snapshot.name_text()).collect()
    }

    pub fn open(&self, storage: Arc<dyn Storage>) -> Result<Image> {
        let options = options(&self.path).l2_cache_bytes(1).refblock_cache_bytes(1);
        match Image::open_write(storage, &options, &self.disk)? {
            Opened::Ready(image) => Ok(*image),
            Opened::NeedsRepair => panic!("the image is dirty"),
        }
    }

    pub fn change(&self, storage: Arc<dyn Storage>, change: &Change) -> Result<()> {
        let mut image = self.open(storage)?;
        change(&mut image)?;
        image.close()
    }

    pub fn read(&self, bytes: Vec<u8>, snapshot: Option<usize>) -> Vec<u8> {
        let storage: Arc<dyn ReadAt> = Arc::new(MemoryStorage::new(bytes));
        let open = |snapshot| {
            let options = options(&self.path).snapshot(snapshot);
            Image::open_read(storage.clone(), &options, &self.disk).unwrap()
        };
        let active = open(None);
        read_all(&match snapshot {
            None => active,
            Some(position) => open(Some(active.snapshots().unwrap().remove(position))),
        })
    }

    /// Stores the image, lets qemu-img check it, and compares what both read.
    fn verify(&self) {
        self.disk.store_all();
        assert_clean(&self.path);
        let bytes = self.disk.files[&self.path].to_vec();
        assert_same(&self.read(bytes, None), &convert(&self.path), "the active state");
    }
}

pub type Change = dyn Fn(&mut Image) -> Result<()>;

pub fn second(image: &mut Image) -> Result<()> {
    snapshot::create(image, "second", Duration::from_secs(1_700_000_000)).map(drop)
}

const KINDS: [&str; 6] = [
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=4",
    "cluster_size=64k",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=4k,lazy_refcounts=on",
    "cluster_size=4k,compat=0.10",
];

#[test]
fn snapshots_are_taken_gone_back_to_and_deleted_and_qemu_agrees() {
    for kind in KINDS {
        let case = case(kind, 160);
        let file = case.disk.files[&case.path].clone();
        let newer = case.read(file.to_vec(), None);
        let first = case.read(file.to_vec(), Some(0));
        case.change(file.clone(), &second).unwrap();
        case.verify();
        assert_same(&case.read(file.to_vec(), Some(1)), &newer, kind);
        case.change(file.clone(), &|image| image.write(at(0), &[9; 60_000])).unwrap();
        case.verify();
        case.change(file.clone(), &|image| snapshot::apply(image, "first")).unwrap();
        case.verify();
        assert_same(&case.read(file.to_vec(), None), &first, kind);
        case.change(file.clone(), &|image| image.write(at(90_000), &[8; 30_000])).unwrap();
        case.change(file.clone(), &|image| snapshot::apply(image, "2")).unwrap();
        assert_same(&case.read(file.to_vec(), None), &newer, kind);
        case.verify();
        for name in ["first", "second"] {
            case.change(file.clone(), &|image| snapshot::delete(image, name)).unwrap();
            case.verify();
        }
        assert_same(&case.read(file.to_vec(), None), &newer, kind);
    }
}

#[test]
fn a_snapshot_that_the_refcounts_cannot_hold_changes_nothing() {
    let case = case("refcount_bits=1,cluster_size=4k", 160);
    let file = case.disk.files[&case.path].clone();
    let before = file.to_vec();
    let mut image = case.open(file.clone()).unwrap();
    assert!(second(&mut image).is_err());
    image.close().unwrap();
    assert!(file.to_vec() == before, "the image was changed");
}

#[test]
fn disks_grow_and_shrink_and_qemu_agrees() {
    for kind in KINDS {
        let case = case(kind, 160);
        let file = case.disk.files[&case.path].clone();
        let mut shadow = case.read(file.to_vec(), None);
        if kind.contains("0.10") {
            case.change(file.clone(), &|image| snapshot::delete(image, "first")).unwrap();
        }
        for size in [100 << 10, 4_000_256, 51_712, 70_144, 9 << 20] {
            let change = move |image: &mut Image| resize(image, size, shrinking());
            case.change(file.clone(), &change).unwrap();
            shadow.resize(size as usize, 0);
            case.verify();
            assert_same(&case.read(file.to_vec(), None), &shadow, kind);
        }
    }
}

#[test]
fn a_disk_does_not_get_shorter_unless_that_is_asked_for() {
    let case = case("cluster_size=4k", 160);
    let file = case.disk.files[&case.path].clone();
    let before = file.to_vec();
    let resized = |image: &mut Image| resize(image, 1024, ResizeOptions::default());
    assert!(case.change(file.clone(), &resized).is_err());
    assert!(file.to_vec() == before, "the image was changed");
}

fn grow_mapped(image: &mut Image, preallocation: Preallocation) -> Result<()> {
    resize(image, 230 << 10, ResizeOptions::default().shrink(false).preallocation(preallocation))
}

fn changes() -> Vec<(&'static str, Box<Change>)> {
    vec![
        ("create", Box::new(second)),
        ("apply", Box::new(|image| snapshot::apply(image, "first"))),
        ("delete", Box::new(|image| snapshot::delete(image, "first"))),
        ("grow", Box::new(|image| resize(image, 1 << 20, shrinking()))),
        ("grow mapped", Box::new(|image| grow_mapped(image, Preallocation::Metadata))),
        ("grow written", Box::new(|image| grow_mapped(image, Preallocation::Full))),
        ("shrink", Box::new(|image| resize(image, 105 << 10, shrinking()))),
    ]
}

/// What is new of a disk over a longer backing file.
fn changes_over_a_base() -> Vec<(&'static str, Box<Change>)> {
    vec![
        ("grow", Box::new(|image| resize(image, 600 << 10, shrinking()))),
        ("grow past", Box::new(|image| resize(image, 3 << 20, shrinking()))),
        ("grow mapped", Box::new(|image| grow_mapped(image, Preallocation::Metadata))),
        ("shrink", Box::new(|image| resize(image, 105 << 10, shrinking()))),
    ]
}

#[test]
fn what_grows_over_a_longer_backing_file_reads_as_zeroes_after_every_crash() {
    for kind in KINDS.into_iter().filter(|kind| !kind.contains("0.10")) {
        // The last cluster is cut by the disk's end, and is in the backing file.
        let changes = changes_over_a_base().into_iter().map(|change| (158, change));
        for (kilobytes, (name, change)) in changes {
            let case = case_over(kind, kilobytes, true);
            let before = case.read(case.disk.files[&case.path].to_vec(), None);
            let after = every_crash(&case, &format!("{kind}: over a base: {name}"), &*change);
            let kept = before.len().min(after.len());
            assert_same(&after[..kept], &before[..kept], name);
            assert!(after[kept..].iter().all(|&byte| byte == 0), "{kind}: {name}");
        }
    }
}

/// Every crash during a change leaves the state before it or after it, of which this returns the latter.
fn every_crash(case: &Case, what: &str, change: &Change) -> Vec<u8> {
    let before = case.disk.files[&case.path].to_vec();
    let log = Arc::new(WriteLog::new(before.clone()));
    case.change(log.clone(), change).unwrap();
    let (old, new) = (case.read(before, None), case.read(log.image(), None));
    crash_images(&log, |image| {
        if let Some(violation) = violation(&image.bytes) {
            panic!("{what}: {violation}; {}", image.story);
        }
        assert_no_error(&image.bytes, &format!("{what}: {}", image.story));
        let guest = case.read(image.bytes.clone(), None);
        assert!(guest == old || guest == new, "{what}: {}", image.story);
    });
    new
}

#[test]
fn every_crash_leaves_the_old_state_or_the_new_one() {
    for kind in KINDS {
        for (name, change) in changes() {
            let case = case(kind, 160);
            if kind.contains("0.10") && (name.starts_with("grow") || name == "shrink") {
                continue;
            }
            every_crash(&case, &format!("{kind}: {name}"), &*change);
        }
    }
}
#[test]
fn a_failing_disk_leaves_the_old_state_or_the_new_one_and_an_error() {
    let alone = changes().into_iter().map(|change| (false, change));
    let all = alone.chain(changes_over_a_base().into_iter().map(|change| (true, change)));
    for (base, (name, change)) in all {
        let case = case_over("cluster_size=4k", if base { 158 } else { 160 }, base);
        let before = case.disk.files[&case.path].to_vec();
        let (old, mut new) = (case.read(before.clone(), None), None);
        let mut seen = Vec::new();
        for class in [Class::Write, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(before.clone()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = case.change(failing.clone(), &*change);
                if !failing.fired() {
                    outcome.unwrap();
                    new = Some(case.read(memory.to_vec(), None));
                    break;
                }
                assert!(outcome.is_err(), "{name}: {class:?} {n} failed without an error");
                let violation = violation(&memory.to_vec());
                assert_eq!(violation, None, "{name}: {class:?} {n} failed");
                assert_no_error(&memory.to_vec(), &format!("{name}: {class:?} {n} failed"));
                seen.push(case.read(memory.to_vec(), None));
            }
        }
        let new = new.unwrap();
        assert!(seen.iter().all(|guest| *guest == old || *guest == new), "{name}");
    }
}
