//! Undoing a repair: the image is as it was before, to the byte, or nothing is written.

use qcheck::check::CheckOptions;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{MemoryStorage, ReadAt, Storage};
use qcheck::undo::{Durable, UndoLog, Undone};

use crate::support::damages::broken;
use crate::support::damages::damage;
use crate::support::storages::undo::undone;

const MODES: [RepairMode; 3] = [RepairMode::Leaks, RepairMode::All, RepairMode::Lossy];

/// Repairs an image; returns what was recorded.
fn repaired(image: &dyn Storage, mode: RepairMode) -> Vec<u8> {
    let file = MemoryStorage::default();
    let log = UndoLog::new(image, Durable::assume(&file)).expect("an empty file");
    let options = CheckOptions::default().threads(1);
    if repair(&log, mode, &options, &Silent).is_ok() {
        log.finish().expect("memory does not fail");
    }
    file.into_inner()
}

/// The image that is damaged in most of these tests.
const EXAMPLE: &str = "v3 1k 8-bit snapshots";

/// An image with some of everything wrong, and the record of its repair.
fn example() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let base = broken::bases().iter().find(|base| base.name == EXAMPLE).expect("it is there");
    let mut damages = broken::damages(base).into_iter();
    let before = damages.find(|b| b.name.contains("leaks, block missing")).expect("a damage");
    let image = MemoryStorage::new(before.bytes.clone());
    let file = repaired(&image, RepairMode::All);
    (before.bytes, image.into_inner(), file)
}

fn refusal(file: &[u8], image: &[u8], force: bool) -> String {
    let storage = MemoryStorage::new(image.to_vec());
    let error = undone(file, &storage, force).expect_err("it is refused").to_string();
    assert_eq!(storage.into_inner(), image, "something was written: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// Repairs and undoes every case in both modes; returns how many repairs wrote something.
fn every_repair_is_undone(cases: impl Iterator<Item = (String, Vec<u8>)>) -> (usize, usize) {
    let (mut repairs, mut wrote) = (0, 0);
    for (name, bytes) in cases {
        for mode in MODES {
            for fixed in [false, true] {
                let bytes = bytes.clone();
                let image = if fixed {
                    MemoryStorage::fixed(bytes.clone())
                } else {
                    MemoryStorage::new(bytes.clone())
                };
                let file = repaired(&image, mode);
                repairs += 1;
                if file.is_empty() {
                    assert!(image.to_vec() == bytes, "{name} {mode:?}: a write without a record");
                    continue;
                }
                wrote += 1;
                let done = undone(&file, &image, false);
                assert!(done.is_ok(), "{name} {mode:?}: {done:?}");
                assert!(image.to_vec() == bytes, "{name} {mode:?}: not the same bytes");
                let again = undone(&file, &image, false);
                assert_eq!(again.unwrap(), Undone::Nothing, "{name} {mode:?}");
            }
        }
    }
    println!("{wrote} of {repairs} repairs wrote, and were undone");
    (repairs, wrote)
}

#[test]
fn every_repair_of_the_damage_matrix_is_undone_to_the_byte() {
    let cases = damage::bases().iter().flat_map(damage::damages).map(|d| (d.name, d.bytes));
    let (repairs, wrote) = every_repair_is_undone(cases);
    assert!(repairs > 12_000 && wrote > 4000, "{wrote} of {repairs}");
}

#[test]
fn every_repair_of_combined_damages_is_undone_to_the_byte() {
    let cases = broken::bases().iter().flat_map(broken::damages).map(|b| (b.name, b.bytes));
    let (_, wrote) = every_repair_is_undone(cases);
    assert!(wrote > 400, "{wrote}");
}

#[test]
fn an_image_that_has_changed_is_refused_and_force_overrides_that() {
    let (before, after, file) = example();
    let mut refused = 0;
    for at in (0..before.len()).step_by(512) {
        let mut changed = after.clone();
        changed[at + 77] ^= 0x40;
        let image = MemoryStorage::new(changed.clone());
        if undone(&file, &image, false).is_ok() {
            continue; // A place that neither check nor repair has touched.
        }
        refused += 1;
        let error = refusal(&file, &changed, false);
        assert!(error.contains("has changed since") && error.contains("--force"), "{error}");
        assert!(error.contains(&format!("{at:#x}")), "{at:#x}: {error}");
        undone(&file, &image, true).expect("forced");
        let mut want = before.clone();
        let restored = image.into_inner();
        if want[at..at + 512] != restored[at..at + 512] {
            want[at + 77] ^= 0x40; // It was not one of the places that the repair wrote.
        }
        assert!(restored == want, "{at:#x}");
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn what_was_appended_since_the_repair_stays() {
    let (before, after, file) = example();
    let mut longer = after.clone();
    longer.extend([9; 8192]);
    let image = MemoryStorage::new(longer);
    let done = undone(&file, &image, true).expect("forced");
    assert!(matches!(done, Undone::Restored { appended: 8192, .. }), "{done:?}");
    let restored = image.into_inner();
    assert!(restored[..before.len().min(after.len())] == before[..before.len().min(after.len())]);
    assert!(restored.len() == after.len() + 8192 && restored.ends_with(&[9; 8192]));
}

#[test]
fn a_length_that_has_changed_is_refused() {
    let (before, after, file) = example();
    for length in [after.len() + 4096, after.len() - 512, before.len() + 512] {
        let mut changed = after.clone();
        changed.resize(length, 0);
        assert!(refusal(&file, &changed, false).contains("has changed since"));
    }
}

#[test]
fn another_image_is_refused_even_with_force() {
    let (before, _, file) = example();
    for base in broken::bases().iter().filter(|base| !base.name.starts_with("v3 1k")) {
        for force in [false, true] {
            let error = refusal(&file, &base.bytes, force);
            assert!(error.contains("is not the image that was repaired"), "{}: {error}", base.name);
        }
    }
    for other in [Vec::new(), vec![0; before.len()], vec![7; before.len()]] {
        assert!(refusal(&file, &other, true).contains("is not the image"));
    }
}

#[test]
fn an_undo_file_that_is_cut_off_anywhere_is_refused() {
    let (_, after, file) = example();
    for length in (0..file.len()).step_by(37).chain([file.len() - 1]) {
        refusal(&file[..length], &after, true);
    }
}

#[test]
fn an_undo_file_with_a_flipped_bit_is_refused() {
    let (_, after, file) = example();
    let mut unseen = 0;
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let image = MemoryStorage::new(after.clone());
        unseen += usize::from(undone(&damaged, &image, true).is_ok());
    }
    assert_eq!(unseen, 0, "of {}", file.len());
}

#[test]
fn what_is_not_an_undo_file_is_refused() {
    let (before, after, _) = example();
    for other in [before.as_slice(), &[1; 5000], b"some text\n"] {
        assert!(refusal(other, &after, true).contains("is not an undo file"));
    }
    assert!(refusal(&[], &after, false).contains("is empty"));
}

#[test]
fn a_file_that_is_not_empty_is_never_overwritten() {
    let file = MemoryStorage::new(vec![1; 10]);
    assert!(UndoLog::new(MemoryStorage::default(), Durable::assume(&file)).is_err());
    assert_eq!(file.into_inner(), [1; 10]);
}

#[test]
fn a_repair_that_writes_nothing_records_nothing() {
    for base in broken::bases() {
        let image = MemoryStorage::new(base.bytes.clone());
        assert!(repaired(&image, RepairMode::All).is_empty(), "{}", base.name);
    }
}

#[test]
fn old_bytes_of_every_kind_of_change_are_put_back() {
    let before: Vec<u8> = (0..200_000_u32).map(|n| (n / 7 % 251) as u8).collect();
    let image = MemoryStorage::new(before.clone());
    let file = MemoryStorage::default();
    let log = UndoLog::new(&image, Durable::assume(&file)).unwrap();
    let mut buffer = [0; 100];
    log.read_at(5000, &mut buffer).unwrap();
    log.write_at(5000, &[1; 1000]).unwrap();
    log.read_at(5990, &mut buffer).unwrap();
    assert_eq!(buffer[9..11], [1, before[6000]], "a reader sees what was written");
    log.discard(10_000, 50_000).unwrap();
    log.write_zeroes(70_000, 10).unwrap();
    log.set_len(100_001).unwrap();
    assert_eq!(log.len().unwrap(), 100_001);
    log.write_at(300_000, &[3; 9]).unwrap();
    log.allocate(400_000, 1000).unwrap();
    log.sync().unwrap();
    log.write_at(5500, &[4; 9]).unwrap();
    assert!(log.finish().unwrap() > 0);
    assert_eq!(image.len().unwrap(), 401_000);
    let file = file.into_inner();
    let done = undone(&file, &image, false).unwrap();
    assert!(matches!(done, Undone::Restored { bytes, .. } if bytes > 100_000), "{done:?}");
    assert!(image.into_inner() == before);
}

#[test]
fn holes_take_no_space_in_the_undo_file() {
    let mut before = vec![0; 64 << 20];
    before[..512].fill(9);
    before[40 << 20..(40 << 20) + 1000].fill(9);
    let image = MemoryStorage::new(before.clone());
    let file = MemoryStorage::default();
    let log = UndoLog::new(&image, Durable::assume(&file)).unwrap();
    log.discard(0, 64 << 20).unwrap();
    let length = log.finish().unwrap();
    assert!(length < 20_000, "{length} bytes");
    undone(&file.into_inner(), &image, false).unwrap();
    assert!(image.into_inner() == before);
}
