//! A few bytes that ask for much work: tables in holes, tables that overlap, tables that everything
//! points to. Memory stays within four times the bytes of the tables and 64 MiB.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use crate::support::measure;
use crate::support::programs::oracle::Scratch;

/// The most memory any check here may hold, beside four times the bytes of the tables.
const MEMORY_KIB: u64 = 64 << 10;
/// The longest any check here may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest any repair here may take: it is a check a round.
const REPAIR_PATIENCE: Duration = Duration::from_secs(60);
const COPIED: u64 = 1 << 63;

/// A version 3 header: cluster bits, refcount order, L1 entries and offset, refcount table offset,
/// snapshots and their table's offset.
fn header(bits: u32, order: u32, l1: (u32, u64), reftable: u64, snapshots: (u32, u64)) -> Vec<u8> {
    let mut b = b"QFI\xfb\0\0\0\x03".to_vec();
    b.extend([0; 12]);
    b.extend(bits.to_be_bytes());
    b.extend((1u64 << 30).to_be_bytes());
    b.extend([0; 4]);
    b.extend(l1.0.to_be_bytes());
    b.extend(l1.1.to_be_bytes());
    b.extend(reftable.to_be_bytes());
    b.extend(1u32.to_be_bytes());
    b.extend(snapshots.0.to_be_bytes());
    b.extend(snapshots.1.to_be_bytes());
    b.extend([0; 24]);
    b.extend(order.to_be_bytes());
    b.extend(104u32.to_be_bytes());
    b.extend([0; 8]);
    b
}

/// Puts a table of entries at an offset.
fn put(image: &mut Vec<u8>, at: u64, entries: impl Iterator<Item = u64>) {
    let at = usize::try_from(at).expect("the image fits into memory");
    image.resize(image.len().max(at), 0);
    image.truncate(at);
    image.extend(entries.flat_map(u64::to_be_bytes));
}

/// Repairs the image, with tables of so many bytes, in bounded time and memory.
fn repaired(bytes: &[u8], tables: u64, what: &str) {
    for mode in
        [&["check", "-q", "-r", "all"][..], &["check", "-q", "-r", "all", "--allow-data-loss"]]
    {
        let image = Scratch::with_image(bytes);
        let path = image.image();
        let args = [mode, &[path.to_str().expect("the path is text")]].concat();
        let cost = measure::run(Path::new(env!("CARGO_BIN_EXE_qcheck")), &args);
        assert!([0, 2, 3].contains(&cost.code), "{what}: {mode:?} ends with {}", cost.code);
        assert!(cost.time < REPAIR_PATIENCE, "{what}: {mode:?} took {:?}", cost.time);
        let most = MEMORY_KIB + 4 * tables / 1024;
        assert!(cost.peak_kib < most, "{what}: {mode:?} took {} of {most} KiB", cost.peak_kib);
    }
}

/// Checks the image, stretched to a length and with tables of so many bytes, in bounded time and memory.
fn bounded(bytes: &[u8], length: u64, tables: u64, what: &str) {
    let image = Scratch::with_image(bytes);
    let file = OpenOptions::new().write(true).open(image.image()).expect("the image opens");
    file.set_len(length.max(bytes.len() as u64)).expect("the file system takes a sparse file");
    let path = image.image();
    let args = ["check", path.to_str().expect("the path is text")];
    let cost = measure::run(Path::new(env!("CARGO_BIN_EXE_qcheck")), &args);
    assert_eq!(cost.code, 2, "{what}");
    assert!(cost.time < PATIENCE, "{what} took {:?}", cost.time);
    let most = MEMORY_KIB + 4 * tables / 1024;
    assert!(cost.peak_kib < most, "{what} took {} of {most} KiB", cost.peak_kib);
}

#[test]
fn half_a_million_l2_tables_in_holes_are_not_read() {
    let cluster = 1 << 21;
    let entries = 1 << 19;
    let mut image = header(21, 4, (entries, cluster), cluster * 20, (0, 0));
    put(&mut image, cluster, (0..u64::from(entries)).map(|n| ((100 + n) * cluster) | COPIED));
    bounded(&image, 1 << 42, 4 << 20, "tables in holes");
}

#[test]
fn l2_tables_that_overlap_are_read_up_to_a_bound() {
    let cluster = 1 << 21;
    let entries = 1 << 17;
    let mut image = header(21, 4, (entries, cluster), cluster * 2, (0, 0));
    let offset = |n: u64| (cluster * 3 + n * 512) | COPIED;
    put(&mut image, cluster, (0..u64::from(entries)).map(offset));
    image.resize(usize::try_from(cluster * 8).expect("it fits"), 0x5a);
    // Some of the tables wait for others to be read: how many is left to the scheduler.
    bounded(&image, 0, 32 << 20, "tables that overlap");
}

#[test]
fn one_damaged_table_that_every_l1_entry_points_to_is_reported_in_bounded_memory() {
    let cluster = 1 << 16;
    let entries = 1 << 20;
    let mut image = header(16, 4, (entries, cluster), 0x1_0000_0000, (0, 0));
    put(&mut image, cluster, (0..entries).map(|_| (cluster * 200) | COPIED));
    put(&mut image, cluster * 200, (0..8192).map(|n| n | 0x1ff));
    bounded(&image, 0, 8 << 20, "a table for all");
}

#[test]
fn snapshots_with_l1_tables_that_overlap_in_holes_are_checked_soon() {
    let mut image = header(9, 6, (64, 2048), 1024, (20_000, 512 * 1024));
    image.resize(512 * 1024, 0);
    for n in 0..20_000u64 {
        image.extend(((1 << 30) + n * 512).to_be_bytes());
        image.extend((1u32 << 22).to_be_bytes());
        image.extend([0, 1, 0, 1]);
        image.extend([0; 20]);
        image.extend(16u32.to_be_bytes());
        image.extend([0; 16]);
        image.extend(*b"ab\0\0\0\0\0\0");
    }
    bounded(&image, 1 << 42, 2 << 20, "snapshots in holes");
}

/// 64 KiB clusters, a refcount table and a block of 64-bit refcounts, an empty L2 table and the longest
/// L1 table that QEMU opens.
fn longest(entry: impl Fn(u64) -> u64) -> Vec<u8> {
    const CLUSTER: u64 = 1 << 16;
    let entries = 1u32 << 22;
    let mut image = header(16, 6, (entries, CLUSTER * 4), CLUSTER, (0, 0));
    put(&mut image, CLUSTER, [CLUSTER * 2].into_iter());
    put(&mut image, CLUSTER * 2, (0..4 + 512).map(|_| 1));
    put(&mut image, CLUSTER * 4, (0..u64::from(entries)).map(entry));
    image
}

#[test]
fn the_longest_l1_table_takes_little_more_memory_than_it_has_bytes() {
    let cluster = 1 << 16;
    bounded(&longest(|_| cluster * 3), 0, 32 << 20, "one table for four million entries");
    let past_end = |n| ((1000 + n) * cluster) | COPIED;
    bounded(&longest(past_end), 0, 32 << 20, "four million tables past the end");
    let spread = |n| (n % 516 * cluster) | COPIED;
    bounded(&longest(spread), 0, 32 << 20, "every cluster is an L2 table");
    let unaligned = |n| (n % 60_000 * 512) | COPIED;
    bounded(&longest(unaligned), 0, 32 << 20, "tables in the middle of clusters");
}

#[test]
fn a_repair_of_the_longest_l1_table_takes_little_more_memory_than_it_has_bytes() {
    repaired(&longest(|_| 3 << 16), 32 << 20, "one table for four million entries");
    let past_end = |n| ((1000 + n) << 16) | COPIED;
    repaired(&longest(past_end), 32 << 20, "four million tables past the end");
    let reserved = |_| (3 << 16) | 1 << 60;
    repaired(&longest(reserved), 32 << 20, "four million entries with a reserved bit");
}

/// Appends snapshots with this L1 table and so many bytes of extra data.
fn put_snapshots(image: &mut Vec<u8>, count: u32, l1: (u32, u64), extra: u32) {
    for n in 0..count {
        let id = format!("{n:08}");
        image.extend(l1.1.to_be_bytes());
        image.extend(l1.0.to_be_bytes());
        image.extend([0, 8, 0, 8]);
        image.extend([0; 20]);
        image.extend(extra.to_be_bytes());
        image.extend([0; 8]);
        image.extend((1u64 << 30).to_be_bytes());
        image.resize(image.len() + extra as usize - 16, b'x');
        image.extend(id.bytes().chain(id.bytes()));
    }
}

#[test]
fn snapshots_that_share_an_l1_table_take_memory_for_it_once() {
    let (cluster, count, entries) = (1 << 16, 1 << 16, 1 << 20);
    let mut image = header(16, 6, (2, cluster * 3), cluster, (count, cluster * 200));
    put(&mut image, cluster, [cluster * 2].into_iter());
    put(&mut image, cluster * 5, (0..entries).map(|_| cluster * 4));
    put(&mut image, cluster * 200, [].into_iter());
    put_snapshots(&mut image, count, (1 << 20, cluster * 5), 16);
    let tables = (8 << 20) + u64::from(count) * 72;
    bounded(&image, 0, tables, "snapshots that share an L1 table");
    // A repair has the references that it aims at beside those that it found.
    repaired(&image, 2 * tables, "snapshots that share an L1 table");
}

#[test]
fn extra_data_of_snapshots_is_not_kept_in_memory() {
    let (cluster, count) = (1 << 16, 60_000);
    let mut image = header(16, 6, (2, cluster * 3), cluster, (count, cluster * 5));
    put(&mut image, cluster, [cluster * 2].into_iter());
    put(&mut image, cluster * 5, [].into_iter());
    put_snapshots(&mut image, count, (0, 0), 1024);
    // As if there were no extra data.
    bounded(&image, 0, u64::from(count) * 72, "snapshots with much extra data");
    // It writes them again.
    repaired(&image, u64::from(count) * 1100, "snapshots with much extra data");
}
