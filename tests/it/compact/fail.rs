//! Disks that fail, file systems that are full, and somebody who presses Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use qcheck::check::{CheckOptions, check};
use qcheck::compact::CompactOptions;
use qcheck::error::Error;
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt};

use crate::compact::images::{Recipe, all_of, run, run_until, with_zeroes};
use crate::image::change::states::Case;
use crate::image::invariants::violation;
use crate::image::tools::assert_no_error;
use crate::support::sample::{is_full, seed};
use crate::support::storages::fail::{CancelAt, Class, FailAfter, Full};

fn small(create: &'static str) -> Case {
    Recipe { create, kilobytes: 256, snapshots: 2, seed: seed() + 3, commands: 16 }.case()
}

fn ways() -> [CompactOptions; 3] {
    let all = CompactOptions::default().compress(true).defragment(true).batch(8192);
    [with_zeroes().batch(8192), CompactOptions::default().punch_only(true), all]
}

#[test]
fn every_failure_is_an_error_and_leaves_the_same_content() {
    let step = if is_full() { 2 } else { 7 };
    for (kind, how) in ["cluster_size=1k", "cluster_size=4k,compat=0.10"]
        .into_iter()
        .flat_map(|kind| ways().map(|how| (kind, how)))
    {
        let case = small(kind);
        let want = all_of(&case, &case.bytes());
        let whole = run(&case, Arc::new(MemoryStorage::new(case.bytes())), &how).unwrap();
        for class in [Class::Write, Class::Sync, Class::Read, Class::SetLen] {
            for n in (seed() % step..).step_by(step as usize) {
                let memory = Arc::new(MemoryStorage::new(case.bytes()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = run(&case, failing.clone(), &how);
                let what = format!("{kind}, {how:?}: {class:?} {n}");
                let bytes = memory.to_vec();
                assert_eq!(violation(&bytes), None, "{what}");
                assert_no_error(&bytes, &what);
                assert!(all_of(&case, &bytes) == want, "{what}: other contents");
                if !failing.fired() {
                    outcome.unwrap();
                    break;
                }
                // A check looks for lost tables where it can read, and needs none of that.
                let is_peek = class == Class::Read && outcome.as_ref().is_ok_and(|o| *o == whole);
                assert!(outcome.is_err() || is_peek, "{what} failed without an error");
            }
        }
    }
}

#[test]
fn a_full_file_system_is_enough() {
    for kind in ["cluster_size=512", "cluster_size=4k"] {
        let case = small(kind);
        let (want, limit) = (all_of(&case, &case.bytes()), case.bytes().len() as u64);
        let memory = Arc::new(MemoryStorage::new(case.bytes()));
        let full = Arc::new(Full { inner: memory.clone(), limit });
        let outcome = run(&case, full, &with_zeroes()).unwrap();
        assert!(outcome.file_after < limit, "{kind}: {outcome:?}");
        assert!(all_of(&case, &memory.to_vec()) == want, "{kind}: other contents");
    }
}

#[test]
fn an_interruption_ends_it_with_a_clean_image() {
    let case = small("cluster_size=1k");
    let want = all_of(&case, &case.bytes());
    let mut seen = [0, 0];
    for n in (0..).step_by(if is_full() { 1 } else { 7 }) {
        let memory = Arc::new(MemoryStorage::new(case.bytes()));
        let storage = Arc::new(CancelAt::new(memory.clone(), n));
        let image = case.open(storage.clone()).unwrap();
        let outcome = run_until(image, &with_zeroes().batch(8192), &storage.flag);
        let what = format!("operation {n}");
        let bytes = memory.to_vec();
        let options = CheckOptions::default().threads(1);
        let report = check(&MemoryStorage::new(bytes.clone()), &options, &Silent).unwrap();
        assert!(report.tally.is_clean(), "{what}: {:?}", report.findings);
        assert!(all_of(&case, &bytes) == want, "{what}: other contents");
        assert!(memory.len().unwrap() <= case.bytes().len() as u64, "{what}: longer");
        seen[usize::from(outcome.is_ok())] += 1;
        match outcome {
            Err(error) => assert!(matches!(error, Error::Cancelled), "{what}: {error}"),
            Ok(_) if !storage.flag.load(Ordering::SeqCst) => break,
            Ok(_) => {}
        }
    }
    assert!(seen[0] > 5 && seen[1] > 0, "{seen:?}");
}
