//! A crash of a repair that is recorded, and of its undoing, at every point: undoing brings back
//! what was there before the repair.

use qcheck::check::CheckOptions;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{MemoryStorage, Storage};
use qcheck::undo::{Durable, UndoLog};

use crate::support::damages::broken::{Broken, bases, damages};
use crate::support::images::reader::{Reader, worse_disk, worse_than};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::twin::{crash_pairs, twins};
use crate::support::storages::undo::undone;

fn run(log: &dyn Storage, mode: RepairMode) {
    let options = CheckOptions::default().threads(1);
    repair(log, mode, &options, &Silent).expect("a file can grow");
}

fn of_bases(names: &[&str]) -> Vec<Broken> {
    bases().iter().filter(|base| names.contains(&base.name)).flat_map(damages).collect()
}

/// Undoes what every crash of a repair leaves.
fn every_crash_of_a_repair(broken: &Broken, mode: RepairMode, wrong: &mut Vec<String>) -> usize {
    let pair = twins(Vec::new(), broken.bytes.clone());
    let log = UndoLog::new(&pair[1], Durable::assume(&pair[0])).expect("an empty file");
    run(&log, mode);
    log.finish().expect("memory does not fail");
    crash_pairs(&pair, |file, bytes, story| {
        let image = MemoryStorage::new(bytes.to_vec());
        let done = undone(file, &image, false);
        // Before the first commit nothing may be on its way to the image.
        if image.into_inner() != broken.bytes {
            wrong.push(format!("[{}] {mode:?}: {done:?}, when {story}", broken.name));
        }
    })
}

/// Undoes a repair, crashes, and undoes what that leaves.
fn every_crash_of_an_undo(broken: &Broken, mode: RepairMode, wrong: &mut Vec<String>) -> usize {
    let (image, file) = (MemoryStorage::new(broken.bytes.clone()), MemoryStorage::default());
    let log = UndoLog::new(&image, Durable::assume(&file)).expect("an empty file");
    run(&log, mode);
    if log.finish().expect("memory does not fail") == 0 {
        return 0;
    }
    let undoing = WriteLog::new(image.to_vec());
    undone(&file.to_vec(), &undoing, false).expect("an unchanged image");
    let (before, sound) = (Reader::new(&broken.bytes), Reader::new(broken.sound));
    let worse = |after: &[u8]| match mode {
        RepairMode::Lossy => worse_disk(&before, &sound, &Reader::new(after)),
        _ => worse_than(&before, &sound, &Reader::new(after)),
    };
    crash_images(&undoing, |crash| {
        let name = format!("[{}] {mode:?}, when of {}", broken.name, crash.story);
        if let Some(why) = worse(&crash.bytes) {
            wrong.push(format!("{name}: {why}"));
        }
        let image = MemoryStorage::new(crash.bytes.clone());
        let done = undone(&file.to_vec(), &image, false);
        if image.into_inner() != broken.bytes {
            wrong.push(format!("{name}: {done:?}"));
        }
    })
}

/// Crashes repairs, undoes some of what they leave, crashes that too, and undoes the rest.
fn every_crash_of_an_undo_of_a_crash(
    broken: &Broken,
    mode: RepairMode,
    wrong: &mut Vec<String>,
) -> usize {
    let pair = twins(Vec::new(), broken.bytes.clone());
    let log = UndoLog::new(&pair[1], Durable::assume(&pair[0])).expect("an empty file");
    run(&log, mode);
    drop(log);
    let (mut number, mut count) = (0, 0);
    crash_pairs(&pair, |file, bytes, story| {
        number += 1;
        let undoing = WriteLog::new(bytes.to_vec());
        if number % 7 != 3 || undone(file, &undoing, false).is_err() {
            return;
        }
        count += crash_images(&undoing, |crash| {
            let image = MemoryStorage::new(crash.bytes.clone());
            let done = undone(file, &image, false);
            if image.into_inner() != broken.bytes {
                let name = format!("[{}] {mode:?}: {done:?}", broken.name);
                wrong.push(format!("{name}, when {story}, then of {}", crash.story));
            }
        });
    });
    count
}

fn every_crash(names: &[&str], of: fn(&Broken, RepairMode, &mut Vec<String>) -> usize) -> usize {
    let (mut count, mut wrong) = (0, Vec::new());
    for broken in of_bases(names) {
        for mode in [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy] {
            count += of(&broken, mode, &mut wrong);
        }
    }
    println!("{names:?}: {count} crashes");
    let some = &wrong[..wrong.len().min(10)];
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), some.join("\n"));
    count
}

const SMALL: &[&str] = &["v3 512 16-bit", "v3 512 64-bit", "v2 512 shared"];
const NARROW: &[&str] = &["v3 512 2-bit shared", "v3 512 1-bit", "v3 1k 8-bit snapshots"];
const LARGE: &[&str] = &["v3 4k 16-bit", "qemu-img"];

#[test]
fn every_crash_of_a_recorded_repair_is_undone_with_small_clusters() {
    assert!(every_crash(SMALL, every_crash_of_a_repair) > 1000);
}

#[test]
fn every_crash_of_a_recorded_repair_is_undone_with_narrow_counts_and_snapshots() {
    assert!(every_crash(NARROW, every_crash_of_a_repair) > 1000);
}

#[test]
fn every_crash_of_a_recorded_repair_is_undone_with_larger_clusters_and_images_of_qemu() {
    assert!(every_crash(LARGE, every_crash_of_a_repair) > 500);
}

#[test]
fn every_crash_of_an_undo_is_survived_and_the_next_one_ends_it() {
    assert!(every_crash(&[SMALL, NARROW, LARGE].concat(), every_crash_of_an_undo) > 1000);
}

#[test]
fn every_crash_of_an_undo_of_an_interrupted_repair_is_survived() {
    assert!(every_crash(&[SMALL, LARGE].concat(), every_crash_of_an_undo_of_a_crash) > 1000);
}
