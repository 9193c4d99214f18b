//! Bitmaps that are added to an image: all of them or none, whatever a crash or a failure leaves.

use std::path::Path;
use std::sync::Arc;

use qcheck::check::{CheckOptions, check};
use qcheck::error::Result;
use qcheck::image::{BackingPolicy, Image, OpenOptions, Opened};
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, Storage};

use crate::image::bitmaps::{Stored, number, stored};
use crate::image::invariants::violation;
use crate::image::tools::{Disk, options};
use crate::support::programs::run::{assert_clean, qemu_create, qemu_io, qemu_ok};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

/// The autoclear bit without which bitmaps are out of date.
const CONSISTENT: u64 = 1;

/// An image to take bitmaps from, and one to give them to.
struct Case {
    name: &'static str,
    folder: tempfile::TempDir,
    from: Arc<MemoryStorage>,
    to: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let base = "a-backing-file-with-a-name-of-some-length";
    [
        ("none there", "cluster_size=4k", &[][..]),
        ("one there", "cluster_size=4k", &["own"]),
        ("one there, after the first sector", "cluster_size=8k", &["own"]),
        ("a backing file's name in the way", "cluster_size=16k", &[]),
    ]
    .into_iter()
    .map(|(name, options, own)| {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        qemu_create(at, &["-f", "qcow2", "-o", "cluster_size=1k", "from", "900k"]);
        qemu_ok(at, "qemu-img", &["bitmap", "--add", "-g", "512", "from", "day"]);
        qemu_ok(at, "qemu-img", &["bitmap", "--add", "-g", "64k", "from", "hour"]);
        qemu_io(at, "from", "write -q 100k 300k");
        qemu_ok(at, "qemu-img", &["create", "-q", "-f", "raw", base, "900k"]);
        let below: &[&str] = if own.is_empty() { &["-b", base, "-F", "raw"] } else { &[] };
        qemu_create(at, &[&["-f", "qcow2", "-o", options], below, &["to", "900k"]].concat());
        for bitmap in own {
            qemu_ok(at, "qemu-img", &["bitmap", "--add", "to", bitmap]);
        }
        let mut disk = Disk::default();
        let from = disk.load(&at.join("from"));
        let to = std::fs::read(at.join("to")).unwrap();
        Case { name, folder, from, to }
    })
    .collect()
}

impl Case {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&self, storage: Arc<dyn Storage>) -> Result<()> {
        let disk = Disk::default();
        let from = Image::open_read(self.from.clone(), &options(&self.path().join("from")), &disk)?;
        let leave = OpenOptions::default()
            .backing(BackingPolicy::Leave)
            .l2_cache_bytes(1)
            .refblock_cache_bytes(1);
        let Opened::Ready(to) = Image::open_write(storage, &leave, &disk)? else {
            panic!("the image is dirty")
        };
        let entries = from.stored_bitmaps()?.into_iter();
        let added = entries.map(|entry| Ok((entry.clone(), from.bitmap_bits(&entry)?)));
        to.add_bitmaps(&added.collect::<Result<Vec<_>>>()?)?;
        to.close()
    }

    /// Bitmaps that count are those before or those after, and no cluster of the image is in danger.
    fn assert_all_or_none(&self, bytes: &[u8], states: &[Vec<Stored>; 2], what: &str) {
        let what = format!("{}: {what}", self.name);
        assert_eq!(violation(bytes), None, "{what}");
        if number(bytes, 88, 8) & CONSISTENT != 0 {
            assert!(states.contains(&stored(bytes)), "{what}: {:?}", stored(bytes));
        }
        let options = CheckOptions::default().threads(1);
        let report = check(&MemoryStorage::new(bytes.to_vec()), &options, &Silent).unwrap();
        assert_eq!((report.tally.corruptions, report.tally.check_errors), (0, 0), "{what}");
        let name_at = number(bytes, 8, 8) as usize;
        let length = number(bytes, 16, 4) as usize;
        let old_at = number(&self.to, 8, 8) as usize;
        assert_eq!(bytes[name_at..name_at + length], self.to[old_at..old_at + length], "{what}");
    }
}

#[test]
fn a_crash_leaves_all_added_bitmaps_or_none() {
    for case in cases() {
        let log = Arc::new(WriteLog::new(case.to.clone()));
        case.add(log.clone()).unwrap();
        let states = [stored(&case.to), stored(&log.image())];
        assert_eq!(states[0].len() + 2, states[1].len(), "{}", case.name);
        let count = crash_images(&log, |image| {
            case.assert_all_or_none(&image.bytes, &states, &image.story)
        });
        assert!(count > 10, "{}: only {count} crash images", case.name);
        std::fs::write(case.path().join("to"), log.image()).unwrap();
        assert_clean(case.path(), "to");
        assert!(qemu_ok(case.path(), "qemu-img", &["info", "to"]).contains("name: hour"));
    }
}

#[test]
fn a_failure_leaves_all_added_bitmaps_or_none() {
    for case in cases() {
        let sound = Arc::new(MemoryStorage::new(case.to.clone()));
        case.add(sound.clone()).unwrap();
        let states = [stored(&case.to), stored(&sound.to_vec())];
        for class in [Class::Write, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(case.to.clone()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = case.add(failing.clone());
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
                assert!(outcome.is_err(), "{}: {class:?} {n} failed without an error", case.name);
                case.assert_all_or_none(&memory.to_vec(), &states, &format!("{class:?} {n}"));
            }
        }
    }
}
