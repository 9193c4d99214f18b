//! Whatever a crash leaves of a repair is no worse than what it found, and the same repair ends there as it would have
//! without the crash.

use std::collections::HashSet;

use qcheck::check::{CheckOptions, Tally, check};
use qcheck::error::{Error, Result};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, RepairOutcome, repair};
use qcheck::storage::{MemoryStorage, Storage};

use crate::support::damages::broken::{Broken, bases, damages};
use crate::support::images::bytes::header;
use crate::support::images::reader::{Reader, worse_disk, worse_than};
use crate::support::programs::oracle::{Scratch, all_guest_bytes};
use crate::support::storages::crash::{Op, WriteLog, crash_images};

const MODES: [RepairMode; 3] = [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy];

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn run(storage: &dyn Storage, mode: RepairMode) -> Result<RepairOutcome> {
    repair(storage, mode, &options(), &Silent)
}

fn tally(bytes: &[u8]) -> Tally {
    check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent).expect("a verdict").tally
}

/// How many of what was looked at.
#[derive(Debug, Default)]
struct Count {
    repairs: usize,
    crash_images: usize,
    clean: usize,
    no_room: usize,
}

/// Every crash image of one repair. Returns what is wrong with them.
fn every_crash(broken: &Broken, mode: RepairMode, fixed: bool, count: &mut Count) -> Vec<String> {
    let start = broken.bytes.clone();
    let log = if fixed { WriteLog::fixed(start) } else { WriteLog::new(start) };
    let name = format!("[{}] {mode:?}{}", broken.name, if fixed { " fixed" } else { "" });
    let outcome = run(&log, mode);
    count.repairs += 1;
    if let Err(Error::NoRoom { .. }) = outcome {
        count.no_room += 1;
        let wrote = log.ops().iter().any(|op| *op != Op::Sync);
        return if wrote {
            vec![format!("{name}: no free space after a write")]
        } else {
            Vec::new()
        };
    }
    let outcome = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    let end = tally(&log.image());
    let told = outcome.after.as_ref().unwrap_or(&outcome.before).tally;
    assert_eq!(told.is_clean(), end.is_clean(), "{name}: {told:?} is reported, {end:?} is true");
    count.clean += usize::from(end.is_clean());
    let (before, sound) = (Reader::new(&broken.bytes), Reader::new(broken.sound));
    let worse = |after: &[u8]| match mode {
        RepairMode::Lossy => worse_disk(&before, &sound, &Reader::new(after)),
        _ => worse_than(&before, &sound, &Reader::new(after)),
    };
    let (mut wrong, mut ends) = (Vec::new(), HashSet::new());
    count.crash_images += crash_images(&log, |image| {
        if let Some(why) = worse(&image.bytes) {
            wrong.push(format!("{name}: {why}, when of {}", image.story));
        }
        let again = storage(image.bytes.clone(), fixed);
        if let Err(error) = run(&again, mode) {
            wrong.push(format!("{name}: {error}, when of {}", image.story));
        }
        let bytes = again.into_inner();
        if !ends.insert(bytes.clone()) {
            return; // Another crash ends in the same image.
        }
        let now = tally(&bytes);
        // Without refcounts nothing shows that what the first one wrote is waste: it stays counted.
        let most = end.leaks + if has_lost_counts(broken) { WRITTEN } else { 0 };
        // Where copies were begun beside leaks, or refcounts are right before flags are, the same repair holds the leaks: no
        // more is wrong than before the first one.
        let half_done = ["table twice", "flags"].iter().any(|what| broken.name.contains(what));
        let begun = half_done.then(|| tally(&broken.bytes));
        let held = begun
            .is_some_and(|damaged| now.corruptions <= damaged.corruptions && now.check_errors == 0);
        let differs = now.corruptions > end.corruptions || now.leaks > most || now.check_errors > 0;
        if differs && !held {
            wrong.push(format!("{name}: {now:?}, not {end:?}, when of {}", image.story));
        }
        if let Some(why) = worse(&bytes) {
            wrong.push(format!("{name}: {why} after a second repair, when of {}", image.story));
        }
    });
    wrong.truncate(3);
    wrong
}

/// Clusters of new refcount structures that a repair writes into the images of these tests, at most.
const WRITTEN: u64 = 8;

/// Whether refcount structures are what is damaged.
fn has_lost_counts(broken: &Broken) -> bool {
    ["reftable", "block"].iter().any(|what| broken.name.contains(what))
}

fn storage(bytes: Vec<u8>, fixed: bool) -> MemoryStorage {
    if fixed { MemoryStorage::fixed(bytes) } else { MemoryStorage::new(bytes) }
}

/// Every crash image of every repair of the bases with these names.
fn every_crash_of(names: &[&str]) {
    let mut count = Count::default();
    let mut wrong = Vec::new();
    for base in bases().iter().filter(|base| names.contains(&base.name)) {
        assert!(tally(&base.bytes).is_clean(), "{} is not consistent", base.name);
        for broken in damages(base) {
            for mode in MODES {
                wrong.extend(every_crash(&broken, mode, false, &mut count));
            }
            wrong.extend(every_crash(&broken, RepairMode::All, true, &mut count));
        }
    }
    println!("{names:?}: {count:?}");
    assert!(wrong.is_empty(), "{count:?}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count.crash_images > 150 && count.clean > 30, "cases are missing: {count:?}");
}

#[test]
fn every_crash_of_a_repair_is_survived_with_512_byte_clusters() {
    every_crash_of(&["v3 512 16-bit", "v3 512 64-bit"]);
}

#[test]
fn every_crash_of_a_repair_is_survived_in_version_2() {
    every_crash_of(&["v2 512 shared"]);
}

#[test]
fn every_crash_of_a_repair_is_survived_with_narrow_counts() {
    every_crash_of(&["v3 512 2-bit shared", "v3 512 1-bit"]);
}

#[test]
fn every_crash_of_a_repair_is_survived_with_snapshots() {
    every_crash_of(&["v3 1k 8-bit snapshots"]);
}

#[test]
fn every_crash_of_a_repair_is_survived_with_larger_clusters_and_images_of_qemu() {
    every_crash_of(&["v3 4k 16-bit", "qemu-img"]);
}

#[test]
fn every_crash_of_a_repair_is_survived_with_subclusters() {
    every_crash_of(&["v3 16k subclusters"]);
}

#[test]
fn every_crash_of_a_repair_is_survived_with_bitmaps_and_encryption() {
    every_crash_of(&["v3 1k bitmaps", "v3 1k encrypted"]);
}

/// Every view's bytes, by the reader of the tests.
fn read(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let reader = Reader::new(bytes);
    let views = reader.views().iter();
    views
        .map(|view| view.iter().cloned().collect::<Option<Vec<_>>>().map(|all| all.concat()))
        .collect()
}

/// Compares the views that both can read; returns how many.
fn compare(bytes: &[u8], snapshots: &[&str], story: &str) -> usize {
    let both = all_guest_bytes(&Scratch::in_memory(bytes), snapshots).into_iter().zip(read(bytes));
    let pairs: Vec<_> = both.filter_map(|(qemu, own)| qemu.zip(own)).collect();
    assert!(pairs.iter().all(|(qemu, own)| qemu == own), "{story}");
    pairs.len()
}

#[test]
fn qemu_img_reads_in_crash_images_what_the_reader_of_these_tests_reads() {
    let names = |base: &str| match base {
        "v3 1k 8-bit snapshots" => vec!["shared", "own"],
        "v2 512 shared" => vec!["shared"],
        "qemu-img" => vec!["one"],
        _ => vec![],
    };
    let mut compared = 0;
    for base in
        bases().iter().filter(|base| base.name == "v3 4k 16-bit" || !names(base.name).is_empty())
    {
        for broken in damages(base).iter().step_by(3) {
            let log = WriteLog::new(broken.bytes.clone());
            run(&log, RepairMode::All).expect("a file can grow");
            let mut number = 0;
            crash_images(&log, |image| {
                number += 1;
                if number % 25 == 1 {
                    compared += compare(&image.bytes, &names(base.name), &image.story);
                }
            });
        }
    }
    println!("{compared} views compared");
    assert!(compared > 40, "{compared}");
}

/// The errors that real qemu-img finds; `None` where it does not check the image.
fn errors_of_qemu(bytes: &[u8]) -> Option<u64> {
    let ran = Scratch::in_memory(bytes).qemu_check(&["--output=json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).ok()?;
    Some(report["corruptions"].as_u64().unwrap_or(0))
}

/// QEMU does not write to an image that is marked.
fn is_marked(bytes: &[u8]) -> bool {
    const CORRUPT: u64 = 2;
    header(bytes, "version") >= 3 && header(bytes, "incompatible_features") & CORRUPT != 0
}

#[test]
fn no_crash_of_a_rebuild_leaves_more_errors_to_qemu_where_it_may_write() {
    let names = ["v3 512 16-bit", "v2 512 shared", "v3 4k 16-bit", "qemu-img"];
    let (mut wrong, mut states) = (Vec::new(), 0);
    for base in bases().iter().filter(|base| names.contains(&base.name)) {
        let pointers = ["block missing", "block outside", "block unaligned", "block with reserved"];
        let lost = |broken: &Broken| pointers.iter().any(|what| broken.name.contains(what));
        for broken in damages(base).into_iter().filter(lost) {
            let Some(before) = errors_of_qemu(&broken.bytes) else { continue };
            let log = WriteLog::new(broken.bytes.clone());
            run(&log, RepairMode::All).expect("a file can grow");
            let (mut all, mut more, mut unmarked) = (0, 0, 0);
            crash_images(&log, |image| {
                all += 1;
                let errors = errors_of_qemu(&image.bytes).unwrap_or(u64::MAX);
                more += u64::from(errors > before);
                unmarked += u64::from(errors > before && !is_marked(&image.bytes));
            });
            states += all;
            println!(
                "[{}]: {all} states, {more} with more than {before} errors, {unmarked} of them unmarked",
                broken.name
            );
            // Version 2 has no mark.
            if unmarked > 0 && header(&broken.bytes, "version") >= 3 {
                wrong.push(broken.name.clone());
            }
        }
    }
    assert!(states > 100, "{states} states");
    assert!(wrong.is_empty(), "{wrong:?}");
}
