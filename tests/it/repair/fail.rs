//! A repair on a disk that fails, at every single operation: it reports that, nothing is worse than before, and a later
//! repair ends as if nothing had failed.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use qcheck::check::{CheckOptions, CheckReport, Tally, check};
use qcheck::error::Result;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, RepairOutcome, repair};
use qcheck::storage::{MemoryStorage, Storage};

use crate::support::damages::broken::{Broken, Sound, bases, damages};
use crate::support::images::reader::{Reader, worse_than};
use crate::support::storages::fail::{Class, FailAfter};

const CHANGING: [Class; 4] = [Class::Write, Class::Sync, Class::SetLen, Class::Discard];

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn run(storage: &dyn Storage, mode: RepairMode) -> Result<RepairOutcome> {
    repair(storage, mode, &options(), &Silent)
}

fn report(bytes: &[u8]) -> CheckReport {
    check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent).expect("a verdict")
}

fn final_tally(outcome: &RepairOutcome) -> Tally {
    outcome.after.as_ref().unwrap_or(&outcome.before).tally
}

fn bases_named(names: &[&str]) -> impl Iterator<Item = &'static Sound> {
    bases().iter().filter(move |base| names.contains(&base.name))
}

/// Fails the operations of a class one after the other; returns how many there were, and what is wrong.
fn every_failure(broken: &Broken, mode: RepairMode, class: Class) -> (usize, Vec<String>) {
    let whole = MemoryStorage::new(broken.bytes.clone());
    run(&whole, mode).expect("a file can grow");
    let end = report(&whole.into_inner()).tally;
    let (before, sound) = (Reader::new(&broken.bytes), Reader::new(broken.sound));
    let (mut wrong, mut seen) = (Vec::new(), HashSet::new());
    for n in 0.. {
        let name = format!("[{}] {mode:?}: {class:?} {n}", broken.name);
        let disk = FailAfter::new(MemoryStorage::new(broken.bytes.clone()), class, n);
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| run(&disk, mode))) else {
            wrong.push(format!("{name}: a panic"));
            continue;
        };
        if !disk.fired() {
            return (n as usize, wrong);
        }
        let bytes = disk.into_inner().into_inner();
        wrong.extend(untrue(&result, class, &bytes).map(|why| format!("{name}: {why}")));
        if !seen.insert(bytes.clone()) {
            continue; // Another failure left the same.
        }
        if let Some(why) = worse_than(&before, &sound, &Reader::new(&bytes)) {
            wrong.push(format!("{name}: {why}"));
        }
        let again = MemoryStorage::new(bytes);
        let now = run(&again, mode).map(|_| ());
        let bytes = again.into_inner();
        let tally = report(&bytes).tally;
        // What a repair makes a leak it may release itself; the next one cannot prove that nothing is lost with it.
        let unknown = ["twice", "reftable", "block"].iter().any(|what| broken.name.contains(what));
        let held = tally.corruptions == 0 && unknown;
        let leaks = tally.leaks > end.leaks && !held;
        // Where copies were begun beside leaks, or refcounts are right before flags are, the next repair holds the leaks.
        let begun = ["table twice", "flags"].iter().any(|what| broken.name.contains(what));
        let damaged = if begun { report(&broken.bytes).tally.corruptions } else { 0 };
        let most = end.corruptions.max(damaged);
        if now.is_err() || tally.corruptions > most || leaks && !begun {
            wrong.push(format!("{name}: the next repair ends {now:?} with {tally:?}, not {end:?}"));
        }
        if let Some(why) = worse_than(&before, &sound, &Reader::new(&bytes)) {
            wrong.push(format!("{name}: after the next repair {why}"));
        }
    }
    unreachable!("a repair has an end")
}

/// Why an outcome is not the truth: only a repair that could not read may go on, and what it calls clean must be.
fn untrue(result: &Result<RepairOutcome>, class: Class, bytes: &[u8]) -> Option<String> {
    let Ok(outcome) = result else { return None };
    let told = final_tally(outcome);
    if class != Class::Read {
        return Some(format!("no error, but {told:?}"));
    }
    let is = told.is_clean().then(|| report(bytes).tally)?;
    (!is.is_clean()).then(|| format!("clean is reported, but {is:?} is true"))
}

fn every_failure_of(names: &[&str], mode: RepairMode, classes: &[Class]) {
    let (mut repairs, mut points, mut wrong) = (0, 0, Vec::new());
    for broken in bases_named(names).flat_map(damages) {
        for &class in classes {
            let (count, mut broken_rules) = every_failure(&broken, mode, class);
            repairs += 1;
            points += count;
            broken_rules.truncate(2);
            wrong.extend(broken_rules);
        }
    }
    println!("{names:?} {mode:?} {classes:?}: {points} failures in {repairs} repairs");
    assert!(wrong.is_empty(), "{points} failures, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(points > repairs / 4, "only {points} failures in {repairs} repairs");
}

const ALL_BASES: [&str; 8] = [
    "v3 512 16-bit",
    "v2 512 shared",
    "v3 512 64-bit",
    "v3 1k 8-bit snapshots",
    "v3 512 2-bit shared",
    "v3 512 1-bit",
    "v3 4k 16-bit",
    "qemu-img",
];

#[test]
fn a_repair_that_cannot_write_reports_it_and_leaves_nothing_worse() {
    every_failure_of(&ALL_BASES, RepairMode::All, &CHANGING);
    every_failure_of(&ALL_BASES, RepairMode::Leaks, &CHANGING);
}

#[test]
fn a_repair_of_all_that_cannot_read_never_calls_a_damaged_image_clean() {
    every_failure_of(&ALL_BASES, RepairMode::All, &[Class::Read]);
}

#[test]
fn a_repair_of_leaks_that_cannot_read_never_calls_a_damaged_image_clean() {
    every_failure_of(&ALL_BASES[..4], RepairMode::Leaks, &[Class::Read]);
}

#[test]
fn a_check_that_cannot_read_something_reports_it_or_misses_nothing() {
    let (mut points, mut wrong) = (0, Vec::new());
    for broken in bases().iter().flat_map(damages) {
        let whole = report(&broken.bytes).tally;
        for n in 0.. {
            let disk = FailAfter::new(MemoryStorage::new(broken.bytes.clone()), Class::Read, n);
            let result = check(&disk, &options(), &Silent);
            if !disk.fired() {
                break;
            }
            points += 1;
            let missed = result.is_ok_and(|r| r.tally.check_errors == 0 && r.tally != whole);
            if missed {
                wrong.push(format!("[{}] read {n} fails and nothing is reported", broken.name));
            }
        }
    }
    println!("{points} failed reads");
    assert!(wrong.is_empty(), "{points} reads, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(points > 1000, "{points}");
}
