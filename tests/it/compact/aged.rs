//! Images over the whole of the format: before and after the same in every byte, as real qemu-img reads them, clean, and no
//! longer than a new image.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use qcheck::compact::CompactOptions;
use qcheck::storage::{MemoryStorage, ReadAt};

use crate::compact::images::{Recipe, all_of, run, with_zeroes};
use crate::image::change::states::Case;
use crate::image::tools::{assert_clean, assert_same, convert, qemu};
use crate::support::sample::{sample, seed};

const KINDS: [&str; 10] = [
    "cluster_size=64k",
    "cluster_size=512",
    "cluster_size=4k,compat=0.10",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=4k,refcount_bits=1",
    "cluster_size=4k,refcount_bits=64,compression_type=zstd",
    "cluster_size=2k,refcount_bits=8,lazy_refcounts=on",
    "cluster_size=1k,refcount_bits=2",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=2048k",
];

fn recipe(create: &'static str, seed: u64) -> Recipe {
    let alone = create.ends_with("refcount_bits=1");
    let kilobytes = if create.ends_with("2048k") { 24 << 10 } else { 4096 };
    Recipe { create, kilobytes, snapshots: if alone { 0 } else { 2 }, seed, commands: 40 }
}

/// What real qemu-img reads of the disk and of each snapshot.
fn read_by_qemu(path: &Path) -> Vec<Vec<u8>> {
    let name = path.to_str().unwrap();
    let list = qemu("qemu-img", &["snapshot", "-l", name]);
    let list = String::from_utf8(list.stdout).unwrap();
    let names = list.lines().skip(2).filter_map(|line| line.split_whitespace().nth(1));
    let read = |snapshot: &str| {
        let raw = path.with_extension("raw");
        let snapshot = format!("snapshot.name={snapshot}");
        let to = raw.to_str().unwrap();
        qemu("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", "-l", &snapshot, name, to]);
        fs::read(&raw).unwrap()
    };
    std::iter::once(convert(path)).chain(names.map(read)).collect()
}

/// Compacts a case; the image stays in its file. Returns its length before and after.
fn compacted(case: &Case, options: &CompactOptions, what: &str) -> (u64, u64) {
    assert_clean(&case.path);
    let before = read_by_qemu(&case.path);
    let memory = Arc::new(MemoryStorage::new(case.bytes()));
    let outcome = run(case, memory.clone(), options).unwrap();
    let bytes = memory.to_vec();
    assert!(all_of(case, &case.bytes()) == all_of(case, &bytes), "{what}: other contents");
    assert_eq!(outcome.file_before, case.bytes().len() as u64, "{what}");
    assert_eq!(outcome.file_after, bytes.len() as u64, "{what}");
    assert_eq!(outcome.end_after, outcome.file_after, "{what}");
    fs::write(&case.path, &bytes).unwrap();
    assert_clean(&case.path);
    for (left, right) in read_by_qemu(&case.path).iter().zip(&before) {
        assert_same(left, right, what);
    }
    (outcome.file_before, outcome.file_after)
}

#[test]
fn every_byte_stays_and_a_second_run_moves_nothing() {
    for kind in sample(KINDS, 2) {
        let case = recipe(kind, seed() * 100).case();
        for (zeroes, batch) in [(false, 24 << 20), (true, 24 << 20), (true, 16 << 10)] {
            let what = format!("{kind}: zeroes: {zeroes}, batches of {batch}");
            let options = CompactOptions::default().zeroes(zeroes).batch(batch);
            let (before, after) = compacted(&case, &options, &what);
            assert!(after <= before, "{what}");
            let memory = Arc::new(MemoryStorage::new(fs::read(&case.path).unwrap()));
            let again = run(&case, memory.clone(), &options).unwrap();
            assert_eq!((again.moved, again.file_after), (0, after), "{what}: a second run");
            fs::write(&case.path, case.bytes()).unwrap();
        }
    }
}

/// Data of the disk and of snapshots, compressed once for all, and put in order.
#[test]
fn every_byte_stays_where_data_are_compressed_or_put_in_order() {
    let kinds = KINDS.iter().filter(|kind| !kind.ends_with("refcount_bits=1"));
    for kind in sample(kinds.collect::<Vec<_>>(), 5) {
        let case = recipe(kind, seed() * 100 + 50).case();
        let options = CompactOptions::default().batch(64 << 10);
        for options in [
            options.compress(true),
            options.defragment(true),
            options.compress(true).zeroes(true).defragment(true),
        ] {
            let what = format!("{kind}: {options:?}");
            let (before, after) = compacted(&case, &options, &what);
            assert!(after <= before, "{what}: {before} to {after}");
            fs::write(&case.path, case.bytes()).unwrap();
        }
    }
}

/// Of what is written to a compressed image a new one is larger, so there is none here.
#[test]
fn an_image_without_snapshots_gets_as_short_as_a_new_one() {
    for kind in KINDS {
        let case = Recipe { snapshots: 0, commands: 150, ..recipe(kind, seed()) }.case();
        let name = case.path.to_str().unwrap();
        let new = case.path.with_extension("new");
        let args = ["convert", "-f", "qcow2", "-O", "qcow2", "--bitmaps", "-o", kind, name];
        let args: Vec<&str> =
            args.into_iter().filter(|arg| !kind.contains("0.10") || *arg != "--bitmaps").collect();
        qemu("qemu-img", &[&args[..], &[new.to_str().unwrap()]].concat());
        let goal = fs::metadata(&new).unwrap().len();
        let (before, after) = compacted(&case, &with_zeroes(), kind);
        let clusters = 4 * case
            .open(Arc::new(MemoryStorage::new(case.bytes())))
            .unwrap()
            .geometry()
            .cluster_bytes();
        assert!(
            after <= goal * 101 / 100 + clusters,
            "{kind}: {before} to {after}, a new one has {goal}"
        );
        assert!(after < before, "{kind}: nothing was gained");
    }
}

/// Zeroes of the image must not become data of the backing file.
#[test]
fn zeroes_that_hide_a_backing_file_stay_zeroes() {
    for kind in
        ["cluster_size=4k", "cluster_size=16k,extended_l2=on", "cluster_size=4k,compat=0.10"]
    {
        let mut case = Case::new(|path| {
            let base = path.with_file_name("base");
            fs::write(&base, vec![7; 3 << 20]).unwrap();
            let name = path.to_str().unwrap();
            let args = ["-o", kind, "-b", base.to_str().unwrap(), "-F", "raw", name, "4096k"];
            qemu("qemu-img", &[&["create", "-q", "-f", "qcow2"][..], &args].concat());
            Recipe { snapshots: 1, ..recipe(kind, 5) }.age(path);
        });
        let before = read_by_qemu(&case.path);
        let base = case.path.with_file_name("base");
        case.disk.load(&base);
        let memory = Arc::new(MemoryStorage::new(case.bytes()));
        let outcome = run(&case, memory.clone(), &with_zeroes()).unwrap();
        assert_eq!(outcome.zeroes > 0, !kind.contains("0.10"), "{kind}");
        fs::write(&case.path, memory.to_vec()).unwrap();
        assert_clean(&case.path);
        for (left, right) in read_by_qemu(&case.path).iter().zip(&before) {
            assert_same(left, right, kind);
        }
        assert!(memory.len().unwrap() <= outcome.file_before);
    }
}
