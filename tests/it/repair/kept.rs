//! Damaged images that are kept as files: each showed a fault of a check or a repair.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use qcheck::check::{CheckOptions, Tally, check};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{MemoryStorage, Storage};

use crate::support::programs::oracle::{IMAGE, Scratch};
use crate::support::storages::fail::{Class, FailAfter};

/// An image, and the exit codes of `check`, `-r leaks`, `-r all` and `-r all --allow-data-loss`, then that of real
/// `qemu-img check` after the last one.
const IMAGES: [(&str, [i32; 5]); 7] = [
    // The file ends within a table: held, and what is missing is given up with leave.
    ("cut-in-l2", [2, 2, 2, 0, 0]),
    ("cut-in-last-sector", [2, 2, 2, 0, 0]),
    // An L2 table used twice, beside an orphan that several entries may have pointed to.
    ("dead-end-two-writers", [2, 2, 2, 0, 0]),
    // No QEMU opens it, and nothing in the image shows the right format.
    ("backing-format-16", [2, 2, 2, 2, 1]),
    ("l2-is-refblock", [2, 2, 2, 0, 0]),
    // A blank table beside leaked data: held.
    ("l2-wiped", [3, 3, 3, 0, 0]),
    // Two L1 entries for one table, and nothing leaked: each position gets a copy.
    ("l2-twice", [2, 2, 0, 0, 0]),
];

fn image(name: &str) -> Vec<u8> {
    let path = Path::new("tests/data/damaged").join(format!("{name}.qcow2"));
    if let Ok(bytes) = fs::read(&path) {
        return bytes;
    }
    let packed = fs::File::open(path.with_extension("qcow2.gz")).expect("an image of the tests");
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("an image of the tests");
    bytes
}

#[test]
fn images_that_showed_a_fault_end_as_documented() {
    let scratch = Scratch::new();
    for (name, codes) in IMAGES {
        let bytes = image(name);
        let mut seen = Vec::new();
        for mode in [&[][..], &["-r", "leaks"], &["-r", "all"], &["-r", "all", "--allow-data-loss"]]
        {
            scratch.write(IMAGE, &bytes);
            let args: Vec<&str> = ["check"].iter().chain(mode).chain(&[IMAGE]).copied().collect();
            seen.push(scratch.qcheck(&args).code);
            if mode.is_empty() {
                assert_eq!(scratch.bytes(), bytes, "{name}: a check wrote");
            }
        }
        seen.push(scratch.qemu_img(&["check", IMAGE]).code);
        assert_eq!(seen, codes, "{name}");
    }
}

/// What a repair of an image ends with.
fn end(storage: &dyn Storage) -> Option<Tally> {
    let options = CheckOptions { threads: 1, ..CheckOptions::default() };
    repair(storage, RepairMode::All, &options, &Silent).ok()?;
    check(&storage, &options, &Silent).ok().map(|report| report.tally)
}

/// A lost table points to where the structures of the first repair are. Once they are in the file, that is counted as
/// its data, and less space is left.
#[test]
fn a_repair_that_is_interrupted_anywhere_ends_alike_or_is_refused_when_it_is_run_again() {
    let bytes = image("repair-after-kill");
    let whole = end(&MemoryStorage::new(bytes.clone())).expect("it can be repaired");
    let mut refused = 0;
    for n in 0.. {
        let disk = FailAfter::new(MemoryStorage::new(bytes.clone()), Class::AnyWrite, n);
        let interrupted = end(&disk);
        if !disk.fired() {
            assert!(n > 4, "only {n} operations change something");
            break;
        }
        assert_eq!(interrupted, None, "operation {n} fails, and nothing is reported");
        let disk = disk.into_inner();
        let before = disk.to_vec();
        match end(&disk) {
            Some(again) => assert_eq!(again.corruptions, whole.corruptions, "after {n}"),
            None => {
                assert!(disk.to_vec() == before, "after {n}: it is refused, and wrote");
                refused += 1;
            }
        }
    }
    assert!(refused <= 4, "refused after {refused} interruptions");
}
