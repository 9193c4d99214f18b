//! The corrupt bit while a repair is under way: set before anything that is not harmless by itself,
//! gone when the repair has ended.

use std::fs;

use qcheck::check::{CheckOptions, Tally, check};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{MemoryStorage, Storage};

use crate::support::damages::broken::{Broken, bases, damages};
use crate::support::images::bytes::{COPIED, OFFSET_MASK, be64, cluster_size, header, set_header};
use crate::support::programs::run::{qemu, qemu_io};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{Class, FailAfter};

const CORRUPT: u64 = 2;

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn run(storage: &dyn Storage, mode: RepairMode) -> Option<Tally> {
    let outcome = repair(storage, mode, &options(), &Silent).ok()?;
    Some(outcome.after.as_ref().unwrap_or(&outcome.before).tally)
}

fn tally(bytes: &[u8]) -> Tally {
    check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent).expect("a verdict").tally
}

fn is_marked(bytes: &[u8]) -> bool {
    header(bytes, "version") >= 3 && header(bytes, "incompatible_features") & CORRUPT != 0
}

fn all() -> impl Iterator<Item = (Broken, RepairMode)> {
    let broken = bases().iter().flat_map(damages);
    broken.flat_map(|b| [RepairMode::Leaks, RepairMode::All].map(|mode| (b.clone(), mode)))
}

/// Whether the second image has nothing that the first has not, but for counts and cleared flags.
fn only_counts_and_cleared_flags(before: &[u8], after: &[u8]) -> bool {
    let size = cluster_size(before);
    let table = header(before, "refcount_table_offset");
    let entries = header(before, "refcount_table_clusters") * size / 8;
    let places =
        (0..entries).map(|n| (table + 8 * n) as usize).take_while(|&at| at + 8 <= before.len());
    let blocks: Vec<u64> = places.map(|at| be64(before, at) & OFFSET_MASK).collect();
    let word = |bytes: &[u8], at: usize| if at + 8 <= bytes.len() { be64(bytes, at) } else { 0 };
    (0..after.len() & !7).step_by(8).all(|at| {
        let (was, is) = (word(before, at), word(after, at));
        let cluster = at as u64 / size * size;
        was == is || was == is | COPIED || (cluster > 0 && blocks.contains(&cluster))
    })
}

#[test]
fn a_repair_that_has_ended_leaves_the_mark_only_where_it_was_and_errors_are_left() {
    let mut restored = 0;
    for (broken, mode) in all() {
        let log = WriteLog::new(broken.bytes.clone());
        let verdict = run(&log, mode).expect("a file can grow");
        let want = is_marked(&broken.bytes) && verdict.corruptions > 0;
        assert_eq!(is_marked(&log.image()), want, "[{}] {mode:?}", broken.name);
        restored += usize::from(!want && verdict.corruptions > 0 && !log.ops().is_empty());
    }
    assert!(restored > 10, "{restored} repairs that did not fix everything");
}

#[test]
fn whatever_a_crash_leaves_in_the_middle_of_a_repair_is_marked() {
    let (mut images, mut marked) = (0, 0);
    for (broken, mode) in all() {
        // Where nothing but leaks is wrong there is nothing to warn of.
        if header(&broken.bytes, "version") < 3 || tally(&broken.bytes).corruptions == 0 {
            continue;
        }
        let log = WriteLog::new(broken.bytes.clone());
        run(&log, mode).expect("a file can grow");
        // By a check: it cannot see the evidence of a repair about cross-links that are left.
        let end = tally(&log.image());
        images += crash_images(&log, |image| {
            if is_marked(&image.bytes) {
                marked += 1;
                return;
            }
            let now = tally(&image.bytes);
            let ended = (now.corruptions, now.leaks) == (end.corruptions, end.leaks);
            let harmless = only_counts_and_cleared_flags(&broken.bytes, &image.bytes);
            assert!(ended || harmless, "[{}] {mode:?}, when of {}", broken.name, image.story);
        });
    }
    println!("{marked} of {images} crash images are marked");
    assert!(marked > 1000, "{marked} of {images}");
}

#[test]
fn a_repair_that_fails_leaves_the_mark() {
    let mut marked = 0;
    for (broken, mode) in all().step_by(5) {
        for n in 0.. {
            let image = MemoryStorage::new(broken.bytes.clone());
            let disk = FailAfter::new(image, Class::AnyWrite, n);
            let ended = run(&disk, mode).is_some();
            if !disk.fired() {
                break;
            }
            assert!(!ended, "[{}] {mode:?} {n}", broken.name);
            marked += usize::from(is_marked(&disk.into_inner().into_inner()));
        }
    }
    assert!(marked > 100, "{marked}");
}

#[test]
fn where_only_leaks_are_wrong_no_crash_keeps_a_guest_from_starting() {
    let mut images = 0;
    for (broken, mode) in all().filter(|(broken, _)| broken.name.ends_with(": leaks")) {
        let log = WriteLog::new(broken.bytes.clone());
        run(&log, mode).expect("a file can grow");
        images += crash_images(&log, |image| assert!(!is_marked(&image.bytes), "{}", image.story));
    }
    assert!(images > 50, "{images}");
}

#[test]
fn qemu_writes_to_no_image_whose_repair_was_interrupted_until_it_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let name = "v3 4k 16-bit: reftable at 0";
    let broken = bases().iter().flat_map(damages).find(|b| b.name == name).expect("it is there");
    let log = WriteLog::new(broken.bytes.clone());
    run(&log, RepairMode::All).expect("a file can grow");
    let (mut refused, mut number) = (0, 0);
    crash_images(&log, |image| {
        number += usize::from(is_marked(&image.bytes));
        if !is_marked(&image.bytes) || number % 5 != 1 {
            return;
        }
        fs::write(dir.path().join("a"), &image.bytes).unwrap();
        let ran = qemu(dir.path(), "qemu-io", &["-f", "qcow2", "-c", "write 0 4k", "a"]);
        assert!(ran.err.contains("Image is corrupt"), "{ran:?}");
        assert!(fs::read(dir.path().join("a")).unwrap() == image.bytes);
        refused += 1;
    });
    assert!(refused > 0);
    fs::write(dir.path().join("a"), log.image()).unwrap();
    qemu_io(dir.path(), "a", "write 0 4k");
}

#[test]
fn a_mark_of_qemus_stays_while_there_are_errors() {
    let name = "v3 4k 16-bit: data twice";
    let broken = bases().iter().flat_map(damages).find(|b| b.name == name).expect("it is there");
    let mut bytes = broken.bytes;
    set_header(&mut bytes, "incompatible_features", CORRUPT);
    let image = MemoryStorage::new(bytes);
    let verdict = run(&image, RepairMode::Leaks).expect("a verdict");
    assert!(verdict.corruptions > 0 && is_marked(&image.into_inner()));
}
