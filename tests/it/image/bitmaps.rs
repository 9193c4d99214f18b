//! Persistent bitmaps: they follow the disk's size and what is written, as qemu-img's do, through crashes and failures.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use qcheck::check::{CheckOptions, check};
use qcheck::edit::resize::{Preallocation, ResizeOptions, resize};
use qcheck::error::Result;
use qcheck::image::{Image, Opened};
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, Storage};

use crate::image::invariants::violation;
use crate::image::tools::{Disk, at, options};
use crate::support::programs::run::{
    assert_clean, qcheck, qemu, qemu_create, qemu_io as io, qemu_ok,
};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

/// The extension is in the first 512 bytes with the first of these, and after them with the second: QEMU puts
/// the table of feature names before it where a cluster has more than 4 KiB.
const KINDS: [&str; 2] = ["cluster_size=4k", "cluster_size=8k"];
const IN_USE: u32 = 1;

/// A bitmap as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    name: Vec<u8>,
    flags: u32,
    granularity: u32,
    bits: Vec<bool>,
}

pub fn number(bytes: &[u8], at: u64, width: u64) -> u64 {
    (at..at + width)
        .fold(0, |value, n| value << 8 | u64::from(bytes.get(n as usize).copied().unwrap_or(0)))
}

/// The offset of the data of the bitmaps extension, if the image has bitmaps.
pub fn extension(bytes: &[u8]) -> Option<u64> {
    let mut place = number(bytes, 100, 4);
    loop {
        match (number(bytes, place, 4), number(bytes, place + 4, 4)) {
            (0, _) => return None,
            (0x2385_2875, _) => return Some(place + 8),
            (_, length) => place += 8 + length.next_multiple_of(8),
        }
    }
}

/// All bitmaps of an image, read without the engine. Bits that belong to no part of the disk must be clear.
pub fn stored(bytes: &[u8]) -> Vec<Stored> {
    let (cluster, size) = (1 << number(bytes, 20, 4), number(bytes, 24, 8));
    let Some(extension) = extension(bytes) else { return Vec::new() };
    let mut entry = number(bytes, extension + 16, 8);
    let mut list = Vec::new();
    for _ in 0..number(bytes, extension, 4) {
        let (table, entries) = (number(bytes, entry, 8), number(bytes, entry + 8, 4));
        let (name_len, granularity) =
            (number(bytes, entry + 18, 2), number(bytes, entry + 17, 1) as u32);
        let mut bits = Vec::new();
        for n in 0..entries {
            let slot = number(bytes, table + n * 8, 8);
            let bit = |k: u64| match slot {
                0 | 1 => slot == 1,
                _ => number(bytes, slot + k / 8, 1) >> (k % 8) & 1 == 1,
            };
            bits.extend((0..cluster * 8).map(bit));
        }
        let flags = number(bytes, entry + 12, 4) as u32;
        if flags & IN_USE == 0 {
            let wanted = size.div_ceil(1 << granularity) as usize;
            assert!(bits.len() >= wanted, "too short");
            assert!(bits[wanted..].iter().all(|bit| !bit), "bits past the disk's end");
            bits.truncate(wanted);
        }
        let name = (0..name_len).map(|n| number(bytes, entry + 24 + n, 1) as u8).collect();
        list.push(Stored { name, flags, granularity, bits });
        entry += (24 + name_len).next_multiple_of(8);
    }
    list
}

/// An image with a bitmap that records, a fine one that does not but has bits, and one without any.
fn image(folder: &Path, options: &str, size: &str) {
    qemu_create(folder, &["-f", "qcow2", "-o", options, "a", size]);
    let bitmap = |args: &[&str]| {
        drop(qemu_ok(folder, "qemu-img", &[&["bitmap"], args].concat()));
    };
    bitmap(&["--add", "a", "records"]);
    bitmap(&["--add", "-g", "512", "a", "fine"]);
    io(folder, "a", "write -q -P 1 0 300k");
    io(folder, "a", "write -q -P 2 1000k 20k");
    bitmap(&["--disable", "a", "fine"]);
    bitmap(&["--add", "--disable", "-g", "4096", "a", "empty"]);
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn bitmaps_follow_the_size_as_those_of_qemu_img_do() {
    for options in ["cluster_size=512", "cluster_size=4k", "cluster_size=8k", "extended_l2=on"] {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path(), options, "1020k");
        fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
        for (args, size) in [
            (&[][..], "10M"),
            (&["--preallocation=metadata"], "20M"),
            (&["--shrink"], "1010k"),
            (&[], "1111040"),
            (&["--shrink"], "200704"),
            (&["--preallocation=full"], "4M"),
            (&[], "64M"),
        ] {
            for (tool, image) in [("qcheck", "a"), ("qemu-img", "b")] {
                let all = [&["resize", "-q"], args, &[image, size]].concat();
                match tool {
                    "qcheck" => assert_eq!(qcheck(dir.path(), &all).err, ""),
                    _ => drop(qemu_ok(dir.path(), tool, &all)),
                }
            }
            assert_clean(dir.path(), "a");
            let (ours, theirs) = (stored(&read(dir.path(), "a")), stored(&read(dir.path(), "b")));
            assert_eq!(ours.len(), 3);
            assert!(ours == theirs, "{options}: {args:?} {size}");
        }
        // QEMU goes on recording.
        io(dir.path(), "a", "write -q 40M 64k");
        io(dir.path(), "b", "write -q 40M 64k");
        assert!(stored(&read(dir.path(), "a")) == stored(&read(dir.path(), "b")));
        assert_clean(dir.path(), "a");
    }
}

#[test]
fn bitmaps_in_use_refuse_another_size_and_those_out_of_date_stay_so() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "cluster_size=4k", "2M");
    let sound = read(dir.path(), "a");
    let entry = number(&sound, extension(&sound).unwrap() + 16, 8) as usize;
    let mut in_use = sound.clone();
    in_use[entry + 15] |= 1;
    let mut stale = sound.clone();
    stale[95] = 0;
    for (bytes, code) in [(&in_use, 1), (&stale, 0)] {
        for args in [&["resize", "a", "1T"][..], &["resize", "--shrink", "a", "1M"]] {
            fs::write(dir.path().join("a"), bytes).unwrap();
            fs::write(dir.path().join("b"), bytes).unwrap();
            let ran = qcheck(dir.path(), args);
            let args: Vec<&str> = args.iter().map(|&a| if a == "a" { "b" } else { a }).collect();
            assert_eq!(qemu(dir.path(), "qemu-img", &args).code, code);
            assert_eq!(ran.code, code, "{}", ran.err);
            assert!(code == 0 || read(dir.path(), "a") == *bytes, "something was written");
            assert!(code == 0 || ran.err.contains("'records'"), "{}", ran.err);
        }
    }
}

#[test]
fn snapshots_leave_bitmaps_as_they_are_and_none_is_gone_back_to() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "cluster_size=4k", "2M");
    let before = stored(&read(dir.path(), "a"));
    for (args, code) in [(["-c", "one"], 0), (["-a", "one"], 1), (["-d", "one"], 0)] {
        fs::copy(dir.path().join("a"), dir.path().join("b")).unwrap();
        let ours = qcheck(dir.path(), &[&["snapshot"], &args[..], &["a"]].concat());
        let theirs = qemu(dir.path(), "qemu-img", &[&["snapshot"], &args[..], &["b"]].concat());
        assert_eq!((ours.code, theirs.code), (code, code), "{}", ours.err);
        assert!(stored(&read(dir.path(), "a")) == before);
        assert_clean(dir.path(), "a");
    }
}

/// An image in memory and what happens to it.
struct Case {
    disk: Disk,
    folder: tempfile::TempDir,
}

type Change = dyn Fn(&mut Image) -> Result<()>;

impl Case {
    fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        image(folder.path(), kind, "1020k");
        let mut disk = Disk::default();
        disk.load(&folder.path().join("a"));
        Self { disk, folder }
    }

    fn before(&self) -> Vec<u8> {
        read(self.folder.path(), "a")
    }

    fn change(&self, storage: Arc<dyn Storage>, change: &Change) -> Result<()> {
        let options =
            options(&self.folder.path().join("a")).l2_cache_bytes(1).refblock_cache_bytes(1);
        let Opened::Ready(mut image) = Image::open_write(storage, &options, &self.disk)? else {
            panic!("the image is dirty")
        };
        change(&mut image)?;
        image.close()
    }
}

fn resized(size: u64, preallocation: Preallocation) -> Box<Change> {
    Box::new(move |image| {
        resize(image, size, ResizeOptions::default().shrink(true).preallocation(preallocation))
    })
}

fn written(image: &mut Image) -> Result<()> {
    image.write(at(400 << 10), &[7; 3000])?;
    image.discard(at(16 << 10), 32 << 10)?;
    image.write_zeroes(at((900 << 10) - 5), 100, false)
}

fn changes() -> Vec<(&'static str, Box<Change>)> {
    vec![
        ("grow", resized(80 << 20, Preallocation::Off)),
        ("grow mapped", resized(20 << 20, Preallocation::Metadata)),
        ("grow within the tables", resized(1100 << 10, Preallocation::Off)),
        ("shrink", resized(1010 << 10, Preallocation::Off)),
        ("shrink more", resized(51_200, Preallocation::Off)),
        ("write", Box::new(written)),
    ]
}

/// No bitmap is wrong: each is marked in use, or has the bits of one of two states, which are those of the disk's size.
fn assert_no_lie(bytes: &[u8], states: &[Vec<Stored>; 2], what: &str) {
    for (n, bitmap) in stored(bytes).into_iter().enumerate() {
        let known = states.iter().any(|state| state[n] == bitmap);
        assert!(bitmap.flags & IN_USE != 0 || known, "{what}: {}", bitmap.name.escape_ascii());
    }
    let storage = MemoryStorage::new(bytes.to_vec());
    let report = check(&storage, &CheckOptions::default().threads(1), &Silent);
    let tally = report.unwrap().tally;
    assert_eq!((tally.corruptions, tally.check_errors), (0, 0), "{what}");
}

#[test]
fn no_crash_leaves_a_wrong_bitmap() {
    for kind in KINDS {
        let case = Case::new(kind);
        for (name, change) in changes() {
            let before = case.before();
            let log = Arc::new(WriteLog::new(before.clone()));
            case.change(log.clone(), &*change).unwrap();
            let states = [stored(&before), stored(&log.image())];
            assert_ne!(states[0], states[1], "{kind}: {name} changes nothing");
            let mut lost = 0;
            let count = crash_images(&log, |image| {
                assert_eq!(violation(&image.bytes), None, "{kind}: {name}: {}", image.story);
                let what = format!("{kind}: {name}: {}", image.story);
                assert_no_lie(&image.bytes, &states, &what);
                lost += usize::from(stored(&image.bytes).iter().any(|b| b.flags & IN_USE != 0));
            });
            assert!(count > 1, "{kind}: {name}: only {count} crash images");
            assert!(lost == 0 || name == "write" || kind == KINDS[1], "{kind}: {name} lost some");
            fs::write(case.folder.path().join("after"), log.image()).unwrap();
            assert_clean(case.folder.path(), "after");
        }
    }
}

#[test]
fn no_failure_leaves_a_wrong_bitmap() {
    for kind in KINDS {
        let case = Case::new(kind);
        for (name, change) in changes() {
            let before = case.before();
            let sound = Arc::new(MemoryStorage::new(before.clone()));
            case.change(sound.clone(), &*change).unwrap();
            let states = [stored(&before), stored(&sound.to_vec())];
            for class in [Class::Write, Class::Sync, Class::Read] {
                for n in 0.. {
                    let memory = Arc::new(MemoryStorage::new(before.clone()));
                    let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                    let outcome = case.change(failing.clone(), &*change);
                    if !failing.fired() {
                        outcome.unwrap();
                        break;
                    }
                    let what = format!("{kind}: {name}: {class:?} {n}");
                    assert!(outcome.is_err(), "{what} failed without an error");
                    assert_eq!(violation(&memory.to_vec()), None, "{what}");
                    assert_no_lie(&memory.to_vec(), &states, &what);
                }
            }
        }
    }
}

#[test]
fn what_the_engine_writes_is_recorded_as_qemu_records_it() {
    for kind in ["cluster_size=512", "cluster_size=4k", "cluster_size=64k"] {
        let case = Case::new(kind);
        let memory = case.disk.files[&case.folder.path().join("a")].clone();
        case.change(memory.clone(), &|image| {
            image.write(at(500_000), &[3; 70_000])?;
            image.write_zeroes(at(700_001), 9, false)?;
            image.discard(at(128 << 10), 64 << 10)
        })
        .unwrap();
        for command in ["write -q 500000 70000", "write -q -z 700001 9", "discard -q 128k 64k"] {
            io(case.folder.path(), "a", command);
        }
        let theirs = stored(&case.before());
        assert!(stored(&memory.to_vec()) == theirs, "{kind}");
        fs::write(case.folder.path().join("ours"), memory.to_vec()).unwrap();
        assert_clean(case.folder.path(), "ours");
        // A writer that wrote nothing, and one that wrote what is recorded already.
        case.change(memory.clone(), &|image| image.write(at(0), &[])).unwrap();
        case.change(memory.clone(), &|image| image.write(at(500_000), &[4; 70_000])).unwrap();
        assert!(stored(&memory.to_vec()) == theirs, "{kind}");
    }
}
