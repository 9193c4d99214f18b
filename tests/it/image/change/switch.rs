//! Changes of the whole image are made as a whole or not at all: through every crash, failure, full file system and
//! interruption the image is clean, and all that it holds is as before or as after.

use std::fs;
use std::sync::Arc;

use qcheck::check::{CheckOptions, check};
use qcheck::edit::resize::{Preallocation, ResizeOptions, resize};
use qcheck::edit::snapshot;
use qcheck::error::Result;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::image::bitmaps::{Stored, stored};
use crate::image::change::states::{Case, Change, case, second, shrinking};
use crate::image::tools::{assert_no_error, check_code, qemu};
use crate::support::storages::crash::{WriteLog, crash_images};
use crate::support::storages::fail::{CancelAt, Class, FailAfter, Full};

/// Many tables and refcount blocks, two snapshots, compressed clusters, VM state and, if requested, a bitmap.
pub fn rich(create: &str, bitmap: bool) -> Case {
    let mut case = case(create, 320);
    let name = case.path.to_str().unwrap().to_owned();
    let io = |commands: &[&str]| {
        let mut args = vec!["-f", "qcow2"];
        commands.iter().for_each(|command| args.extend(["-c", command]));
        qemu("qemu-io", &[&args[..], &[&*name]].concat());
    };
    io(&["write -q -P 5 60k 60k", "write -q -c -P 6 192k 16k", "write -q -b -P 7 0 8k"]);
    qemu("qemu-img", &["snapshot", "-c", "other", &name]);
    if bitmap {
        qemu("qemu-img", &["bitmap", "--add", &name, "map"]);
    }
    io(&["write -q -P 8 80k 30k", "write -q -P 9 240k 50k", "write -q -c -P 6 224k 16k"]);
    case.disk.load(&case.path);
    case
}

fn grown(size: u64, preallocation: Preallocation) -> Box<Change> {
    Box::new(move |image| {
        resize(image, size, ResizeOptions::default().shrink(false).preallocation(preallocation))
    })
}

fn changes(create: &str) -> Vec<(&'static str, Box<Change>)> {
    let mut changes: Vec<(_, Box<Change>)> = vec![
        ("create", Box::new(second)),
        ("apply", Box::new(|image| snapshot::apply(image, "first"))),
        ("delete first", Box::new(|image| snapshot::delete(image, "first"))),
        ("delete other", Box::new(|image| snapshot::delete(image, "other"))),
    ];
    if !create.contains("0.10") {
        changes.push(("grow", grown(1 << 20, Preallocation::Off)));
        changes.push(("grow mapped", grown(400 << 10, Preallocation::Metadata)));
        changes.push(("grow written", grown(360 << 10, Preallocation::Full)));
    }
    changes
}

/// Kinds of images with the changes that are tried on each.
fn cases(kinds: &[&str]) -> Vec<(String, Case, Box<Change>)> {
    let mut cases = Vec::new();
    for kind in kinds {
        for (name, change) in changes(kind) {
            let bitmap = !kind.contains("0.10") && name != "apply";
            cases.push((format!("{kind}: {name}"), rich(kind, bitmap), change));
        }
    }
    cases
}

const KINDS: [&str; 5] = [
    "cluster_size=512",
    "cluster_size=4k,refcount_bits=64",
    "cluster_size=4k,lazy_refcounts=on",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=4k,compat=0.10",
];

/// All that a user has in an image.
#[derive(PartialEq, Eq)]
pub struct Contents {
    active: Vec<u8>,
    snapshots: Vec<(String, Vec<u8>)>,
    bitmaps: Vec<Stored>,
}

pub fn contents(case: &Case, bytes: &[u8]) -> Contents {
    let names = case.snapshots(bytes.to_vec());
    let read = |(n, name)| (name, case.read(bytes.to_vec(), Some(n)));
    let version_2 = bytes[7] == 2;
    Contents {
        active: case.read(bytes.to_vec(), None),
        snapshots: names.into_iter().enumerate().map(read).collect(),
        bitmaps: if version_2 { Vec::new() } else { stored(bytes) },
    }
}

/// Contents before and after a change.
struct Both {
    before: Contents,
    after: Contents,
}

impl Both {
    fn of(case: &Case, change: &Change) -> Self {
        let bytes = case.bytes();
        let memory = Arc::new(MemoryStorage::new(bytes.clone()));
        case.change(memory.clone(), change).unwrap();
        let (before, after) = (contents(case, &bytes), contents(case, &memory.to_vec()));
        assert!(before != after, "the change changes nothing");
        Self { before, after }
    }

    /// Whether the image is as before; it is clean, and otherwise as after.
    fn is_before(&self, case: &Case, bytes: &[u8], what: &str) -> bool {
        assert_eq!(findings(bytes), "", "{what}");
        let now = contents(case, bytes);
        assert!(now == self.before || now == self.after, "{what}: neither before nor after");
        now == self.before
    }
}

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn findings(bytes: &[u8]) -> String {
    let report = check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent).unwrap();
    if report.tally.is_clean() { String::new() } else { format!("{:?}", report.findings) }
}

#[test]
fn every_crash_leaves_a_clean_image_as_before_or_as_after() {
    for (what, case, change) in cases(&KINDS) {
        let log = Arc::new(WriteLog::new(case.bytes()));
        case.change(log.clone(), &*change).unwrap();
        every_crash_is_clean(&what, &case, &*change, &log);
    }
}

/// Every crash of a change that was logged leaves a clean image as before or as after.
pub fn every_crash_is_clean(what: &str, case: &Case, change: &Change, log: &WriteLog) {
    let both = Both::of(case, change);
    let (mut seen, mut states) = ([0, 0], Vec::new());
    crash_images(log, |image| {
        let what = format!("{what}: {}", image.story);
        seen[usize::from(both.is_before(case, &image.bytes, &what))] += 1;
        states.push(image.bytes.clone());
    });
    assert!(seen[0] > 0 && seen[1] > 0, "{what}: {seen:?}");
    judge(case, what, &states);
}

/// Real qemu-img calls some of these images clean too, among them the first and the last.
fn judge(case: &Case, what: &str, states: &[Vec<u8>]) {
    let step = states.len().div_ceil(6).max(1);
    for bytes in states.iter().step_by(step).chain(states.last()) {
        fs::write(&case.path, bytes).unwrap();
        let (code, text) = check_code(&case.path);
        assert_eq!(code, 0, "{what}: {text}");
    }
}

#[test]
fn every_failure_leaves_a_clean_image_as_before_or_as_after_and_an_error() {
    for (what, case, change) in cases(&["cluster_size=4k", "cluster_size=4k,compat=0.10"]) {
        let both = Both::of(&case, &*change);
        for class in [Class::Write, Class::Sync, Class::Read] {
            for n in 0.. {
                let memory = Arc::new(MemoryStorage::new(case.bytes()));
                let failing = Arc::new(FailAfter::new(memory.clone(), class, n));
                let outcome = case.change(failing.clone(), &*change);
                let what = format!("{what}: {class:?} {n}");
                let is_before = both.is_before(&case, &memory.to_vec(), &what);
                if !failing.fired() {
                    outcome.unwrap();
                    assert!(!is_before, "{what}");
                    break;
                }
                assert!(outcome.is_err(), "{what} failed without an error");
            }
        }
    }
}

#[test]
fn a_refcount_that_would_not_fit_leaves_the_image_as_it_was() {
    // A cluster with three compressed ones has three references, which is all that two bits can hold.
    let mut case = case("cluster_size=2k,refcount_bits=2", 1024);
    let name = case.path.to_str().unwrap().to_owned();
    let packed = |at| format!("write -q -c -P {} {at}k 2k", at % 200);
    let commands = [512, 514, 516].map(packed);
    let mut args = vec!["-f", "qcow2"];
    commands.iter().for_each(|command| args.extend(["-c", command]));
    qemu("qemu-io", &[&args[..], &[&*name]].concat());
    let before = case.disk.load(&case.path).to_vec();
    let memory = Arc::new(MemoryStorage::new(before.clone()));
    let mut image = case.open(memory.clone()).unwrap();
    let error = second(&mut image).unwrap_err().to_string();
    assert!(error.contains("more references"), "{error}");
    image.close().unwrap();
    assert!(memory.to_vec() == before, "something was left");
}

#[test]
fn a_full_file_system_leaves_the_image_as_it_was_or_the_change_is_made() {
    for (what, case, change) in cases(&["cluster_size=4k", "cluster_size=4k,compat=0.10"]) {
        let both = Both::of(&case, &*change);
        let before = case.bytes();
        let mut failed = 0;
        for limit in (0..).map(|n| before.len() as u64 + n * 4096) {
            let memory = Arc::new(MemoryStorage::new(before.clone()));
            let full = Arc::new(Full { inner: memory.clone(), limit });
            let outcome = case.change(full, &*change);
            let what = format!("{what}: {limit}");
            assert_eq!(both.is_before(&case, &memory.to_vec(), &what), outcome.is_err(), "{what}");
            if outcome.is_ok() {
                break;
            }
            failed += 1;
            assert_eq!(memory.to_vec().len(), before.len(), "{what}: the file stays longer");
        }
        // In place one cluster is enough, for the new snapshot table or the new L1 table.
        let in_place = what.contains("delete") || what.contains("apply");
        assert!(if in_place { failed <= 1 } else { failed > 0 }, "{what}: {failed}");
    }
}

/// A library user goes on after a failure with the same open image.
#[test]
fn after_a_failure_the_same_image_can_be_changed_and_closed() {
    for (what, case, change) in cases(&["cluster_size=4k"]) {
        let both = Both::of(&case, &*change);
        let memory = Arc::new(MemoryStorage::new(case.bytes()));
        let limit = case.bytes().len() as u64;
        let mut image = case.open(Arc::new(Full { inner: memory.clone(), limit })).unwrap();
        let outcome = change(&mut image);
        assert_eq!(outcome.is_err(), !what.contains("delete"), "{what}");
        image.close().unwrap();
        both.is_before(&case, &memory.to_vec(), &what);
    }
}

#[test]
fn an_interruption_at_any_moment_leaves_the_image_as_it_was_or_the_change_is_made() {
    for (what, case, change) in cases(&["cluster_size=4k", "cluster_size=4k,compat=0.10"]) {
        let both = Both::of(&case, &*change);
        let before = case.bytes();
        let mut seen = [0, 0];
        for n in (0..).step_by(3) {
            let memory = Arc::new(MemoryStorage::new(before.clone()));
            let storage = Arc::new(CancelAt::new(memory.clone(), n));
            let outcome = interrupted(&case, storage.clone(), &*change);
            let what = format!("{what}: {n}");
            let is_before = both.is_before(&case, &memory.to_vec(), &what);
            assert_eq!(is_before, outcome.is_err(), "{what}");
            seen[usize::from(is_before)] += 1;
            if let Err(error) = outcome {
                assert_eq!(error.to_string(), "interrupted", "{what}");
                assert_eq!(memory.to_vec().len(), before.len(), "{what}: the file stays longer");
            }
            if !storage.flag.load(std::sync::atomic::Ordering::SeqCst) {
                break;
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{what}: {seen:?}");
    }
}

fn interrupted(
    case: &Case,
    storage: Arc<CancelAt<Arc<MemoryStorage>>>,
    change: &Change,
) -> Result<()> {
    let flag = storage.flag.clone();
    let mut image = case.open(storage)?;
    image.cancel_on(flag)?;
    change(&mut image)?;
    image.close()
}

#[test]
fn shrinking_is_as_before_or_as_after_leaks_at_worst_and_stays_so_when_it_is_repaired() {
    for kind in ["cluster_size=512", "cluster_size=16k"] {
        let case = rich(kind, false);
        let change: &Change = &|image| resize(image, 105 << 10, shrinking());
        let both = Both::of(&case, change);
        let log = Arc::new(WriteLog::new(case.bytes()));
        case.change(log.clone(), change).unwrap();
        crash_images(&log, |image| {
            assert_no_error(&image.bytes, &format!("{kind}: {}", image.story));
            let now = contents(&case, &image.bytes);
            assert!(now == both.before || now == both.after, "{kind}: {}", image.story);
            let disk = MemoryStorage::new(image.bytes.clone());
            repair(&disk, RepairMode::All, &options(), &Silent).expect("a file can grow");
            let repaired = contents(&case, &disk.to_vec());
            assert!(repaired == now, "{kind}: a repair changes what is read: {}", image.story);
        });
    }
}
