//! Clusters at two guest positions: of the active disk, of a snapshot, of both.

use qcheck::check::{CheckOptions, CheckReport, Kind, Place, check};
use qcheck::progress::Silent;
use qcheck::storage::MemoryStorage;

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{
    COPIED, OFFSET_MASK, be64, cluster_size, l2_entry_at, l2_entry_through, poke, refcount,
    set_refcount, snapshot_entries,
};

fn report(bytes: &[u8]) -> CheckReport {
    check(&MemoryStorage::new(bytes.to_vec()), &CheckOptions::default(), &Silent)
        .expect("a verdict")
}

/// The clusters that are reported as shared.
fn shared(report: &CheckReport) -> Vec<(u64, u64)> {
    let shared = report.findings.iter().filter(|f| f.kind == Kind::SharedData);
    shared
        .map(|f| match f.place {
            Place::Clusters(first, count) => (first.get(), count.get()),
            place => panic!("{place:?}"),
        })
        .collect()
}

/// The offset of the entry of the snapshot of this number that maps a guest cluster.
fn snapshot_entry(image: &[u8], snapshot: usize, guest: u64) -> usize {
    let l1 = be64(image, snapshot_entries(image)[snapshot]);
    l2_entry_through(image, l1, guest * cluster_size(image)).expect("a table")
}

/// Makes the entry at `at` lead where the one at `to` leads; counts follow and nothing has COPIED.
fn redirect(image: &mut [u8], at: usize, to: usize) -> u64 {
    let cluster = |entry: u64| (entry & OFFSET_MASK) >> 12;
    let (old, new) = (be64(image, at), be64(image, to) & !COPIED);
    poke(image, at, 8, new);
    poke(image, to, 8, new);
    set_refcount(image, cluster(old), refcount(image, cluster(old)) - 1);
    set_refcount(image, cluster(new), refcount(image, cluster(new)) + 1);
    cluster(new)
}

fn image() -> Vec<u8> {
    let own = [(0, Content::Data(0x66)), (1, Content::Data(0x68)), (20, Content::Data(0x67))];
    let builder = Builder::new(4 << 20).data(0..3, 0x11).snapshot(Snapshot::own("one", &own));
    builder.snapshot(Snapshot::own("two", &own)).build().bytes
}

#[test]
fn two_positions_of_one_snapshot_that_share_a_cluster_are_a_notice() {
    let mut image = image();
    assert!(shared(&report(&image)).is_empty());
    let (at, to) = (snapshot_entry(&image, 0, 20), snapshot_entry(&image, 0, 0));
    let cluster = redirect(&mut image, at, to);
    let report = report(&image);
    assert_eq!(shared(&report), [(cluster, 1)]);
    assert!(report.tally.is_clean(), "{:?}", report.findings);
    assert_eq!(report.tally.notices, 1);
}

#[test]
fn different_positions_of_two_snapshots_that_share_a_cluster_are_a_notice() {
    let mut image = image();
    let (at, to) = (snapshot_entry(&image, 1, 20), snapshot_entry(&image, 0, 1));
    let cluster = redirect(&mut image, at, to);
    assert_eq!(shared(&report(&image)), [(cluster, 1)]);
}

#[test]
fn different_positions_of_the_disk_and_a_snapshot_that_share_a_cluster_are_a_notice() {
    let mut image = image();
    let (at, to) = (snapshot_entry(&image, 0, 20), l2_entry_at(&image, 4096));
    let cluster = redirect(&mut image, at, to);
    assert_eq!(shared(&report(&image)), [(cluster, 1)]);
}

#[test]
fn the_same_position_of_the_disk_and_of_snapshots_may_share_a_cluster() {
    let mut image = image();
    for (at, to) in [
        (snapshot_entry(&image, 0, 1), l2_entry_at(&image, 4096)),
        (snapshot_entry(&image, 1, 20), snapshot_entry(&image, 0, 20)),
        (snapshot_entry(&image, 1, 0), l2_entry_at(&image, 0)),
    ] {
        redirect(&mut image, at, to);
    }
    let report = report(&image);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
