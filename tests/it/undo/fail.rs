//! A recorded repair and its undoing on disks that fail, at every single operation.

use qcheck::check::CheckOptions;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{MemoryStorage, Storage};
use qcheck::undo::{Durable, Record, UndoLog, undo};

use crate::support::damages::broken::{Broken, bases, damages};
use crate::support::storages::fail::{Class, FailAfter};
use crate::support::storages::undo::undone;

const CLASSES: [Class; 5] = [Class::Read, Class::Write, Class::Sync, Class::SetLen, Class::Discard];

fn some() -> impl Iterator<Item = Broken> {
    bases().iter().flat_map(damages).step_by(3)
}

/// A whole recorded repair; whether it ended without an error.
fn recorded(image: &dyn Storage, file: &dyn Storage) -> bool {
    let Ok(log) = UndoLog::new(image, Durable::assume(file)) else { return false };
    let options = CheckOptions::default().threads(1);
    repair(&log, RepairMode::All, &options, &Silent).is_ok() && log.finish().is_ok()
}

/// What is left is undone, whether the repair ended or not.
fn is_undone(broken: &Broken, image: &[u8], file: &[u8]) -> bool {
    let image = MemoryStorage::new(image.to_vec());
    let done = undone(file, &image, false);
    image.into_inner() == broken.bytes || panic!("[{}]: {done:?}", broken.name)
}

#[test]
fn a_repair_whose_record_cannot_be_written_reports_it_and_can_be_undone() {
    let mut points = 0;
    for broken in some() {
        for class in CLASSES {
            for n in 0.. {
                let image = MemoryStorage::new(broken.bytes.clone());
                let file = FailAfter::new(MemoryStorage::default(), class, n);
                let ended = recorded(&image, &file);
                if !file.fired() {
                    break;
                }
                points += 1;
                assert!(!ended, "[{}] {class:?} {n}: no error", broken.name);
                is_undone(&broken, &image.into_inner(), &file.into_inner().into_inner());
            }
        }
    }
    println!("{points} failures of the undo file");
    assert!(points > 300, "{points}");
}

#[test]
fn a_recorded_repair_that_fails_can_be_undone() {
    let mut points = 0;
    for broken in some() {
        for class in &CLASSES[1..] {
            for n in 0.. {
                let image = FailAfter::new(MemoryStorage::new(broken.bytes.clone()), *class, n);
                let file = MemoryStorage::default();
                let ended = recorded(&image, &file);
                if !image.fired() {
                    break;
                }
                points += 1;
                assert!(!ended, "[{}] {class:?} {n}: no error", broken.name);
                is_undone(&broken, &image.into_inner().into_inner(), &file.into_inner());
            }
        }
    }
    println!("{points} failures of the image");
    assert!(points > 300, "{points}");
}

#[test]
fn an_undo_that_fails_reports_it_and_the_next_one_completes_it() {
    let mut points = 0;
    for broken in some() {
        let (image, file) = (MemoryStorage::new(broken.bytes.clone()), MemoryStorage::default());
        if !recorded(&image, &file) || file.to_vec().is_empty() {
            continue;
        }
        let (after, file) = (image.into_inner(), file.into_inner());
        for class in CLASSES {
            for n in 0.. {
                let image = FailAfter::new(MemoryStorage::new(after.clone()), class, n);
                let done = undone(&file, &image, false);
                if !image.fired() {
                    break;
                }
                points += 1;
                assert!(done.is_err(), "[{}] {class:?} {n}: {done:?}", broken.name);
                is_undone(&broken, &image.into_inner().into_inner(), &file);
            }
        }
    }
    println!("{points} failures of undo");
    assert!(points > 1000, "{points}");
}

#[test]
fn an_undo_file_that_cannot_be_read_is_an_error_and_the_next_undo_ends_it() {
    let mut points = 0;
    for broken in some() {
        let (image, file) = (MemoryStorage::new(broken.bytes.clone()), MemoryStorage::default());
        if !recorded(&image, &file) || file.to_vec().is_empty() {
            continue;
        }
        let (after, file) = (image.into_inner(), file.into_inner());
        for n in 0.. {
            let image = MemoryStorage::new(after.clone());
            let source = FailAfter::new(MemoryStorage::new(file.clone()), Class::Read, n);
            let done = Record::load(&source).and_then(|r| undo(&r, &image, false, &Silent));
            if !source.fired() {
                break;
            }
            points += 1;
            assert!(done.is_err(), "[{}] read {n}: {done:?}", broken.name);
            is_undone(&broken, &image.into_inner(), &file);
        }
    }
    println!("{points} failed reads of undo files");
    assert!(points > 500, "{points}");
}
