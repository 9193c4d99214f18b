//! A few bytes that ask for much work when all data is read: one extent for all entries, extents over each other.

use std::time::{Duration, Instant};

use crate::support::images::builder::Builder;
use crate::support::images::bytes::{COMPRESSED, COPIED, header, poke};
use crate::support::programs::oracle::{IMAGE, Scratch};

/// The most memory that any check here may write to.
const MEMORY_KIB: u64 = 512 << 10;
/// The longest any check here may take.
const PATIENCE: Duration = Duration::from_secs(15);
const CLUSTER_BITS: u32 = 21;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const ENTRIES: u64 = CLUSTER / 8;
const TABLES: u64 = 4;

/// An image of `TABLES` L2 tables, and four clusters that begin with `data` after them. `entry` makes the entries from
/// the offset of the data and their number.
fn image(data: &[u8], entry: impl Fn(u64, u64) -> u64) -> Vec<u8> {
    fill(Builder::new(TABLES * ENTRIES * CLUSTER), data, entry)
}

fn fill(builder: Builder, data: &[u8], entry: impl Fn(u64, u64) -> u64) -> Vec<u8> {
    let (tables, mut image) = (TABLES, builder.cluster_bits(CLUSTER_BITS).build().bytes);
    let first = image.len() as u64;
    let at = first + tables * CLUSTER;
    image.resize(at as usize, 0);
    let l1 = header(&image, "l1_table_offset");
    for table in 0..tables {
        poke(&mut image, (l1 + 8 * table) as usize, 8, first + table * CLUSTER);
    }
    for number in 0..tables * ENTRIES {
        poke(&mut image, (first + number * 8) as usize, 8, entry(at, number));
    }
    image.extend(data);
    image.resize((at + 4 * CLUSTER) as usize, 0);
    image
}

/// A descriptor of so many sectors.
fn compressed(at: u64, sectors: u64) -> u64 {
    COMPRESSED | ((sectors - 1) << (62 - (CLUSTER_BITS - 8))) | at
}

/// A raw deflate stream of so many zeroes: a thousandth of their length.
fn bomb(bytes: u64) -> Vec<u8> {
    let mut compressor = qcheck::codec::Compressor::new(qcheck::codec::Method::Zlib);
    let mut out = Vec::new();
    compressor.compress(&vec![0; bytes as usize], &mut out).expect("zeroes get smaller");
    out
}

fn bounded(image: &[u8], args: &[&str]) -> String {
    let image = Scratch::with_image(image);
    image.write("data.raw", &[7; 4096]);
    let start = Instant::now();
    let args = [&["check"], args, &[IMAGE]].concat();
    let ran = image.qcheck_within(MEMORY_KIB, &args);
    assert!(ran.is_orderly(), "{ran:#?}");
    assert_eq!(ran.code, 2, "{:.1000}", ran.err);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    ran.err
}

#[test]
fn an_extent_with_a_million_references_is_decompressed_once() {
    // Two tebibytes of zeroes, were each reference decompressed.
    let bytes = image(&bomb(CLUSTER), |at, _| compressed(at, 16));
    let told = bounded(&bytes, &["--data"]);
    assert!(!told.contains("compressed data"), "{told:.1000}");
}

#[test]
fn a_damaged_extent_with_a_million_references_is_reported_in_bounded_memory() {
    let bytes = image(&[0xff; 4096], |at, _| compressed(at, 8));
    let told = bounded(&bytes, &["--data"]);
    assert!(told.contains("more: compressed-data"), "{told:.1000}");
}

#[test]
fn a_million_extents_over_each_other_are_decompressed_up_to_a_bound() {
    let mut bombs = Vec::new();
    let one = bomb(CLUSTER);
    while bombs.len() < (CLUSTER as usize) {
        bombs.extend(&one);
    }
    bombs.truncate(CLUSTER as usize);
    bounded(&bombs_image(&bombs), &["--data"]);
}

fn bombs_image(bombs: &[u8]) -> Vec<u8> {
    image(bombs, |at, number| compressed(at + number, 4096))
}

#[test]
fn data_at_any_offset_of_the_external_data_file_takes_no_memory() {
    let builder = || Builder::new(TABLES * ENTRIES * CLUSTER).data_file("data.raw", false);
    let bytes = fill(builder(), &[], |_, number| number << CLUSTER_BITS | COPIED);
    let told = bounded(&bytes, &["--data", "--max-findings", "0"]);
    assert!(told.contains("is past the end of the external data file"), "{told:.1000}");
    let bytes = fill(builder(), &[], |_, number| (number << 35) & 0x00ff_ffff_ffe0_0000 | COPIED);
    let told = bounded(&bytes, &["--data"]);
    assert!(told.contains("in the external data file is not the guest's"), "{told:.1000}");
}
