//! L2 tables that no L1 entry points to: what goes back, and what only looks like one.

use qcheck::check::CheckOptions;
use qcheck::progress::Silent;
use qcheck::repair::{Reattach, RepairMode, Request, repair, repair_as_asked};
use qcheck::storage::MemoryStorage;

use crate::support::images::builder::{Builder, Content};
use crate::support::images::bytes::{COPIED, l1_entry_at, l2_entry_at, peek, poke, refcount};

const CLUSTER: u64 = 1 << 9;
/// Guest clusters below one L1 entry.
const PER_TABLE: u64 = CLUSTER / 8;

fn repaired(bytes: &[u8], mode: RepairMode) -> Vec<u8> {
    let image = MemoryStorage::new(bytes.to_vec());
    let options = CheckOptions::default().threads(1);
    repair(&image, mode, &options, &Silent).expect("a file can grow");
    image.to_vec()
}

/// The host offset of a guest cluster.
fn host(image: &[u8], guest: u64) -> u64 {
    peek(image, l2_entry_at(image, guest * CLUSTER), 8) & !COPIED
}

/// Two tables, the first of which is lost.
fn without_first_table(content: impl Fn(&mut Vec<u8>)) -> (Vec<u8>, Vec<u8>) {
    let mut sound = Builder::new(2 * PER_TABLE * CLUSTER)
        .cluster_bits(9)
        .data(0..8, 0x11)
        .at(PER_TABLE + 1, Content::Data(0x22))
        .build()
        .bytes;
    content(&mut sound);
    let mut lost = sound.clone();
    poke(&mut lost, l1_entry_at(&sound, 0), 8, 0);
    (sound, lost)
}

/// A repair of all that puts back each table which only one entry can have pointed to.
fn reattached(bytes: &[u8]) -> Vec<u8> {
    let image = MemoryStorage::new(bytes.to_vec());
    let request = Request { reattach: Reattach::Sole, ..Request::new(RepairMode::All) };
    repair_as_asked(&image, &request, &CheckOptions::default(), &Silent, &mut ())
        .expect("a repair");
    image.into_inner()
}

#[test]
fn the_only_lost_table_goes_back_into_the_only_free_entry_where_a_person_asks_for_it() {
    let (sound, lost) = without_first_table(|_| {});
    assert!(repaired(&lost, RepairMode::All) == lost, "an empty entry proves nothing");
    assert!(reattached(&lost) == sound);
}

/// A guest may keep a qcow2 image in its disk, whose tables point to clusters of this file too, by chance: guest
/// cluster 5 does so here. The others hold this byte.
fn with_a_table_as_data(leads_to: &[u64], others: u8) -> (Vec<u8>, Vec<u8>) {
    without_first_table(|image| {
        for guest in 0..8 {
            let data = host(image, guest) as usize;
            image[data..data + CLUSTER as usize].fill(if guest == 5 { 0 } else { others });
        }
        let table = host(image, 5) as usize;
        for (entry, &guest) in leads_to.iter().enumerate() {
            let at = host(image, guest) | COPIED;
            poke(image, table + 8 * entry, 8, at);
        }
    })
}

const LED_TO: [&[u64]; 3] = [&[0], &[0, 1, 2], &[1, 2, 3, 4, 6, 7]];

#[test]
fn guest_data_that_looks_like_a_table_is_data_of_the_table_that_maps_it() {
    for leads_to in LED_TO {
        let (sound, lost) = with_a_table_as_data(leads_to, 0x11);
        assert!(reattached(&lost) == sound, "with {leads_to:?}");
    }
}

/// With nothing but zeroes beside it, the table that maps it may be an L1 table of former times.
#[test]
fn where_nothing_distinguishes_the_table_from_its_data_neither_is_put_back() {
    for leads_to in LED_TO {
        let (_, lost) = with_a_table_as_data(leads_to, 0);
        assert!(reattached(&lost) == lost, "with {leads_to:?}");
    }
}

/// The disk ends within the second table's clusters, so that the first table can be only the first one.
#[test]
fn tables_that_claim_the_same_cluster_are_not_put_back() {
    let builder = Builder::new((PER_TABLE + 4) * CLUSTER).cluster_bits(9).data(0..40, 0x11);
    let sound = builder.at(PER_TABLE + 1, Content::Data(0x22)).build().bytes;
    let without_tables = |image: &[u8]| {
        let mut lost = image.to_vec();
        (0..2).for_each(|index| poke(&mut lost, l1_entry_at(image, index), 8, 0));
        lost
    };
    assert!(reattached(&without_tables(&sound)) == sound, "each has its place");
    let mut crossed = sound.clone();
    let entry = l2_entry_at(&sound, (PER_TABLE + 1) * CLUSTER);
    poke(&mut crossed, entry, 8, host(&sound, 3) | COPIED);
    let lost = without_tables(&crossed);
    let after = reattached(&lost);
    for index in 0..2 {
        assert_eq!(peek(&after, l1_entry_at(&lost, index), 8), 0, "one of them is damaged");
        let table = peek(&sound, l1_entry_at(&sound, index), 8) & !COPIED;
        assert_eq!(refcount(&after, table / CLUSTER), 1, "nothing of them is released");
    }
    assert!(reattached(&after) == after);
}
