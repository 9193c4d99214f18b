//! Compressed extents that overlap each other.

use qcheck::check::{CheckOptions, Kind, check};
use qcheck::progress::Silent;
use qcheck::storage::MemoryStorage;

use crate::support::images::builder::Builder;
use crate::support::images::bytes::{COMPRESSED, header, poke};

const CLUSTER: u64 = 1 << 16;
const ENTRIES: u64 = CLUSTER / 8;

/// An image of this many L2 tables, all of whose entries are this one; and where the tables begin.
fn image(tables: u64, entry: u64) -> (Vec<u8>, u64) {
    let mut image = Builder::new(tables * ENTRIES * CLUSTER).cluster_bits(16).build().bytes;
    let first = image.len() as u64;
    image.resize((first + tables * CLUSTER) as usize, 0);
    let l1 = header(&image, "l1_table_offset");
    for table in 0..tables {
        poke(&mut image, (l1 + 8 * table) as usize, 8, first + table * CLUSTER);
    }
    for at in (first as usize..image.len()).step_by(8) {
        poke(&mut image, at, 8, entry);
    }
    (image, first)
}

/// A compressed entry of so many sectors.
fn compressed(at: u64, sectors: u64) -> u64 {
    COMPRESSED | ((sectors - 1) << 54) | at
}

fn overlaps(image: Vec<u8>) -> Vec<u64> {
    let report =
        check(&MemoryStorage::new(image), &CheckOptions::default(), &Silent).expect("a verdict");
    let at = |kind: &Kind| match kind {
        Kind::CompressedOverlap { offset, .. } => Some(offset.get()),
        _ => None,
    };
    report.findings.iter().filter_map(|f| at(&f.kind)).collect()
}

#[test]
fn an_extent_inside_one_that_begins_long_before_is_found() {
    let (mut image, table) = image(1, 0);
    let data = image.len() as u64;
    image.resize((data + CLUSTER) as usize, 0);
    for (n, (at, sectors)) in [(0, 20), (1024, 1), (4096, 1), (10240, 4)].into_iter().enumerate() {
        poke(&mut image, table as usize + 8 * n, 8, compressed(data + at, sectors));
    }
    assert_eq!(overlaps(image), [data + 1024, data + 4096]);
}

#[test]
fn overlaps_are_found_after_any_number_of_extents() {
    let tables = (1 << 22) / ENTRIES + 8;
    let (mut image, table) = image(tables, 0);
    let data = image.len() as u64;
    for at in (table as usize..image.len()).step_by(8) {
        poke(&mut image, at, 8, compressed(data, 1));
    }
    image.resize((data + 4 * CLUSTER) as usize, 0);
    let last = data as usize - 24;
    let far = data + 3 * CLUSTER;
    poke(&mut image, last, 8, compressed(far - 512, 3)); // across the border of two clusters
    poke(&mut image, last + 8, 8, compressed(far, 1));
    poke(&mut image, last + 16, 8, compressed(far + 512, 1));
    assert_eq!(overlaps(image), [far, far + 512]);
}
