//! Snapshots deleted and applied where there is no free space for copies: in place, under the dirty bit.

use std::fs;
use std::sync::Arc;

use qcheck::check::{CheckOptions, check};
use qcheck::edit::snapshot;
use qcheck::progress::Silent;
use qcheck::storage::MemoryStorage;

use crate::image::change::states::{Case, Change};
use crate::image::change::switch::{contents, rich};
use crate::image::invariants::violation;
use crate::image::tools::{check_code, qemu};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

fn changes() -> Vec<(&'static str, Box<Change>)> {
    vec![
        ("delete first", Box::new(|image| snapshot::delete(image, "first"))),
        ("delete other", Box::new(|image| snapshot::delete(image, "other"))),
        ("apply", Box::new(|image| snapshot::apply(image, "first"))),
    ]
}

/// An image on a device with one free cluster.
fn full(create: &str, bitmap: bool) -> Case {
    let mut case = rich(create, bitmap);
    let cluster = 1 << case.bytes()[23];
    let mut bytes = case.bytes();
    let end = bytes.len().next_multiple_of(cluster);
    let free = (0..end / cluster).filter(|&n| refcount(&bytes, n) == 0).count();
    let spare = 1_usize.saturating_sub(free);
    bytes.resize(end + spare * cluster, 0);
    case.disk.files.insert(case.path.clone(), Arc::new(MemoryStorage::fixed(bytes)));
    case
}

/// A refcount of 16 bits.
fn refcount(bytes: &[u8], cluster: usize) -> u64 {
    let number = |at: usize, width: usize| {
        bytes[at..at + width].iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
    };
    let per_block = (1 << bytes[23]) / 2;
    let block = number(number(48, 8) as usize + cluster / per_block * 8, 8) as usize;
    if block == 0 { 0 } else { number(block + cluster % per_block * 2, 2) }
}

fn is_dirty(bytes: &[u8]) -> bool {
    bytes[7] >= 3 && bytes[79] & 1 != 0
}

#[test]
fn qemu_repairs_every_crash_and_nothing_is_lost() {
    for kind in ["cluster_size=512", "cluster_size=4k", "cluster_size=4k,lazy_refcounts=on"] {
        for (name, change) in changes() {
            let case = full(kind, name != "apply");
            let log = Arc::new(WriteLog::fixed(case.bytes()));
            case.change(log.clone(), &*change).unwrap();
            let (before, after) = (contents(&case, &case.bytes()), contents(&case, &log.image()));
            let (mut dirty, mut n) = (0, 0);
            crash_images(&log, |image| {
                let what = format!("{kind}: {name}: {}", image.story);
                assert_eq!(violation(&image.bytes), None, "{what}");
                dirty += usize::from(is_dirty(&image.bytes));
                n += 1;
                // Each run of QEMU's tools takes as long as a hundred states without.
                if n % 5 != 0 {
                    return;
                }
                fs::write(&case.path, &image.bytes).unwrap();
                if is_dirty(&image.bytes) {
                    let open = ["-f", "qcow2", "-c", "read -q 0 512", case.path.to_str().unwrap()];
                    qemu("qemu-io", &open);
                    assert_eq!(check_code(&case.path).0, 0, "{what}");
                } else {
                    assert!([0, 3].contains(&check_code(&case.path).0), "{what}");
                }
                let now = contents(&case, &fs::read(&case.path).unwrap());
                assert!(now == before || now == after, "{what}");
            });
            assert!(dirty > 0, "{kind}: {name} is not made in place");
            assert!(!is_dirty(&log.image()), "{kind}: {name} stays dirty");
            fs::write(&case.path, log.image()).unwrap();
            assert_eq!(check_code(&case.path).0, 0, "{kind}: {name}");
        }
    }
}

#[test]
fn version_two_has_no_dirty_bit_and_a_repair_loses_nothing() {
    for (name, change) in changes() {
        let case = full("cluster_size=512,compat=0.10", false);
        let log = Arc::new(WriteLog::fixed(case.bytes()));
        case.change(log.clone(), &*change).unwrap();
        let (before, after) = (contents(&case, &case.bytes()), contents(&case, &log.image()));
        let mut n = 0;
        crash_images(&log, |image| {
            let what = format!("{name}: {}", image.story);
            assert_eq!(violation(&image.bytes), None, "{what}");
            n += 1;
            if n % 5 != 0 {
                return;
            }
            fs::write(&case.path, &image.bytes).unwrap();
            let repair = ["check", "-q", "-r", "all", case.path.to_str().unwrap()];
            qemu("qemu-img", &repair);
            assert_eq!(check_code(&case.path).0, 0, "{what}");
            let now = contents(&case, &fs::read(&case.path).unwrap());
            assert!(now == before || now == after, "{what}");
        });
    }
}

#[test]
fn a_failure_leaves_the_dirty_bit_unless_the_image_is_as_before_or_as_after() {
    for (name, change) in changes() {
        let case = full("cluster_size=4k", name != "apply");
        let options = CheckOptions::default().threads(1);
        for class in [Class::Write, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::fixed(case.bytes()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = case.change(failing.clone(), &*change);
                let what = format!("{name}: {class:?} {n}");
                let bytes = memory.to_vec();
                assert_eq!(violation(&bytes), None, "{what}");
                let tally = check(&*memory, &options, &Silent).unwrap().tally;
                assert!(is_dirty(&bytes) || tally.corruptions == 0, "{what}: {tally:?}");
                if !failing.fired() {
                    outcome.unwrap();
                    assert!(tally.is_clean() && !is_dirty(&bytes), "{what}");
                    break;
                }
                assert!(outcome.is_err(), "{what} failed without an error");
            }
        }
    }
}
