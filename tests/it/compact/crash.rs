//! Whatever a crash leaves has the same content, and leaks at worst; and the next run goes on from there.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use qcheck::check::{CheckOptions, check};
use qcheck::compact::CompactOptions;
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt, Storage};

use crate::compact::images::{Recipe, all_of, layered, run, with_zeroes};
use crate::image::change::states::Case;
use crate::image::change::switch::Contents;
use crate::image::invariants::violation;
use crate::image::tools::check_code;
use crate::support::sample::{sample, seed};
use crate::support::storages::crash::{WriteLog, crash_images};

const KINDS: [&str; 6] = [
    "cluster_size=512",
    "cluster_size=1k,refcount_bits=64",
    "cluster_size=2k,lazy_refcounts=on",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=4k,compat=0.10",
    "cluster_size=512,refcount_bits=4,compression_type=zstd",
];

fn small(create: &'static str) -> Case {
    let kilobytes = if create.contains("16k") { 512 } else { 256 };
    let recipe = |seed| Recipe { create, kilobytes, snapshots: 2, seed, commands: 16 };
    let mut cases = (0..20).map(|n| recipe(seed() + 3 + 1000 * n).case());
    let moves = |case: &Case| {
        let memory = Arc::new(MemoryStorage::new(case.bytes()));
        run(case, memory, &CompactOptions::default()).unwrap().moved > 0
    };
    cases.find(moves).expect("a case in which something moves")
}

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

/// Leaks at worst, never marked dirty, and the same content.
fn judge(case: &Case, want: &Contents, bytes: &[u8], what: &str) {
    if let Some(violation) = violation(bytes) {
        panic!("{what}: {violation}");
    }
    assert!(bytes[7] < 3 || bytes[79] & 1 == 0, "{what}: marked dirty");
    let report = check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent).unwrap();
    let found = (report.tally.corruptions, report.tally.check_errors);
    assert_eq!(found, (0, 0), "{what}: {:?}", report.findings);
    assert!(all_of(case, bytes) == *want, "{what}: other contents");
}

/// Real qemu-img finds leaks at worst.
fn judge_with_qemu(case: &Case, bytes: &[u8], what: &str) {
    fs::write(&case.path, bytes).unwrap();
    let (code, text) = check_code(&case.path);
    assert!(code == 0 || code == 3, "{what}: {text}");
}

/// A second run frees what the first one has leaked, and comes to its end.
fn go_on(case: &Case, want: &Contents, bytes: Vec<u8>, how: &CompactOptions, what: &str) -> u64 {
    let memory = Arc::new(MemoryStorage::new(bytes));
    let outcome = run(case, memory.clone(), how);
    if let Err(error) = outcome {
        panic!("{what}: {error}");
    }
    let bytes = memory.to_vec();
    judge(case, want, &bytes, what);
    let report = check(&memory, &options(), &Silent).unwrap();
    assert!(report.tally.is_clean(), "{what}: {:?}", report.findings);
    assert!(!bytes[..512].windows(4).any(|word| word == MARK), "{what}: marked");
    memory.len().unwrap()
}

/// The type of the header extension of an image whose clusters are on the move.
const MARK: &[u8] = b"QCmp";

/// In one of so many states there is a second run; in all of them with `QCHECK_CASES=all`.
fn one_in() -> u64 {
    let is_all = std::env::var("QCHECK_CASES").is_ok_and(|cases| cases == "all");
    if is_all { 1 } else { 5 }
}

fn survives(case: &Case, log: Arc<WriteLog>, how: &CompactOptions, what: &str) {
    let want = all_of(case, &case.bytes());
    let outcome = run(case, log.clone(), how).unwrap();
    assert!(outcome.moved + outcome.compressed > 0, "{what}: nothing moves");
    let (mut seen, mut marked, mut states) = (HashSet::new(), 0, Vec::new());
    let count = crash_images(&log, |image| {
        let story = format!("{what}: {}", image.story);
        judge(case, &want, &image.bytes, &story);
        let mut hasher = DefaultHasher::new();
        image.bytes.hash(&mut hasher);
        if !seen.insert(hasher.finish()) {
            return;
        }
        marked += usize::from(image.bytes[..512].windows(4).any(|word| word == MARK));
        if seen.len() % 512 == 1 && states.len() < 8 {
            states.push((image.bytes.clone(), story.clone()));
        }
        if (seen.len() as u64 + seed()) % one_in() != 0 {
            return;
        }
        let length = go_on(case, &want, image.bytes.clone(), how, &format!("{story}, again"));
        // What snapshots and disk share is stored twice where a crash came between their pointers.
        assert!(length <= outcome.end_before, "{story}: {length}");
    });
    assert!(count > 10 && marked > 10, "{what}: only {count} crash images, {marked} marked");
    states.iter().for_each(|(bytes, story)| judge_with_qemu(case, bytes, story));
}

#[test]
fn every_crash_leaves_the_same_content_and_leaks_at_worst() {
    let ways = [
        ("in one batch", CompactOptions::default()),
        ("zeroes too, in small batches", with_zeroes().batch(8192)),
        ("compressed", CompactOptions::default().compress(true)),
        ("compressed, in small batches", CompactOptions::default().compress(true).batch(8192)),
        ("defragmented", CompactOptions::default().defragment(true).batch(16384)),
    ];
    // Each kind with two ways, and one of the others.
    let chosen = |n: usize| [ways[0], ways[1], ways[2 + n % 3]];
    let cases: Vec<_> =
        (0..).zip(KINDS).flat_map(|(n, kind)| chosen(n).map(|way| (kind, way))).collect();
    for (kind, (way, how)) in sample(cases, 4) {
        let case = small(kind);
        let log = Arc::new(WriteLog::new(case.bytes()));
        survives(&case, log, &how, &format!("{kind}, {way}"));
    }
}

/// Tables of snapshots, tables that the disk shares with them, and bitmap data.
#[test]
fn pointers_of_snapshots_and_bitmaps_change_before_refcounts_get_lower() {
    let small = CompactOptions::default().batch(4096);
    let ways = [CompactOptions::default(), small, small.compress(true), small.defragment(true)];
    // Each kind in one way, and one kind in all.
    let kinds = KINDS.into_iter().zip(ways.into_iter().cycle());
    let all = ways.into_iter().map(|how| ("cluster_size=512", how));
    for (kind, how) in sample(kinds, 2).into_iter().chain(all) {
        let case = layered(kind, if kind.contains("16k") { 512 } else { 128 });
        let log = Arc::new(WriteLog::new(case.bytes()));
        survives(&case, log, &how, &format!("{kind}, {how:?}"));
    }
}

#[test]
fn on_a_device_it_is_the_same() {
    let case = small("cluster_size=1k");
    let mut bytes = case.bytes();
    bytes.resize(bytes.len().next_multiple_of(1024), 0);
    let log = Arc::new(WriteLog::fixed(bytes));
    survives(&case, log.clone(), &with_zeroes(), "device");
    assert_eq!(log.capacity(), qcheck::storage::Capacity::Fixed(log.len().unwrap()));
}
