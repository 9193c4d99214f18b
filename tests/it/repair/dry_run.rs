//! The plan of a repair: it is what the repair then does, and nothing is written for it.

use std::collections::HashSet;

use qcheck::check::{CheckOptions, Finding, Kind, Place};
use qcheck::progress::Silent;
use qcheck::repair::{
    Action, DryRun, PlannedStep, PlannedWrite, RepairMode, Request, Risk, StageKind, dry_run,
    repair,
};
use qcheck::storage::{Capacity, MemoryStorage, Overlay, ReadAt, Storage};

use crate::support::damages::broken;
use crate::support::damages::damage;
use crate::support::sample::sample;
use crate::support::storages::crash::{Op, WriteLog};

/// The stages that drop something.
const DROPS: [StageKind; 4] =
    [StageKind::NoSnapshots, StageKind::DroppedL1, StageKind::DroppedL2, StageKind::NoBitmaps];

const MODES: [RepairMode; 3] = [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy];

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn planned(bytes: &[u8], mode: RepairMode) -> qcheck::error::Result<DryRun> {
    let source = MemoryStorage::new(bytes.to_vec());
    let run = dry_run(&source, Capacity::Growable, &Request::new(mode), &options(), &Silent);
    assert!(source.into_inner() == bytes, "a plan has written");
    run
}

/// The writes of a plan in order.
fn writes(run: &DryRun) -> Vec<(Action, u64, u64)> {
    let steps = run.stages.iter().flat_map(|stage| &stage.steps);
    steps.flat_map(|s| &s.writes).map(|w| (w.action, w.offset, w.length)).collect()
}

/// The writes of the repair itself.
fn real(bytes: &[u8], mode: RepairMode) -> Option<Vec<(Action, u64, u64)>> {
    let log = WriteLog::new(bytes.to_vec());
    repair(&log, mode, &options(), &Silent).ok()?;
    let write = |op| match op {
        Op::Write { offset, data } => Some((Action::Write, offset, data.len() as u64)),
        Op::WriteZeroes { offset, length } => Some((Action::Zero, offset, length)),
        Op::Discard { offset, length } => Some((Action::Discard, offset, length)),
        Op::SetLen(_) | Op::Sync => None,
    };
    Some(log.ops().into_iter().filter_map(write).collect())
}

fn every_plan_is_carried_out(cases: impl Iterator<Item = (String, Vec<u8>)>) -> usize {
    let mut count = 0;
    for (name, bytes) in cases {
        for mode in MODES {
            let (plan, done) = (planned(&bytes, mode), real(&bytes, mode));
            assert_eq!(plan.is_ok(), done.is_some(), "{name} {mode:?}");
            let (Ok(plan), Some(done)) = (plan, done) else { continue };
            assert_eq!(writes(&plan), done, "{name} {mode:?}");
            count += done.len();
            for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
                assert!(!step.purpose.what.is_empty() && !step.writes.is_empty());
            }
        }
    }
    println!("{count} writes planned and done");
    count
}

#[test]
fn every_repair_of_the_damage_matrix_does_what_its_plan_lists() {
    let cases = damage::bases().iter().flat_map(damage::damages).map(|d| (d.name, d.bytes));
    assert!(every_plan_is_carried_out(cases) > 5000);
}

#[test]
fn every_repair_of_combined_damages_does_what_its_plan_lists() {
    let cases = broken::bases().iter().flat_map(broken::damages).map(|b| (b.name, b.bytes));
    assert!(every_plan_is_carried_out(cases) > 1000);
}

fn is_count(finding: &Finding) -> bool {
    matches!(finding.kind, Kind::Count { .. })
}

#[test]
fn every_damage_that_is_repaired_is_named_by_a_step_that_repairs_it() {
    let mut missing = Vec::new();
    for broken in broken::bases().iter().flat_map(broken::damages) {
        let run = planned(&broken.bytes, RepairMode::All).expect("a file can grow");
        let steps = run.stages.iter().flat_map(|stage| &stage.steps);
        let named: Vec<&str> = steps.flat_map(|step| step.purpose.fixes.clone()).collect();
        // Flags and counts come right with entries, too.
        let by_itself = |f: &&Finding| !f.code().starts_with("copied-") && !is_count(f);
        let comparison = run.outcome.comparison();
        let repaired = comparison.repaired();
        // What a wrong pointer showed as entries was never part of a table.
        let tables = repaired.iter().filter_map(|f| match f.place {
            Place::L1(source, index) => Some((source, index)),
            _ => None,
        });
        let tables: Vec<_> = tables.collect();
        let below = |f: &&Finding| match f.place {
            Place::L2(source, index, _) => tables.contains(&(source, index)),
            _ => false,
        };
        let mended = repaired.iter().filter(|f| by_itself(f) && !below(f));
        for finding in mended {
            if !named.contains(&finding.code()) {
                missing.push(format!("[{}] {} of {named:?}", broken.name, finding.code()));
            }
        }
    }
    assert!(missing.is_empty(), "{} missing:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn only_what_drops_something_is_marked_as_losing_something() {
    for broken in broken::bases().iter().flat_map(broken::damages) {
        let run = planned(&broken.bytes, RepairMode::All).expect("a file can grow");
        let steps = run.stages.iter().flat_map(|stage| &stage.steps);
        let lossy = steps.filter(|step| step.purpose.risk == Risk::Lossy).count();
        let drops = broken.name.contains("extra");
        assert_eq!(lossy > 0, drops && !run.stages.is_empty(), "{}", broken.name);
    }
}

#[test]
fn what_a_repair_drops_where_that_is_allowed_is_marked_as_lossy() {
    let mut dropped = 0;
    for case in damage::bases().iter().flat_map(damage::damages) {
        let Ok(run) = planned(&case.bytes, RepairMode::Lossy) else { continue };
        for stage in &run.stages {
            let drops = DROPS.contains(&stage.kind);
            dropped += usize::from(drops);
            for step in &stage.steps {
                let unknown = step.purpose.what == "unknown autoclear bits in the header";
                let lossy = step.purpose.risk == Risk::Lossy;
                let fixes = !step.purpose.fixes.is_empty() || unknown;
                assert!(!drops || lossy && fixes, "{}: {step:?}", case.name);
            }
        }
    }
    assert!(dropped > 100, "{dropped}");
}

/// The steps of a plan, each with its stage in words.
fn steps(run: &DryRun) -> impl Iterator<Item = (&PlannedStep, &str)> {
    run.stages.iter().flat_map(|stage| stage.steps.iter().map(|step| (step, stage.kind.text())))
}

#[test]
fn every_step_that_only_a_lossy_repair_makes_is_marked_as_losing_data() {
    let matrix = damage::bases().iter().flat_map(damage::damages).map(|d| (d.name, d.bytes));
    let combined = broken::bases().iter().flat_map(broken::damages).map(|b| (b.name, b.bytes));
    let (mut lossy, mut refused, mut unmarked) = (0, 0, Vec::new());
    for (name, bytes) in sample(matrix.chain(combined), 4) {
        let Ok(with_leave) = planned(&bytes, RepairMode::Lossy) else { continue };
        // A repair that is refused without leave writes nothing at all.
        let without = planned(&bytes, RepairMode::All);
        refused += usize::from(without.is_err());
        let is_made = |step: &PlannedStep| {
            let all = without.iter().flat_map(steps);
            let written = all.flat_map(|(step, _)| &step.writes);
            let written: HashSet<_> = written.map(key).collect();
            step.writes.iter().all(|write| written.contains(&key(write)))
        };
        for (step, stage) in steps(&with_leave).filter(|(step, _)| !is_made(step)) {
            lossy += 1;
            if step.purpose.risk != Risk::Lossy {
                unmarked.push(format!("{name}: {stage}: {step:?}"));
            }
        }
    }
    println!("{lossy} steps that only a lossy repair makes; {refused} repairs refused");
    assert!(unmarked.is_empty(), "{} unmarked:\n{}", unmarked.len(), unmarked.join("\n"));
    assert!(lossy > 100, "{lossy}");
}

/// What a write does and where.
fn key(write: &PlannedWrite) -> (u8, u64, u64) {
    (write.action as u8, write.offset, write.length)
}

#[test]
fn an_overlay_reads_as_the_storage_that_it_covers_and_what_was_written_since() {
    let base: Vec<u8> = (0..40_000_u32).map(|n| (n / 50 % 251) as u8).collect();
    let source = MemoryStorage::new(base.clone());
    let plain = MemoryStorage::new(base.clone());
    let overlay = Overlay::new(&source, Capacity::Growable, 1 << 20).unwrap();
    let mut random = 99_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    for _ in 0..500 {
        let (offset, length) = (below(60_000), below(9000));
        for storage in [&overlay as &dyn Storage, &plain] {
            match length % 5 {
                0 => storage.set_len(offset).unwrap(),
                1 => storage.write_zeroes(offset, length).unwrap(),
                _ => storage.write_at(offset, &vec![length as u8; length as usize]).unwrap(),
            }
        }
        assert_eq!(overlay.len().unwrap(), plain.len().unwrap());
        let (from, count) = (below(60_000), below(20_000) as usize);
        let (mut one, mut two) = (vec![0; count], vec![0; count]);
        let read = overlay.read_at(from, &mut one).unwrap();
        assert_eq!(read, plain.read_at(from, &mut two).unwrap());
        assert!(one[..read] == two[..read]);
        let mut at = 0;
        let mut covered = vec![false; 80_000];
        while let Some(data) = overlay.next_data(at).unwrap() {
            assert!(
                data.start >= at && data.end > data.start && data.end <= overlay.len().unwrap()
            );
            covered[data.start as usize..data.end as usize].fill(true);
            at = data.end;
        }
        let whole = plain.to_vec();
        assert!(whole.iter().enumerate().all(|(at, &byte)| byte == 0 || covered[at]));
    }
    assert!(source.into_inner() == base);
}

#[test]
fn an_overlay_takes_no_more_memory_than_it_may() {
    let overlay = Overlay::new(MemoryStorage::default(), Capacity::Growable, 10 * 4096).unwrap();
    overlay.write_at(0, &[1; 9 * 4096]).unwrap();
    overlay.write_at(5, &[2; 8 * 4096]).unwrap();
    overlay.write_at(1 << 40, &[3]).unwrap();
    assert!(overlay.write_at(1 << 41, &[3]).is_err());
}

#[test]
fn an_overlay_of_a_device_does_not_grow() {
    let overlay =
        Overlay::new(MemoryStorage::fixed(vec![0; 100]), Capacity::Fixed(100), 1 << 20).unwrap();
    overlay.write_at(90, &[1; 10]).unwrap();
    assert!(overlay.write_at(91, &[1; 10]).is_err());
    assert!(overlay.set_len(99).is_err());
}
