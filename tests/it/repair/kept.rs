//! Damaged images that are kept as files: each showed a fault of a check or a repair.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use qcheck::check::{CheckOptions, Tally, check};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::{MemoryStorage, Storage};

use crate::support::images::bytes::{OFFSET_MASK, be64, header, l1_entry_at, poke};
use crate::support::programs::oracle::{IMAGE, Scratch};
use crate::support::programs::run::{qemu_io, qemu_ok};
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
fn end_of(storage: &dyn Storage, mode: RepairMode) -> Option<Tally> {
    let options = CheckOptions::default().threads(1);
    repair(storage, mode, &options, &Silent).ok()?;
    check(&storage, &options, &Silent).ok().map(|report| report.tally)
}

/// A repair that fails at its n-th write, for every n, ends when it is run again as it would have without the failure.
fn assert_can_be_repeated(bytes: &[u8], mode: RepairMode) {
    let whole = end_of(&MemoryStorage::new(bytes.to_vec()), mode).expect("it can be repaired");
    for n in 0.. {
        let disk = FailAfter::new(MemoryStorage::new(bytes.to_vec()), Class::AnyWrite, n);
        let interrupted = end_of(&disk, mode);
        if !disk.fired() {
            assert!(n > 4, "only {n} operations change something");
            break;
        }
        assert_eq!(interrupted, None, "operation {n} fails, and nothing is reported");
        let again = end_of(&disk.into_inner(), mode);
        let again = again.unwrap_or_else(|| panic!("{mode:?} after {n}: it is refused"));
        assert_eq!(again.corruptions, whole.corruptions, "{mode:?} after {n}");
    }
}

/// The file is cut off, and pointers of the header and of three lost tables refer to all that follows its end.
#[test]
fn a_repair_ends_where_all_free_space_may_be_missing_data_and_so_does_the_next_after_an_interruption()
 {
    let bytes = image("repair-after-kill");
    let disk = MemoryStorage::new(bytes.clone());
    assert!(end_of(&disk, RepairMode::Leaks).is_some());
    assert!(disk.into_inner() == bytes, "nothing is written");
    let tally =
        end_of(&MemoryStorage::new(bytes.clone()), RepairMode::All).expect("it is repaired");
    assert_eq!(tally.corruptions, 1, "what is cut off is all that is left");
    assert_can_be_repeated(&bytes, RepairMode::All);
    assert_can_be_repeated(&bytes, RepairMode::Lossy);
}

/// Two disks of 4 KiB clusters in one image, as it were: an L1 entry is lost, and what its table refers to is cut off in
/// part or as a whole.
fn cut_off(kept: u64) -> Vec<u8> {
    let scratch = Scratch::new();
    let create = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", IMAGE, "6M"];
    qemu_ok(scratch.path(), "qemu-img", &create);
    for command in ["write -q -P 0x41 0 64k", "write -q -P 0x42 2M 32k"] {
        qemu_io(scratch.path(), IMAGE, command);
    }
    let mut bytes = scratch.bytes();
    let entry = l1_entry_at(&bytes, 1);
    let table = (be64(&bytes, entry) & OFFSET_MASK) as usize;
    let first = be64(&bytes, table) & OFFSET_MASK;
    assert_eq!(first as usize, table + 4096, "the data follows its table");
    bytes.truncate((first + kept * 4096) as usize);
    poke(&mut bytes, entry, 8, 0);
    bytes
}

#[test]
fn nothing_is_placed_where_a_lost_table_refers_to_missing_data() {
    for kept in [0, 3] {
        let mut bytes = cut_off(kept);
        let end = bytes.len() as u64;
        let table = header(&bytes, "refcount_table_offset") as usize;
        bytes[table..table + 8].fill(0);
        assert_can_be_repeated(&bytes, RepairMode::All);
        let disk = MemoryStorage::new(bytes);
        let tally = end_of(&disk, RepairMode::All).expect("a file can grow");
        assert_eq!(tally.corruptions, 0, "{kept}: {tally:?}");
        let after = disk.into_inner();
        let missing = end..end + (8 - kept) * 4096;
        let table = header(&after, "refcount_table_offset");
        let block = be64(&after, table as usize);
        assert!(table > end && block > end, "{kept}: both are new");
        assert!(!missing.contains(&table) && !missing.contains(&block), "{table:#x} {block:#x}");
    }
}
