//! Repairs checked against the truth: images of every kind, made by QEMU, whose every cluster is known, are damaged at random
//! and repaired in every mode. No cluster that the damage left intact may be lost, and no guest may read what is not its
//! own.
//!
//! `QCHECK_CASES` is the number of cases (2,500 if not set, 10,000 with `QCHECK_TESTS=full`),
//! `QCHECK_SEED` the first one; with `QCHECK_KEEP` set to a folder the
//! images of each violation are kept there.

mod bases;
mod damage;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod support;
mod writes;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use qcheck::check::{CheckOptions, Tally, Verb, check};
use qcheck::error::Error;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, RepairOutcome, repair};
use qcheck::storage::{Latch, MemoryStorage, ReadAt, Storage};
use qcheck::undo::{Durable, Record, UndoLog, undo};

use crate::support::programs::oracle::Scratch;
use crate::support::programs::run::Ran;
use crate::support::rng::Rng;
use crate::support::sample::is_full;
use crate::support::storages::fail::{Class, FailAfter};
use crate::support::truth::judge::Case;
use crate::support::truth::roles::Truth;
use crate::support::truth::view::Unpacked;
use bases::Base;

/// Cases that are made of each base.
const CASES_PER_BASE: u64 = 50;
/// Images over so many bytes are large.
const LARGE_BYTES: usize = 6 << 20;
/// Images over so many bytes are not tried: each case needs several copies in memory.
const MOST_BASE_BYTES: usize = 64 << 20;
/// Bytes that an image may grow to.
const MOST_BYTES: usize = 1 << 30;
/// One case of so many is interrupted.
const INTERRUPTED_ONE_IN: u64 = 8;
/// At so many of its operations, one after the other.
const MOST_INTERRUPTED: u64 = 12;
const MODES: [RepairMode; 3] = [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy];

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// What a repair left.
struct Repaired {
    bytes: Vec<u8>,
    /// `None` where it was refused.
    tally: Option<Tally>,
    refused: Option<Error>,
}

fn storage(bytes: Vec<u8>, fixed: bool) -> MemoryStorage {
    match fixed {
        true => MemoryStorage::fixed(bytes),
        false => MemoryStorage::limited(bytes, MOST_BYTES),
    }
}

/// Repairs, and puts everything back to see whether that works.
fn repaired(damaged: &[u8], mode: RepairMode, fixed: bool) -> (Repaired, Option<String>) {
    let image = storage(damaged.to_vec(), fixed);
    let record = MemoryStorage::limited(Vec::new(), MOST_BYTES);
    let log = UndoLog::new(&image, Durable::assume(&record)).expect("a new undo file");
    let result = repair(&Latch::new(&log), mode, &options(), &Silent);
    if result.is_ok() {
        log.finish().expect("space for the record");
    }
    drop(log);
    let bytes = image.to_vec();
    let (tally, refused) = match result {
        Ok(outcome) => (Some(outcome.after.as_ref().unwrap_or(&outcome.before).tally), None),
        Err(error) => (None, Some(error)),
    };
    let mut wrong = None;
    if !record.to_vec().is_empty() {
        if let Ok(record) = Record::load(&record) {
            undo(&record, &image, false, &Silent).expect("nobody else wrote");
        }
        let mut back = vec![0; image.len().expect("a length") as usize];
        image.read_exact_at(0, &mut back).expect("bytes in memory");
        if back != damaged {
            wrong = Some("the undo left other bytes".to_owned());
        }
    }
    (Repaired { bytes, tally, refused }, wrong)
}

/// What is wrong with a repair in one mode.
fn judge_mode(
    case: &Case,
    damaged: &[u8],
    mode: RepairMode,
    fixed: bool,
    unpacked: &Unpacked,
) -> (Vec<String>, Vec<u8>, &'static str) {
    let (repaired, undone) = repaired(damaged, mode, fixed);
    let mut wrong: Vec<String> = undone.into_iter().collect();
    let after = case.after(&repaired.bytes, unpacked);
    let clean = repaired.tally.is_some_and(|tally| tally.is_clean());
    if mode == RepairMode::Lossy {
        wrong.extend(case.gave_up_too_much(&after).map(|why| format!("gave up: {why}")));
        if let (false, Some(tally)) = (clean, repaired.tally) {
            wrong.push(format!("dead end: {tally:?}"));
        }
        if let Some(error) = &repaired.refused {
            wrong.push(format!("refused: {error}"));
        }
    } else {
        wrong.extend(case.destroyed(&after).map(|why| format!("I3: {why}")));
        wrong.extend(case.guessed(&after).map(|why| format!("I4: {why}")));
    }
    if clean {
        // With leave, what cannot be copied is shared.
        let may_share = mode == RepairMode::Lossy && (fixed || case.truth.head.crypt != 0);
        // In a clean image positions may share what each counts: that is reported, and no error.
        if !may_share && repaired.bytes != damaged {
            wrong.extend(case.shares(&after).map(|why| format!("clean, yet {why}")));
        }
        if repaired.bytes != damaged {
            wrong.extend(disagreement(case, &repaired.bytes));
        }
    }
    if let Some(Error::Io { .. }) = &repaired.refused {
        wrong.push(format!("failed: {}", repaired.refused.as_ref().unwrap()));
    }
    let end = match (&repaired.tally, &repaired.refused) {
        (Some(tally), _) if tally.is_clean() => "clean",
        (Some(tally), _) if tally.corruptions + tally.check_errors == 0 => "leaks",
        (Some(_), _) => "errors",
        (None, _) => "refused",
    };
    // What was held for what is repaired now is a plain leak to the next repair.
    let holds = repaired.tally.is_some_and(|tally| tally.leaks > 0);
    if repaired.tally.is_some() {
        let image = storage(repaired.bytes.clone(), fixed);
        match repair(&image, mode, &options(), &Silent) {
            Ok(_) if all_but_marks(&image.to_vec()) == all_but_marks(&repaired.bytes) => {}
            Ok(_) if holds && mode != RepairMode::Lossy => {}
            // Once they are raised, refcounts can be relied on, and what they were is not known any more.
            Ok(_) if end == "errors" && mode != RepairMode::Lossy => {
                let bytes = image.to_vec();
                let after = case.after(&bytes, unpacked);
                let broken = case.destroyed(&after).into_iter().chain(case.guessed(&after));
                wrong.extend(broken.map(|why| format!("after a second repair: {why}")));
            }
            Ok(_) => wrong.push("a second repair writes".into()),
            // What the first round cannot place is refused.
            Err(Error::NoRoom { .. }) if fixed => {}
            // With another header field right again, what the cluster size must be is seen.
            Err(Error::Header { .. }) if damaged[20..24] != case.truth.view.bytes[20..24] => {}
            Err(error) => wrong.push(format!("the same repair again: {error}")),
        }
    }
    (wrong, repaired.bytes, end)
}

/// What is wrong after a repair that fails at an operation and is run again, for each of its first ones: it may not be
/// refused where it was not before, may not guess, and ends with no more errors than it would have. Copies that were begun
/// are leaks, which hold what the positions share: then there are no more errors than the image had.
fn judge_interrupted(
    case: &Case,
    damaged: &[u8],
    fixed: bool,
    unpacked: &Unpacked,
) -> Option<String> {
    let run =
        |image: &dyn Storage| repair(&Latch::new(&image), RepairMode::All, &options(), &Silent);
    let errors = |outcome: &RepairOutcome| outcome.report().tally.corruptions;
    let whole = run(&storage(damaged.to_vec(), fixed)).ok()?;
    let most = errors(&whole).max(whole.before.tally.corruptions);
    for n in 0..MOST_INTERRUPTED {
        let image = FailAfter::new(storage(damaged.to_vec(), fixed), Class::AnyWrite, n);
        let interrupted = run(&image);
        if !image.fired() || interrupted.is_ok() {
            return None;
        }
        let image = image.into_inner();
        match run(&image) {
            Ok(again) if errors(&again) > most => {
                let again = errors(&again);
                return Some(format!("interrupted at {n}, then {again} errors, not {most}"));
            }
            Ok(_) => {}
            // What the first round cannot place is refused.
            Err(Error::NoRoom { .. }) if fixed => {}
            // The header that does not fit is seen once more is right.
            Err(Error::Header { .. }) if damaged[20..24] != case.truth.view.bytes[20..24] => {}
            Err(error) => return Some(format!("interrupted at {n}, then refused: {error}")),
        }
        let bytes = image.to_vec();
        if let Some(why) = case.guessed(&case.after(&bytes, unpacked)) {
            return Some(format!("interrupted at {n}, then I4: {why}"));
        }
    }
    None
}

/// An image without its incompatible bits: positions that share a cluster by mistake are an error to the repair that saw
/// it, and keep the dirty bit.
fn all_but_marks(bytes: &[u8]) -> (&[u8], &[u8]) {
    (&bytes[..72.min(bytes.len())], bytes.get(80..).unwrap_or_default())
}

/// Where real qemu-img finds something in what a repair calls clean.
fn disagreement(case: &Case, bytes: &[u8]) -> Option<String> {
    let scratch = Scratch::in_memory(bytes);
    if case.truth.head.data_file() {
        // Under another name there is no such file, and without one it is an option of QEMU's.
        const NAME: &[u8] = b"DATA\0\0\0\x08data.raw";
        if !bytes.windows(NAME.len()).any(|extension| extension == NAME) {
            return None;
        }
        scratch.write("data.raw", &[]);
    }
    if let Some(backing) = &case.truth.head.backing {
        if case.damaged.head.as_ref().is_none_or(|head| head.backing.as_ref() != Some(backing)) {
            return None;
        }
        scratch.write("base.raw", &[]);
    }
    if case.truth.head.crypt != 0 || bytes.get(32..36) != case.truth.view.bytes.get(32..36) {
        return None;
    }
    let qemu: Ran = scratch.qemu_check(&[]);
    (qemu.code != 0).then(|| {
        let said = if qemu.err.is_empty() { &qemu.out } else { &qemu.err };
        format!("qemu-img ends with {:?}: {}", qemu.code, said.lines().next().unwrap_or(""))
    })
}

/// What was seen in all cases.
#[derive(Default)]
struct Seen {
    cases: u64,
    ends: BTreeMap<(String, &'static str), u64>,
    violations: Vec<String>,
    /// Where a repair with leave gave up more than it had to, or did not end clean.
    shortfalls: Vec<String>,
    /// How long each case took, in milliseconds.
    times: Vec<(u128, u64)>,
}

/// All cases of one base.
fn cases_of(base_seed: u64, first: u64, count: u64, seen: &Mutex<Seen>) {
    let Some(base) = bases::base(base_seed) else { return };
    if base.bytes.len() > MOST_BASE_BYTES {
        return;
    }
    let unpacked = Unpacked::default();
    let truth = Truth::of(&base.bytes, &unpacked);
    // Of large images, which take a hundred times as long, few are tried.
    let step = if base.bytes.len() > LARGE_BYTES { 25 } else { 1 };
    for number in (first..first + count).filter(|number| number % step == 0 || count == 1) {
        let case = || one_case(&base, &truth, number, &unpacked, seen);
        if catch_unwind(AssertUnwindSafe(case)).is_err() {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.violations.push(format!("case {number}: panicked"));
        }
    }
}

fn one_case(base: &Base, truth: &Truth, number: u64, unpacked: &Unpacked, seen: &Mutex<Seen>) {
    let begun = Instant::now();
    let mut rng = Rng::new(number.wrapping_mul(0x1234_5671) ^ 0xdead_beef);
    let (damaged, said) = match number % CASES_PER_BASE {
        0 => (base.bytes.clone(), String::new()),
        _ => damage::damage(truth, &base.former, &mut rng),
    };
    let case = Case::new(truth, &damaged, unpacked);
    let fixed = rng.below(6) == 0;
    explain(&format!("case {number} of {}, {} bytes: {said}", base.name, damaged.len()), &damaged);
    for mode in MODES {
        let (wrong, after, end) = judge_mode(&case, &damaged, mode, fixed, unpacked);
        let mut seen = seen.lock().expect("no test panicked");
        *seen.ends.entry((format!("{mode:?}"), end)).or_default() += 1;
        for why in wrong {
            let text =
                format!("case {number} {mode:?} fixed={fixed}: {why}\n    [{}] {said}", base.name);
            keep(number, mode, base, &damaged, &after);
            explain(&format!("{mode:?}: {text}"), &after);
            match mode {
                RepairMode::Lossy => seen.shortfalls.push(text),
                _ => seen.violations.push(text),
            }
        }
    }
    let interrupted = (number % INTERRUPTED_ONE_IN == 1)
        .then(|| judge_interrupted(&case, &damaged, fixed, unpacked));
    let mut seen = seen.lock().expect("no test panicked");
    if let Some(why) = interrupted.flatten() {
        keep(number, RepairMode::All, base, &damaged, &damaged);
        seen.violations
            .push(format!("case {number} fixed={fixed}: {why}\n    [{}] {said}", base.name));
    }
    seen.cases += 1;
    seen.times.push((begun.elapsed().as_millis(), number));
}

/// Prints what a check finds, where that is requested.
fn explain(what: &str, bytes: &[u8]) {
    if std::env::var_os("QCHECK_EXPLAIN").is_none() {
        return;
    }
    println!("--- {what}");
    let image = MemoryStorage::new(bytes.to_vec());
    let report = match check(&image, &options(), &Silent) {
        Ok(report) => report,
        Err(error) => return println!("{error}"),
    };
    for finding in report.findings.iter().take(60) {
        println!("{:?} {}", finding.severity(), finding.line(0, Verb::Tell));
    }
}

/// Keeps the images of a violation, where that is requested.
fn keep(number: u64, mode: RepairMode, base: &Base, damaged: &[u8], after: &[u8]) {
    if let Some(folder) = std::env::var_os("QCHECK_KEEP") {
        let write = |name: &str, bytes: &[u8]| {
            let path = Path::new(&folder).join(format!("{number}-{name}.qcow2"));
            fs::write(path, bytes).expect("space");
        };
        write("truth", &base.bytes);
        write("damaged", damaged);
        write(&format!("{mode:?}"), after);
    }
}

/// Cases far from the first ones in which a repair once did what none may do.
const ONCE_WRONG: [u64; 68] = [
    13757, 15898, 17342, 18403, 20189, 20339, 21475, 21565, 21868, 22033, 22466, 23027, 23211,
    23335, 24193, 24376, 24517, 25398, 27277, 28509, 29671, 29867, 30318, 30525, 30830, 31126,
    33119, 35098, 35111, 35784, 37365, 37680, 40410, 42939, 43375, 44269, 45039, 48348, 50122,
    51387, 51434, 53499, 54689, 55553, 56184, 56576, 56715, 56755, 57332, 57817, 58541, 59998,
    62864, 66040, 67489, 67499, 69482, 71264, 72310, 74483, 74557, 76283, 76978, 79505, 80159,
    82318, 83939, 84409,
];

#[test]
fn no_repair_does_what_one_once_did() {
    let seen = Mutex::new(Seen::default());
    for number in ONCE_WRONG {
        cases_of(number / CASES_PER_BASE, number, 1, &seen);
    }
    let seen = seen.into_inner().expect("no test panicked");
    assert_eq!(seen.cases, ONCE_WRONG.len() as u64);
    assert!(seen.violations.is_empty(), "{}", seen.violations.join("\n"));
}

#[test]
fn no_repair_destroys_what_it_cannot_account_for_or_guesses() {
    let whole = if is_full() { 10_000 } else { 2_500 };
    let (cases, seed) = (number("QCHECK_CASES", whole), number("QCHECK_SEED", 0));
    let seen = Mutex::new(Seen::default());
    let next = AtomicU64::new(seed / CASES_PER_BASE);
    let end = seed + cases;
    std::thread::scope(|scope| {
        for _ in 0..number("QCHECK_THREADS", 2) {
            scope.spawn(|| {
                loop {
                    let base = next.fetch_add(1, Ordering::Relaxed);
                    let first = (base * CASES_PER_BASE).max(seed);
                    let last = ((base + 1) * CASES_PER_BASE).min(end);
                    if first >= end {
                        break;
                    }
                    cases_of(base, first, last - first, &seen);
                }
            });
        }
    });
    let mut seen = seen.into_inner().expect("no test panicked");
    seen.times.sort_unstable_by(|a, b| b.cmp(a));
    seen.times.truncate(10);
    println!("slowest (milliseconds, case): {:?}", seen.times);
    println!("{} cases; {:?}", seen.cases, seen.ends);
    println!("{} shortfalls with leave:\n{}", seen.shortfalls.len(), seen.shortfalls.join("\n"));
    let count = seen.violations.len();
    assert!(count == 0, "{count} violations:\n{}", seen.violations.join("\n"));
    // With leave a repair may lose data, but seldom more than it has to.
    let most = seen.cases / 7 + 2;
    assert!(seen.shortfalls.len() as u64 <= most, "{} of {}", seen.shortfalls.len(), seen.cases);
}
