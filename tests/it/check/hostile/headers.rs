//! Whatever the bytes are, a check ends soon, in order, in little memory, and writes nothing.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::support::damages::damage::bases;
use crate::support::images::builder::Builder;
use crate::support::images::bytes::{self, COPIED, HEADER, poke};
use crate::support::programs::oracle::{IMAGE, Scratch};
use crate::support::programs::run::Ran;
use crate::support::rng::Rng;

/// The most memory any check here may write to.
const MEMORY_KIB: u64 = 64 << 10;
/// The longest any check here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs qcheck in little memory and against the clock; it must end in order.
fn bounded(image: &Scratch, args: &[&str], what: &str) -> Ran {
    let start = Instant::now();
    let ran = image.qcheck_within(MEMORY_KIB, args);
    assert!(ran.is_orderly(), "{what}: {args:?} did not end in order: {ran:#?}");
    assert!(start.elapsed() < PATIENCE, "{what}: {args:?} took {:?}", start.elapsed());
    ran
}

/// Checks an image of these bytes, which stay as they are.
fn survives(bytes: &[u8], what: &str) {
    let image = Scratch::with_image(bytes);
    bounded(&image, &["check", "-f", "qcow2", IMAGE], what);
    assert!(image.bytes() == bytes, "{what}: a check changed the image");
}

/// 512-byte clusters, 64-bit counts and 4 KiB of data.
fn finest() -> Builder {
    Builder::new(1 << 20).cluster_bits(9).refcount_order(6).data(0..8, 0x11)
}

/// Makes the file this long without writing to it.
fn stretch(image: &Scratch, length: u64) -> File {
    let file = OpenOptions::new().write(true).open(image.image()).expect("the image opens");
    file.set_len(length).expect("the file system takes a sparse file");
    file
}

#[test]
fn memory_for_a_sparse_64_gib_file_follows_what_is_referenced() {
    let image = Scratch::with_image(&finest().build().bytes);
    stretch(&image, 64 << 30);
    let ran = bounded(&image, &["check", IMAGE], "64 GiB of holes");
    assert_eq!(ran.code, 0, "{ran:#?}");
}

#[test]
fn memory_does_not_follow_a_reference_to_the_end_of_a_sparse_64_gib_file() {
    let mut bytes = finest().build().bytes;
    let entry = bytes::l2_entry_at(&bytes, 20 * 512);
    let last = (64 << 30) - 512;
    poke(&mut bytes, entry, 8, last | COPIED);
    let image = Scratch::with_image(&bytes);
    stretch(&image, 64 << 30);
    let ran = bounded(&image, &["check", IMAGE], "a reference to the end");
    assert_eq!(ran.code, 2, "{ran:#?}");
    let line = format!("ERROR cluster {} refcount=0 reference=1", last / 512);
    assert!(ran.finding_lines().contains(&line.as_str()), "{ran:#?}");
}

#[test]
fn a_disk_of_64_gib_with_nothing_in_it_is_checked_in_little_memory() {
    let image = Scratch::with_built(&Builder { size: 64 << 30, ..finest() }.build());
    let ran = bounded(&image, &["check", IMAGE], "a 16 MiB L1 table");
    assert_eq!(ran.code, 0, "{ran:#?}");
}

#[test]
fn the_longest_file_the_file_system_takes_is_checked_at_once() {
    let image = Scratch::with_image(&finest().build().bytes);
    let file = OpenOptions::new().write(true).open(image.image()).expect("the image opens");
    let longest = (36..63)
        .rev()
        .flat_map(|bits| [(1 << bits) + (1 << (bits - 1)), 1u64 << bits])
        .find(|length| file.set_len(*length).is_ok())
        .expect("the file system takes 64 GiB of nothing");
    println!("the longest sparse file here has {longest} bytes");
    let ran = bounded(&image, &["check", IMAGE], "the longest file");
    assert!(matches!(ran.code, 0 | 1), "{ran:#?}");
    let blocks = fs::metadata(image.image()).expect("the image is there").blocks();
    assert!(blocks * 512 < 1 << 20, "the check filled holes: {blocks} blocks");
    drop(file);
}

#[test]
fn the_largest_count_is_a_leak_like_any_other() {
    let mut bytes = finest().build().bytes;
    bytes::set_refcount(&mut bytes, 62, u64::MAX);
    let image = Scratch::with_image(&bytes);
    stretch(&image, 64 << 10);
    let ran = bounded(&image, &["check", IMAGE], "the largest count");
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert_eq!(
        ran.finding_lines(),
        [format!("Leaked cluster 62 refcount={} reference=0", u64::MAX)]
    );
}

#[test]
fn half_a_million_leaks_in_one_block_are_listed_in_little_memory() {
    let builder = Builder::new(1 << 20).cluster_bits(16).refcount_order(0).data(0..2, 0x11);
    let mut bytes = builder.build().bytes;
    let used = bytes.len() >> 16;
    let block = bytes::refblock_at(&bytes, 0);
    bytes[block..block + (1 << 16)].fill(0xff);
    let image = Scratch::with_image(&bytes);
    stretch(&image, 32 << 30);
    let ran = bounded(&image, &["check", "--max-findings", "0", IMAGE], "the leaks");
    assert_eq!(ran.code, 3);
    let summary = format!("{} leaked clusters were found", (8 << 16) - used);
    assert!(ran.out.contains(&summary), "{}", ran.out);
    assert_eq!(ran.finding_lines().len(), (8 << 16) - used);
}

#[test]
fn every_pair_of_header_fields_at_their_maximum_is_survived() {
    for version in [2, 3] {
        let whole = Builder::new(1 << 20).version(version).data(0..8, 0x11).build().bytes;
        for (i, first) in HEADER.iter().enumerate() {
            for second in &HEADER[i..] {
                let mut bytes = whole.clone();
                for field in [first, second] {
                    bytes[field.at..field.at + field.width].fill(0xff);
                }
                survives(&bytes, &format!("{} and {} of v{version}", first.name, second.name));
            }
        }
    }
}

#[test]
fn random_bytes_are_survived() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let len = rng.below(20_000) as usize;
        survives(&rng.bytes(len), &format!("random bytes, seed {seed}"));
    }
}

#[test]
fn random_bytes_under_a_plausible_header_are_survived() {
    for seed in 0..600 {
        let mut rng = Rng::new(1_000_000 + seed);
        let mut bytes = rng.bytes(40_000);
        let whole = Builder::new(1 << 20).data(0..4, 1).build().bytes;
        bytes[..104].copy_from_slice(&whole[..104]);
        for (name, below) in
            [("l1_table_offset", 9), ("refcount_table_offset", 9), ("snapshots_offset", 9)]
        {
            bytes::set_header(&mut bytes, name, rng.below(below) * 4096);
        }
        bytes::set_header(&mut bytes, "nb_snapshots", rng.below(4));
        survives(&bytes, &format!("random tables, seed {seed}"));
    }
}

/// An image with up to 16 bytes changed, most of them in entries rather than in data.
fn mutated(seed: u64) -> (Vec<u8>, String) {
    let mut rng = Rng::new(2_000_000 + seed);
    let bases = bases();
    let base = &bases[rng.below(bases.len() as u64) as usize];
    let mut bytes = base.bytes.clone();
    for _ in 0..=rng.below(16) {
        let at = loop {
            let at = rng.below(bytes.len() as u64) as usize;
            if bytes[at] != 0x11 || rng.below(50) == 0 {
                break at;
            }
        };
        // Mostly where something is; a random place is mostly zeroes.
        let near = (at..bytes.len()).find(|i| bytes[*i] != 0).unwrap_or(at);
        bytes[near] = match rng.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[near] ^ (1 << rng.below(8)),
            _ => rng.next() as u8,
        };
    }
    (bytes, format!("{}, seed {seed}", base.name))
}

#[test]
fn mutated_images_are_survived() {
    for seed in 0..2000 {
        let (bytes, what) = mutated(seed);
        survives(&bytes, &what);
    }
}

#[test]
fn mutated_images_are_survived_when_all_their_data_is_read() {
    let args = ["--data", "--digest", "blake3", "--max-virtual-size", "64M"];
    let args = [&["check", "-f", "qcow2"], &args[..], &[IMAGE]].concat();
    for seed in 10_000..10_600 {
        let (bytes, what) = mutated(seed);
        let image = Scratch::with_image(&bytes);
        bounded(&image, &args, &what);
        assert!(image.bytes() == bytes, "{what}: a check changed the image");
    }
}

#[test]
fn repairs_of_mutated_images_end_in_order_and_do_not_grow_them_without_bound() {
    for seed in 5000..5600 {
        let (bytes, what) = mutated(seed);
        let image = Scratch::with_image(&bytes);
        let ran = bounded(&image, &["check", "-f", "qcow2", "-r", "all", IMAGE], &what);
        let length = fs::metadata(image.image()).expect("the image is there").len();
        assert!(length <= bytes.len() as u64 + (1 << 20), "{what}: grown to {length}, {ran:#?}");
        let again = bounded(&image, &["check", "-f", "qcow2", IMAGE], &what);
        assert_eq!(ran.code == 0, again.code == 0, "{what}: {ran:#?} then {again:#?}");
    }
}
