//! A repair of a damaged image: what it promises, whatever the damage.

use qcheck::check::{Kind, Tally, check};
use qcheck::error::Error;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{Latch, MemoryStorage, Storage};
use qcheck::undo::{Durable, Record, UndoLog, undo};

use super::damage::Damaged;
use crate::support::truth::judge::Case;
use crate::support::truth::roles::Truth;
use crate::support::truth::view::Unpacked;

/// Repairs what the input describes, and looks at every promise.
pub fn run(input: &[u8]) {
    let Some(damaged) = Damaged::new(input) else { return };
    let image = damaged.storage(damaged.bytes.clone());
    let record = MemoryStorage::limited(Vec::new(), super::MOST_BYTES);
    let log = UndoLog::new(&image, Durable::assume(&record)).expect("a new undo file");
    let done = repair(&Latch::new(&log), damaged.mode, &super::options(), &Silent).is_ok();
    if done {
        log.finish().expect("space for the record");
    }
    drop(log);
    let after = image.to_vec();
    damaged.judged(&after);
    if done {
        damaged.repaired(&after);
    }
    damaged.undone(&image, &record);
}

impl Damaged {
    fn storage(&self, bytes: Vec<u8>) -> MemoryStorage {
        match self.fixed {
            true => MemoryStorage::fixed(bytes),
            false => MemoryStorage::limited(bytes, super::MOST_BYTES),
        }
    }

    /// What a repair that ended promises.
    fn repaired(&self, after: &[u8]) {
        let end = tally(after).expect("a repaired image has a verdict");
        if let Some(before) = tally(&self.bytes).filter(|_| !self.hides_errors()) {
            // As with QEMU, leaks alone go with their refcounts; that a flag may be set then is harmless.
            let unset = if self.mode == RepairMode::Leaks { unset_flags(after) } else { 0 };
            let (was, is) = (before.corruptions, end.corruptions);
            assert!(is <= was + unset, "{was} errors became {is}");
            assert!(end.check_errors <= before.check_errors, "{before:?} became {end:?}");
        }
        let again = self.storage(after.to_vec());
        match repair(&again, self.mode, &super::options(), &Silent) {
            Ok(_) => {}
            // What the first one could do without space it did.
            Err(Error::NoRoom { .. } | Error::Refused(_)) => assert!(again.to_vec() == after),
            Err(error) => panic!("the same repair again: {error}"),
        }
        // What was held is waste like any other once no sign of damage is left. Once refcounts are raised, what they were
        // is not known any more, and a device without space for copies may have some after the first repair.
        let only_leaks = end.corruptions == 0 && end.leaks > 0;
        match (end.corruptions, self.mode) {
            (1.., RepairMode::Lossy) if self.fixed => {}
            (1.., RepairMode::Leaks | RepairMode::All) => self.judged(&again.to_vec()),
            _ => assert!(only_leaks || again.to_vec() == after, "a second repair writes"),
        }
    }

    /// What a repair without leave promises, also one that was refused: nothing that the damage left intact is lost, and
    /// no guest position reads what is not its own.
    fn judged(&self, after: &[u8]) {
        let Some(sound) = self.sound.filter(|_| self.mode != RepairMode::Lossy) else { return };
        let unpacked = Unpacked::default();
        let truth = Truth::of(sound, &unpacked);
        let case = Case::new(&truth, &self.bytes, &unpacked);
        let after = case.after(after, &unpacked);
        assert_eq!(case.destroyed(&after), None);
        assert_eq!(case.guessed(&after), None);
    }

    /// Whether damage may hide errors that show only once it is repaired.
    fn hides_errors(&self) -> bool {
        if self.sound.is_none_or(|sound| self.bytes.get(..112) != sound.get(..112)) {
            return true;
        }
        let image = MemoryStorage::new(self.bytes.clone());
        let Ok(report) = check(&image, &super::options(), &Silent) else { return true };
        report.findings.iter().any(|finding| {
            // What a wrong refcount covers is reported by itself once the refcount is repaired.
            let counted = matches!(
                finding.kind,
                Kind::Overlap { counted: true, .. }
                    | Kind::L2TableTwice { counted: true, .. }
                    | Kind::CompressedOverlap { counted: true, .. }
            );
            let code = finding.code();
            let table = code.contains("table") || code.contains("refblock");
            counted || (table && !code.starts_with("copied")) || code.contains("unreadable")
        })
    }

    fn undone(&self, image: &dyn Storage, record: &MemoryStorage) {
        if record.to_vec().is_empty() {
            return;
        }
        // A record of nothing but what was read has nothing to put back.
        if let Ok(record) = Record::load(record) {
            undo(&record, image, false, &Silent).expect("nobody else wrote");
        }
        let mut bytes = vec![0; image.len().expect("a length") as usize];
        image.read_exact_at(0, &mut bytes).expect("bytes in memory");
        assert!(bytes == self.bytes, "the undo left other bytes");
    }
}

/// How many COPIED flags are missing.
fn unset_flags(bytes: &[u8]) -> u64 {
    let image = MemoryStorage::new(bytes.to_vec());
    let report = check(&image, &super::options(), &Silent).expect("a repaired image has a verdict");
    let unset = report.findings.iter().filter(|finding| {
        matches!(
            finding.kind,
            Kind::DataCopied { count: 1, .. } | Kind::L2TableCopied { count: 1, .. }
        )
    });
    unset.count() as u64
}

fn tally(bytes: &[u8]) -> Option<Tally> {
    let image = MemoryStorage::new(bytes.to_vec());
    check(&image, &super::options(), &Silent).ok().map(|report| report.tally)
}
