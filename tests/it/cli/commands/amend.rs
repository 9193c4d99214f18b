//! `qcheck amend` beside qemu-img: what the image is afterwards, and what is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qcheck::convert::Control;
use qcheck::create::Version;
use qcheck::edit::amend::{Amendments, amend};
use qcheck::error::{Error, Result};
use qcheck::image::{Image, Opened};
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, Storage};

use crate::image::invariants::violation;
use crate::image::tools::{Disk, assert_no_error, assert_same, options, read_all};
use crate::support::programs::chains::{Layer, both, guest, make};
use crate::support::programs::run::{assert_clean, qcheck, qemu_io, qemu_ok};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

const WRITES: &[&str] = &[
    "write -q -P 1 0 128k",
    "write -q -z 128k 64k",
    "write -q -P 2 256k 64k",
    "write -q -z 256k 64k",
    "write -q -P 3 700k 9k",
];
const BASE: Layer = ("base", "size=1M", &["write -q -P 9 0 1M"]);

/// What qemu-img prints of an image: its size, and what is particular to the format.
fn described(folder: &Path) -> (serde_json::Value, serde_json::Value) {
    let text = qemu_ok(folder, "qemu-img", &["info", "--output=json", "top"]);
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    (info["virtual-size"].clone(), info["format-specific"]["data"].clone())
}

#[test]
fn images_are_amended_as_by_qemu_img() {
    let plain: &[Layer] = &[("top", "size=1M", WRITES)];
    let over: &[Layer] = &[BASE, ("top", "size=1M", WRITES)];
    let small: &[Layer] = &[("top", "size=1M,cluster_size=512", WRITES)];
    let old: &[Layer] = &[BASE, ("top", "size=1M,compat=0.10", WRITES)];
    let lazy: &[Layer] = &[("top", "size=1M,lazy_refcounts=on", WRITES)];
    let narrow: &[Layer] = &[("top", "size=1M,refcount_bits=1", WRITES)];
    let wide: &[Layer] = &[("top", "size=1M,cluster_size=512,refcount_bits=64", WRITES)];
    for (layers, option) in [
        (plain, "compat=0.10"),
        (over, "compat=v2"),
        (small, "compat=0.10"),
        (lazy, "compat=0.10"),
        (narrow, "compat=0.10,refcount_bits=16"),
        (old, "compat=1.1"),
        (old, "compat=v3,lazy_refcounts=on,refcount_bits=8"),
        (plain, "lazy_refcounts=on"),
        (lazy, "lazy_refcounts=off"),
        (plain, "refcount_bits=1"),
        (plain, "refcount_bits=64"),
        (small, "refcount_bits=2"),
        (small, "refcount_bits=64"),
        (wide, "refcount_bits=1"),
        (wide, "refcount_bits=64"),
        (over, "size=3M,lazy_refcounts=on"),
        (old, "size=2M"),
        (plain, "compat=1.1"),
    ] {
        let what = format!("{layers:?} {option}");
        let args = ["amend", "-o", option, "top"];
        let (folders, [real, own]) = both(|folder| make(folder, layers), &args);
        assert_eq!((own.code, &own.out), (0, &real.out), "{what}: {}{}", own.err, real.err);
        let at = [folders[0].path(), folders[1].path()];
        assert_eq!(described(at[1]), described(at[0]), "{what}");
        let [real, own] = at.map(|folder| guest(folder, "top", "qcow2"));
        assert_same(&own, &real, &what);
        assert_clean(at[1], "top");
        qemu_io(at[1], "top", "write -q -P 5 500k 100k");
        assert_clean(at[1], "top");
    }
}

#[test]
fn a_disk_with_snapshots_changes_its_size_once_it_is_of_version_3() {
    let made = |folder: &Path| {
        make(folder, &[("top", "size=1M,compat=0.10", &["write -q -P 1 0 300k"])]);
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", "one", "top"]);
    };
    for (option, code) in [("compat=1.1,size=2M", 0), ("size=2M", 1)] {
        let (folders, [real, own]) = both(made, &["amend", "-o", option, "top"]);
        assert_eq!((own.code, real.code), (code, code), "{option}: {}{}", own.err, real.err);
        let at = [folders[0].path(), folders[1].path()];
        assert_eq!(described(at[1]), described(at[0]), "{option}");
        assert_clean(at[1], "top");
    }
}

/// Takes the extra data out of the only entry of the snapshot table, as old programs wrote it.
fn without_extra_data(image: &Path) {
    let mut bytes = fs::read(image).unwrap();
    let at = u64::from_be_bytes(bytes[64..72].try_into().unwrap()) as usize;
    let entry = &mut bytes[at..];
    entry[36..40].fill(0);
    entry.copy_within(64.., 40);
    fs::write(image, bytes).unwrap();
}

#[test]
fn snapshots_without_extra_data_get_it_with_version_3_and_whenever_the_table_is_written() {
    let made = |folder: &Path| {
        make(folder, &[("top", "size=1M,compat=0.10", &["write -q -P 1 0 300k"])]);
        qemu_ok(folder, "qemu-img", &["snapshot", "-c", "one", "top"]);
        without_extra_data(&folder.join("top"));
        assert_clean(folder, "top");
    };
    let check = ["check", "--output", "json", "top"];
    for first in [&["amend", "-o", "compat=1.1", "top"][..], &["snapshot", "-c", "two", "top"]] {
        let (folders, [real, own]) = both(made, first);
        assert_eq!((own.code, own.err.as_str(), real.code), (0, "", 0), "{first:?}");
        for folder in &folders {
            let at = folder.path();
            qemu_ok(at, "qemu-img", &["amend", "-o", "compat=1.1", "top"]);
            assert_clean(at, "top");
            assert_eq!(qcheck(at, &check).code, 0, "{first:?}");
        }
        let listed = |folder: &Path| {
            let text = qemu_ok(folder, "qemu-img", &["info", "--output=json", "top"]);
            let info: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mut list = info["snapshots"].clone();
            for snapshot in list.as_array_mut().unwrap() {
                for time in ["date-sec", "date-nsec"] {
                    snapshot[time].take();
                }
            }
            list
        };
        assert_eq!(listed(folders[1].path()), listed(folders[0].path()), "{first:?}");
    }
}

#[test]
fn an_image_goes_through_all_widths_with_its_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("top", "size=1M,cluster_size=1k", &["write -q -P 1 0 300k"])]);
    qemu_ok(at, "qemu-img", &["snapshot", "-c", "one", "top"]);
    qemu_io(at, "top", "write -q -P 2 100k 300k");
    let before = guest(at, "top", "qcow2");
    for bits in ["2", "64", "4", "32", "8", "16"] {
        let ran = qcheck(at, &["amend", "-o", &format!("refcount_bits={bits}"), "top"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{bits}");
        assert_clean(at, "top");
        assert_same(&guest(at, "top", "qcow2"), &before, bits);
    }
    let ran = qcheck(at, &["amend", "-o", "refcount_bits=1", "top"]);
    assert_eq!(ran.code, 1);
    let phrase = "Cannot decrease refcount entry width to 1 bits: Cluster at offset ";
    assert!(ran.err.contains(phrase) && ran.err.contains("has a refcount of 2"), "{}", ran.err);
    qemu_ok(at, "qemu-img", &["snapshot", "-a", "one", "top"]);
    assert_clean(at, "top");
}

#[test]
fn what_cannot_be_amended_is_refused_in_qemu_imgs_words_and_nothing_is_written() {
    let plain: &[Layer] = &[("top", "size=1M", WRITES)];
    let old: &[Layer] = &[("top", "size=1M,compat=0.10", WRITES)];
    let narrow: &[Layer] = &[("top", "size=1M,refcount_bits=8", WRITES)];
    let sub: &[Layer] = &[("top", "size=1M,extended_l2=on", WRITES)];
    let data: &[Layer] = &[("top", "size=1M,data_file=DATA", WRITES)];
    for (layers, option, phrase) in [
        (plain, "compression_type=zstd", "Invalid parameter 'compression_type'"),
        (plain, "cluster_size=4k", "This option is only supported for image creation"),
        (plain, "extended_l2=on", "Invalid parameter 'extended_l2'"),
        (plain, "preallocation=full", "This option is only supported for image creation"),
        (plain, "encryption=on", "Invalid parameter 'encryption'"),
        (plain, "compat=1.2", "Unknown compatibility level 1.2"),
        (plain, "size=2000000", "multiple of 512"),
        (plain, "refcount_bits=3", "Refcount width must be a power of two and may not exceed 64"),
        (plain, "refcount_bits=128", "Refcount width must be a power of two and may not exceed 64"),
        (plain, "data_file=x", "data-file can only be set for images that use an external data"),
        (plain, "data_file_raw=on", "data-file-raw cannot be set on existing images"),
        (plain, "backing_file=base", "Cannot amend the backing file"),
        (plain, "backing_fmt=raw", "Cannot amend the backing file"),
        (
            plain,
            "compat=0.10,refcount_bits=8",
            "Refcount widths other than 16 bits require compatibility level 1.1 or above",
        ),
        (old, "lazy_refcounts=on", "Lazy refcounts only supported with compatibility level 1.1"),
        (narrow, "compat=0.10", "compat=0.10 requires refcount_bits=16"),
        (sub, "compat=0.10", "Cannot downgrade an image with incompatible features 0x10 set"),
        (data, "compat=0.10", "Cannot downgrade an image with a data file"),
    ] {
        let before = std::cell::RefCell::new(Vec::new());
        let made = |folder: &Path| {
            make(folder, layers);
            *before.borrow_mut() = fs::read(folder.join("top")).unwrap();
        };
        let (folders, [real, own]) = both(made, &["amend", "-o", option, "top"]);
        assert_eq!((real.code, own.code), (1, 1), "{option}: {}", own.err);
        assert!(real.err.contains(phrase), "{option}: {}", real.err);
        assert!(own.err.contains(phrase), "{option}: {}", own.err);
        let now = fs::read(folders[1].path().join("top")).unwrap();
        assert!(now == *before.borrow(), "{option}");
    }
}

#[test]
fn options_that_can_be_amended_are_listed_without_an_image_as_by_qemu_img() {
    for (args, code) in [
        (&["-f", "qcow2", "-o", "help"][..], 0),
        (&["-f", "luks", "-o", "help"], 0),
        (&["-f", "qcow2", "-o", "help", "missing"], 0),
        (&["-f", "raw", "-o", "help"], 1),
        (&["-o", "help"], 1),
    ] {
        let (_, [real, own]) = both(|_| {}, &[&["amend"], args].concat());
        assert_eq!((real.code, own.code), (code, code), "{args:?}: {}", own.err);
        let names = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line.split(" - ").next().unwrap_or_default());
            lines.map(|line| line.trim_end().to_owned()).collect()
        };
        assert_eq!(names(&own.out), names(&real.out), "{args:?}");
        let said = |text: &str| text.split_once(": ").map(|(_, said)| said.trim().to_owned());
        let (own, real) = (said(&own.err), said(&real.err));
        let begins = own.unwrap_or_default().starts_with(&real.unwrap_or_default());
        assert!(begins, "{args:?}");
    }
}

#[test]
fn what_version_2_cannot_keep_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let refused = |phrase: &str| {
        let ran = qcheck(at, &["amend", "-o", "compat=0.10", "top"]);
        assert!(ran.code == 1 && ran.err.contains(phrase), "{phrase}: {}", ran.err);
        assert_clean(at, "top");
    };
    make(at, &[("top", "size=1M", &["write -q -P 1 0 64k"])]);
    qemu_ok(at, "qemu-img", &["bitmap", "--add", "top", "b"]);
    refused("bitmaps");
    qemu_ok(at, "qemu-img", &["bitmap", "--remove", "top", "b"]);
    qemu_ok(at, "qemu-img", &["snapshot", "-c", "one", "top"]);
    qemu_ok(at, "qemu-img", &["resize", "-q", "top", "2M"]);
    refused("Internal snapshots prevent downgrade of image");
    qemu_ok(at, "qemu-img", &["resize", "-q", "--shrink", "top", "1M"]);
    qemu_io(at, "top", "write -q -z 64k 64k");
    qemu_ok(at, "qemu-img", &["snapshot", "-c", "two", "top"]);
    refused("Internal snapshots prevent downgrade of image");
    qemu_ok(at, "qemu-img", &["snapshot", "-d", "two", "top"]);
    let ran = qcheck(at, &["amend", "-p", "-o", "compat=0.10", "top"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.ends_with("(100.00/100%)\r\n"), "{:?}", ran.out);
    assert_clean(at, "top");
}

#[test]
fn a_data_file_gets_another_name_and_need_not_be_raw_any_more() {
    let raw: &[Layer] = &[("top", "size=1M,data_file=DATA,data_file_raw=on", WRITES)];
    for option in ["data_file_raw=off", "data_file_raw=on", "data_file=other", "data_file="] {
        let (folders, [real, own]) = both(|f| make(f, raw), &["amend", "-o", option, "top"]);
        assert_eq!((own.code, &own.out), (real.code, &real.out), "{option}: {}", own.err);
        let header = |n: usize| {
            let bytes = fs::read(folders[n].path().join("top")).unwrap();
            let (autoclear, list) = (bytes[88..96].to_vec(), &bytes[112..600]);
            let other = list.windows(5).any(|window| window == b"other");
            let data = list.windows(4).any(|window| window == b"DATA");
            (autoclear, other, data)
        };
        assert_eq!(header(1), header(0), "{option}");
    }
}

#[test]
fn a_shorter_disk_needs_force() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make(at, &[("top", "size=1M", WRITES)]);
    let before = fs::read(at.join("top")).unwrap();
    let ran = qcheck(at, &["amend", "-o", "size=512k", "top"]);
    assert!(ran.code == 1 && ran.err.contains("--force"), "{}", ran.err);
    assert!(fs::read(at.join("top")).unwrap() == before);
    assert_eq!(qcheck(at, &["amend", "--force", "-o", "size=512k", "top"]).code, 0);
    assert_eq!(guest(at, "top", "qcow2").len(), 512 << 10);
    assert_clean(at, "top");
}

/// An image in memory, and how it is amended.
struct Case {
    path: std::path::PathBuf,
    image: Vec<u8>,
    guest: Vec<u8>,
    amendments: Amendments,
    disk: Disk,
    _folder: tempfile::TempDir,
}

fn cases() -> Vec<Case> {
    const SOME: &[&str] = &["write -q -P 1 0 20k", "write -q -z 20k 16k", "write -q -P 2 90k 3k"];
    let base: Layer = ("base", "raw 100k", &["write -q -P 7 0 100k"]);
    let bits = |bits| Amendments::default().refcount_bits(Some(bits));
    let version = |version| Amendments::default().version(Some(version));
    let of = |layers: &[Layer], snapshot: bool, amendments| {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), layers);
        if snapshot {
            qemu_ok(folder.path(), "qemu-img", &["snapshot", "-c", "one", "top"]);
        }
        let mut disk = Disk::default();
        for (name, ..) in layers {
            disk.load(&folder.path().join(name));
        }
        let path = folder.path().join("top");
        let image = fs::read(&path).unwrap();
        let guest = guest(folder.path(), "top", "qcow2");
        Case { path, image, guest, amendments, disk, _folder: folder }
    };
    vec![
        of(&[("top", "size=100k,cluster_size=512", SOME)], false, bits(64)),
        of(&[("top", "size=100k,cluster_size=4k", SOME)], true, bits(2)),
        of(&[("top", "size=100k,cluster_size=512,refcount_bits=64", SOME)], true, bits(4)),
        of(&[base, ("top", "size=100k,cluster_size=4k", SOME)], false, version(Version::V2)),
        of(&[("top", "size=100k,cluster_size=4k", SOME)], false, version(Version::V2)),
        of(
            &[base, ("top", "size=100k,cluster_size=512,compat=0.10", SOME)],
            true,
            version(Version::V3),
        ),
        of(
            &[("top", "size=100k,cluster_size=4k,compat=0.10", SOME)],
            false,
            version(Version::V3).lazy_refcounts(Some(true)).size(Some(200 << 10)),
        ),
    ]
}

impl Case {
    fn run(&self, storage: Arc<dyn Storage>) -> Result<()> {
        let opened = Image::open_write(storage, &options(&self.path), &self.disk)?;
        let Opened::Ready(image) = opened else { return Err(Error::NeedsRepair) };
        let control = Control { cancel: &AtomicBool::new(false), progress: &Silent };
        amend(*image, &self.amendments, control)
    }

    /// The image is valid, and the guest reads the same as far as its disk went before.
    fn assert_kept(&self, bytes: Vec<u8>, what: &str) {
        if let Some(violation) = violation(&bytes) {
            panic!("{what}: {violation}");
        }
        assert_no_error(&bytes, what);
        let storage = Arc::new(MemoryStorage::new(bytes));
        let image = Image::open_read(storage, &options(&self.path), &self.disk);
        let mut read = read_all(&image.unwrap_or_else(|error| panic!("{what}: {error}")));
        read.truncate(self.guest.len());
        assert_same(&read, &self.guest, what);
    }
}

#[test]
fn after_a_crash_the_image_is_valid_and_the_guest_reads_the_same() {
    let mut count = 0;
    for case in cases() {
        let log = Arc::new(WriteLog::new(case.image.clone()));
        case.run(log.clone()).unwrap();
        let what = format!("{:?}", case.amendments);
        case.assert_kept(log.image(), &what);
        count += crash_images(&log, |crash| {
            case.assert_kept(crash.bytes.clone(), &format!("{what}: {}", crash.story));
        });
    }
    assert!(count > 40, "only {count} crash images");
}

#[test]
fn after_a_failure_the_image_is_valid_and_the_guest_reads_the_same() {
    for case in cases() {
        for class in [Class::AnyWrite, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(case.image.clone()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = case.run(failing.clone());
                let what = format!("{:?}: {class:?} {n}", case.amendments);
                case.assert_kept(memory.to_vec(), &what);
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
            }
        }
    }
}
