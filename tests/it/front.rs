//! The library's front door: images by name.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use qcheck::front::Verdict;
use qcheck::policy::Policy;
use qcheck::progress::Progress;
use qcheck::storage::{Access, FileStorage, lock};
use qcheck::verify::Algorithm;
use qcheck::{Checker, Class, Error, Repair, RepairMode};

use crate::support::images::builder::Builder;
use crate::support::programs::oracle::Scratch;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A copy of the image with every kind of damage that `all` repairs.
fn damaged(folder: &tempfile::TempDir) -> PathBuf {
    let image = folder.path().join("disk.qcow2");
    fs::copy("tests/data/damaged.qcow2", &image).expect("a copy");
    image
}

#[test]
fn the_class_of_a_check_is_the_exit_code_of_qemu_img() {
    let folder = folder();
    let image = damaged(&folder);
    let sound = folder.path().join("sound.qcow2");
    fs::write(&sound, Builder::new(64 << 9).cluster_bits(9).data(0..8, 1).build().bytes).unwrap();
    let raw = folder.path().join("raw");
    fs::write(&raw, [0; 4096]).unwrap();
    for path in [&image, &sound, &raw] {
        let code = Checker::new(path).check().expect("a verdict").class().exit_code();
        let theirs = Scratch::new().qemu_img(&["check".as_ref(), path.as_os_str()]);
        assert_eq!(i32::from(code), theirs.code, "{}", path.display());
    }
}

#[test]
fn what_a_policy_denies_is_known_where_there_is_no_verdict() {
    let folder = folder();
    let image = damaged(&folder);
    let mut bytes = fs::read(&image).unwrap();
    bytes[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0, 1]);
    bytes[20..24].copy_from_slice(&63u32.to_be_bytes());
    fs::write(&image, bytes).unwrap();
    assert!(matches!(Checker::new(&image).check(), Err(Error::Header { .. })));
    let checked = Checker::new(&image).policy(Policy::untrusted()).check().expect("a violation");
    assert_eq!(checked.class(), Class::Denied);
    assert!(matches!(checked.verdict, Verdict::Failed(Error::Header { .. })));
}

#[test]
fn digests_are_made_of_raw_images_too() {
    let folder = folder();
    let raw = folder.path().join("raw");
    fs::write(&raw, [7; 4096]).unwrap();
    let checked = Checker::new(&raw).digest(Algorithm::Sha256).check().expect("a digest");
    assert_eq!(checked.class(), Class::Clean);
    assert_eq!(checked.digests.active.expect("it was asked for").size, 4096);
}

#[test]
fn an_image_that_another_process_holds_is_neither_checked_nor_repaired() {
    let folder = folder();
    let image = damaged(&folder);
    let holder = FileStorage::open_write(&image).expect("it exists");
    lock(&holder, Access::Write).expect("nobody else has it");
    assert!(matches!(Checker::new(&image).check(), Err(Error::Locked(_))));
    assert!(matches!(Repair::new(&image).run(), Err(Error::Locked(_))));
    assert!(matches!(Repair::new(&image).plan(), Err(Error::Locked(_))));
    assert_eq!(Checker::new(&image).share(true).check().unwrap().class(), Class::Errors);
}

#[test]
fn a_plan_writes_nothing_and_lists_what_the_repair_then_does() {
    let folder = folder();
    let image = damaged(&folder);
    let before = fs::read(&image).unwrap();
    let plan = Repair::new(&image).plan().expect("it can be planned");
    assert_eq!(fs::read(&image).unwrap(), before);
    let outcome = Repair::new(&image).mode(RepairMode::All).run().expect("it can be repaired");
    assert_eq!(plan.outcome.report().tally, outcome.report().tally);
    assert_eq!(Class::from(&outcome.report().tally), Class::Clean);
    assert!(outcome.fixed().corruptions > 0);
    assert_eq!(Checker::new(&image).check().unwrap().class(), Class::Clean);
}

#[test]
fn what_is_not_a_qcow2_image_is_repaired_only_by_name_of_the_format() {
    let folder = folder();
    let raw = folder.path().join("raw");
    fs::write(&raw, [0; 1 << 16]).unwrap();
    for mode in [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy] {
        assert!(matches!(Repair::new(&raw).mode(mode).run(), Err(Error::NotQcow2)), "{mode:?}");
    }
    assert_eq!(fs::read(&raw).unwrap(), [0; 1 << 16]);
}

/// Cancels once this many reports were made.
struct CancelAfter {
    left: AtomicU64,
}

impl CancelAfter {
    const fn new(reports: u64) -> Self {
        Self { left: AtomicU64::new(reports) }
    }

    fn count(&self) {
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
}

impl Progress for CancelAfter {
    fn stage(&self, _what: &str, _total: u64) {
        self.count();
    }

    fn advance(&self, _bytes: u64) {
        self.count();
    }

    fn is_cancelled(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn a_check_that_is_cancelled_has_no_verdict() {
    let folder = folder();
    let image = damaged(&folder);
    for reports in [0, 1, 2] {
        let cancel = CancelAfter::new(reports);
        let checked = Checker::new(&image).data(true).progress(&cancel).check();
        assert!(matches!(checked, Err(Error::Cancelled)), "{reports}");
    }
    let never = CancelAfter::new(u64::MAX);
    assert!(Checker::new(&image).data(true).progress(&never).check().is_ok());
}

/// Wherever it is cancelled, the image is what a crash would leave: no worse, and the same repair
/// completes it; or an undo takes it back.
#[test]
fn a_repair_that_is_cancelled_leaves_what_a_crash_would_leave() {
    let folder = folder();
    let errors = Checker::new(damaged(&folder)).check().unwrap().report().unwrap().tally;
    let original = fs::read(damaged(&folder)).unwrap();
    let (mut cancelled, mut changed) = (0, 0);
    for reports in 0..400 {
        let image = damaged(&folder);
        let undo = folder.path().join(format!("undo-{reports}"));
        let cancel = CancelAfter::new(reports);
        let outcome = Repair::new(&image).undo(&undo).progress(&cancel).run();
        if outcome.is_ok() {
            break;
        }
        assert!(matches!(outcome, Err(Error::Cancelled)), "{reports}: {outcome:?}");
        cancelled += 1;
        let left = Checker::new(&image).check().unwrap().report().unwrap().tally;
        assert!(left.corruptions <= errors.corruptions, "{reports}: {left:?}");
        if fs::read(&image).unwrap() != original {
            changed += 1;
            let record = FileStorage::open_read(&undo).expect("it was written first");
            let record = qcheck::undo::Record::load(&record).expect("it is valid");
            let file = FileStorage::open_write(&image).unwrap();
            qcheck::undo::undo(&record, &file, false, &qcheck::progress::Silent).expect("undone");
            assert!(fs::read(&image).unwrap() == original, "{reports}");
        }
        let again = Repair::new(&image).run().expect("it goes on");
        assert!(again.report().tally.is_clean(), "{reports}");
    }
    assert!(cancelled > 2 && changed > 0, "{cancelled} cancelled, {changed} of them in the middle");
}
