//! A few bytes that ask for much work: tables in holes, tables over each other, tables that
//! everything points to.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use crate::support::oracle::{IMAGE, Scratch};

/// The most memory any check here may write to: the L1 tables of these images are large.
const MEMORY_KIB: u64 = 512 << 10;
/// The longest any check here may take.
const PATIENCE: Duration = Duration::from_secs(20);
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

/// Checks the image, stretched to a length, in bounded time and memory.
fn bounded(bytes: &[u8], length: u64, what: &str) {
    let image = Scratch::with_image(bytes);
    let file = OpenOptions::new().write(true).open(image.image()).expect("the image opens");
    file.set_len(length.max(bytes.len() as u64)).expect("the file system takes a sparse file");
    let start = Instant::now();
    let ran = image.qcheck_within(MEMORY_KIB, &["check", IMAGE]);
    assert!(ran.is_orderly(), "{what}: {ran:#?}");
    assert_eq!(ran.code, Some(2), "{what}: {ran:#?}");
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
}

#[test]
fn half_a_million_l2_tables_in_holes_are_not_read() {
    let cluster = 1 << 21;
    let entries = 1 << 19;
    let mut image = header(21, 4, (entries, cluster), cluster * 20, (0, 0));
    put(&mut image, cluster, (0..u64::from(entries)).map(|n| ((100 + n) * cluster) | COPIED));
    bounded(&image, 1 << 42, "tables in holes");
}

#[test]
fn l2_tables_over_each_other_are_read_up_to_a_bound() {
    let cluster = 1 << 21;
    let entries = 1 << 17;
    let mut image = header(21, 4, (entries, cluster), cluster * 2, (0, 0));
    let offset = |n: u64| (cluster * 3 + n * 512) | COPIED;
    put(&mut image, cluster, (0..u64::from(entries)).map(offset));
    image.resize(usize::try_from(cluster * 8).expect("it fits"), 0x5a);
    bounded(&image, 0, "tables over each other");
}

#[test]
fn one_damaged_table_that_every_l1_entry_points_to_is_told_of_in_bounded_memory() {
    let cluster = 1 << 16;
    let entries = 1 << 20;
    let mut image = header(16, 4, (entries, cluster), 0x1_0000_0000, (0, 0));
    put(&mut image, cluster, (0..entries).map(|_| (cluster * 200) | COPIED));
    put(&mut image, cluster * 200, (0..8192).map(|n| n | 0x1ff));
    bounded(&image, 0, "a table for all");
}

#[test]
fn snapshots_with_l1_tables_over_each_other_in_holes_are_checked_soon() {
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
    bounded(&image, 1 << 42, "snapshots in holes");
}
