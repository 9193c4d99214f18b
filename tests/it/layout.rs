//! Where everything in an image file is: every byte once, whatever is damaged.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use qcheck::check::{CheckOptions, survey};
use qcheck::layout::{FileRun, GuestMap, GuestState, Layout, Role, Totals, fields};
use qcheck::progress::Silent;
use qcheck::storage::{MemoryStorage, ReadAt};

use crate::support::damages::damage::{bases, damages, scrambled};
use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{HEADER, be64, header, l2_entry_at, poke};
use crate::support::rng::Rng;

fn runs(bytes: &[u8]) -> Option<(Vec<FileRun>, Totals)> {
    let storage = MemoryStorage::new(bytes.to_vec());
    let survey = survey(&storage, &CheckOptions::default(), &Silent).ok()?;
    let layout = Layout::new(&storage, &survey);
    let mut runs = Vec::new();
    let mut bytes = 0;
    layout.for_each(|run| {
        bytes += layout.bytes_of(&run).1;
        runs.push(run);
    });
    assert_eq!(bytes, storage.len().unwrap());
    Some((runs, layout.totals()))
}

fn roles(bytes: &[u8]) -> Vec<(u64, u64, Role)> {
    let (runs, _) = runs(bytes).expect("it can be checked");
    runs.iter().map(|run| (run.first.get(), run.count.get(), run.role)).collect()
}

#[test]
fn every_byte_of_every_damaged_image_is_listed_once() {
    let (mut cases, mut told) = (0, 0);
    for base in bases() {
        for damaged in damages(base) {
            cases += 1;
            let Some((runs, totals)) = runs(&damaged.bytes) else { continue };
            told += 1;
            assert_eq!(totals.sum(), damaged.bytes.len() as u64, "{}", damaged.name);
            let mut at = 0;
            for run in &runs {
                assert_eq!(run.first.get(), at, "{}", damaged.name);
                at += run.count.get();
            }
            let alike = |pair: &[FileRun]| {
                (pair[0].role, pair[0].damaged, pair[0].hole)
                    == (pair[1].role, pair[1].damaged, pair[1].hole)
            };
            assert!(!runs.windows(2).any(alike), "{}: neighbours are one run", damaged.name);
        }
    }
    assert!(told > 1000 && told * 10 > cases * 9, "{told} of {cases}");
}

#[test]
fn every_byte_of_an_image_with_scrambled_numbers_is_listed_once() {
    let mut rng = Rng::new(7);
    for round in 0..1000 {
        let all = bases();
        let base = &all[rng.below(all.len() as u64) as usize];
        let bytes = scrambled(&base.bytes, &mut rng);
        if let Some((_, totals)) = runs(&bytes) {
            assert_eq!(totals.sum(), bytes.len() as u64, "{} in round {round}", base.name);
        }
    }
}

#[test]
fn each_cluster_has_the_role_that_the_image_gives_it() {
    let own = Snapshot::own("own", &[(0, Content::Data(0x66))]);
    let built = Builder::new(4 << 20)
        .data(0..3, 0x11)
        .at(9, Content::Compressed(0x33))
        .bitmap("day", 12, 0xf0)
        .snapshot(own)
        .build();
    let (_, totals) = runs(&built.bytes).unwrap();
    let cluster = |role| totals.bytes(role).div_ceil(4096);
    let one = [Role::Header, Role::Reftable, Role::SnapshotTable, Role::BitmapDirectory];
    for role in one {
        assert_eq!(cluster(role), 1, "{role:?}");
    }
    assert_eq!(cluster(Role::L1Table), 2);
    assert_eq!(cluster(Role::L2Table), 2);
    assert_eq!(cluster(Role::Data), 3);
    assert_eq!(cluster(Role::Compressed), 2, "it is stored, with a head");
    assert_eq!(cluster(Role::SnapshotData), 1);
    assert_eq!(cluster(Role::BitmapData), 1);
    assert_eq!(totals.damaged, 0);
}

#[test]
fn what_nothing_refers_to_any_more_is_leaked_or_lost() {
    let built = Builder::new(4 << 20).data(0..4, 0x11).build();
    let mut leaked = built.bytes.clone();
    let at = l2_entry_at(&leaked, 4096);
    poke(&mut leaked, at, 8, 0);
    assert_eq!(roles(&leaked).iter().filter(|(_, _, role)| *role == Role::Leaked).count(), 1);
    let mut lost = built.bytes;
    let l1 = header(&lost, "l1_table_offset") as usize;
    poke(&mut lost, l1, 8, 0);
    let (_, totals) = runs(&lost).unwrap();
    assert_eq!(totals.bytes(Role::Lost), 5 * 4096, "the table and its data");
    assert_eq!(totals.bytes(Role::Leaked), 0);
}

#[test]
fn the_clusters_that_an_error_is_about_are_marked() {
    let built = Builder::new(4 << 20).data(0..4, 0x11).build();
    let mut bytes = built.bytes;
    let at = l2_entry_at(&bytes, 0);
    // The table is what is wrong where an entry has reserved bits.
    poke(&mut bytes, at, 1, 0xbf);
    let (runs, totals) = runs(&bytes).unwrap();
    let damaged: Vec<u64> = runs.iter().filter(|r| r.damaged).map(|r| r.first.get()).collect();
    assert_eq!(damaged, [at as u64 / 4096]);
    assert_eq!(totals.damaged, 4096);
}

#[test]
fn the_fields_are_those_of_the_specification() {
    let built = Builder::new(4 << 20).data(0..4, 0x11).build();
    let storage = MemoryStorage::new(built.bytes.clone());
    let fields = fields(&storage).unwrap();
    for known in HEADER {
        let want = header(&built.bytes, known.name);
        let found = fields.iter().find(|field| field.offset == known.at as u64);
        let found = found.unwrap_or_else(|| panic!("no field at {}", known.at));
        assert_eq!((found.value, found.bytes), (want, known.width), "{}", known.name);
    }
}

fn guest_runs(bytes: Vec<u8>) -> Vec<(u64, u64, GuestState)> {
    let storage = MemoryStorage::new(bytes);
    let survey = survey(&storage, &CheckOptions::default(), &Silent).unwrap();
    let mut runs = Vec::new();
    let result: Result<(), ()> = GuestMap::new(&storage, &survey).try_for_each(|run| {
        runs.push((run.offset, run.bytes, run.state));
        Ok(())
    });
    result.unwrap();
    runs
}

#[test]
fn what_a_guest_cannot_read_is_listed_as_unknown() {
    let cluster = 1 << 14;
    let plain = Builder::new(8 * cluster).cluster_bits(14).data(0..2, 0x11);
    let parts = Content::Subclusters { allocated: 0xf, zero: 0xf0, byte: 0x22 };
    let extended = plain.clone().extended_l2().at(2, parts);
    let version_2 = plain.clone().version(2);
    let (data, none) = (GuestState::Data, GuestState::Unallocated);
    let l1 = |image: &[u8]| header(image, "l1_table_offset") as usize;
    let entry = |image: &[u8]| l2_entry_at(image, 0);
    let bitmap = |image: &[u8]| l2_entry_at(image, 0) + 8;
    type Place = fn(&[u8]) -> usize;
    let cases: [(Builder, Place, u64, u64, GuestState); 5] = [
        // An L2 table and a cluster out of place, a zero flag in version 2, both bits of a subcluster.
        (plain.clone(), l1, 512, 8, none),
        (plain.clone(), entry, 512, 1, data),
        (version_2, entry, 1, 1, data),
        (extended, bitmap, 1 << 32, 1, data),
        // Reserved bits do not matter.
        (plain, entry, 0x7e, 0, data),
    ];
    for (case, (builder, place, bits, unknown, next)) in cases.into_iter().enumerate() {
        let mut image = builder.build().bytes;
        let at = place(&image);
        let value = be64(&image, at) ^ bits;
        poke(&mut image, at, 8, value);
        let runs = guest_runs(image);
        let first = if unknown > 0 { runs[0] } else { (0, 0, GuestState::Unknown) };
        assert_eq!(first, (0, unknown * cluster, GuestState::Unknown), "{case}: {runs:?}");
        let behind = runs.iter().find(|run| run.0 == unknown * cluster);
        assert!(behind.is_none_or(|run| run.2 == next), "{case}: {runs:?}");
    }
}

#[test]
fn the_disk_is_listed_from_its_beginning_to_its_end() {
    let built = Builder::new((4 << 20) + 1000)
        .data(0..3, 0x11)
        .at(7, Content::Zero)
        .at(8, Content::ZeroOver(0x22))
        .at(9, Content::Compressed(0x33))
        .build();
    let runs = guest_runs(built.bytes);
    let cluster = 4096;
    // A guest sees whole sectors.
    let rest = (4 << 20) + 512 - 10 * cluster;
    assert_eq!(
        runs,
        [
            (0, 3 * cluster, GuestState::Data),
            (3 * cluster, 4 * cluster, GuestState::Unallocated),
            (7 * cluster, 2 * cluster, GuestState::Zero),
            (9 * cluster, cluster, GuestState::Compressed),
            (10 * cluster, rest, GuestState::Unallocated),
        ]
    );
}

/// Counts the bytes that are read.
struct Counting {
    storage: MemoryStorage,
    read: AtomicU64,
}

impl ReadAt for Counting {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.storage.read_at(offset, buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[test]
fn one_table_of_very_many_entries_is_not_read_without_end() {
    // 32,768 entries point to the only table, of 64 KiB: 2 GiB, if each was followed.
    let entries = 1 << 15;
    let mut bytes = Builder::new(64 << 20).cluster_bits(16).data(0..4, 0x11).build().bytes;
    let table = be64(&bytes, header(&bytes, "l1_table_offset") as usize);
    let l1 = bytes.len().next_multiple_of(65536);
    bytes.resize(l1 + entries * 8, 0);
    for entry in 0..entries {
        poke(&mut bytes, l1 + entry * 8, 8, table);
    }
    poke(&mut bytes, 24, 8, (entries as u64) << 29);
    poke(&mut bytes, 36, 4, entries as u64);
    poke(&mut bytes, 40, 8, l1 as u64);
    let most = bytes.len() as u64 + (64 << 20);
    let source = Counting { storage: MemoryStorage::new(bytes), read: AtomicU64::new(0) };
    let survey = survey(&source, &CheckOptions::default(), &Silent).unwrap();
    source.read.store(0, Ordering::Relaxed);
    let mut end = (0, GuestState::Data);
    let result: Result<(), ()> = GuestMap::new(&source, &survey).try_for_each(|run| {
        end = (run.offset + run.bytes, run.state);
        Ok(())
    });
    result.unwrap();
    assert_eq!(end, ((entries as u64) << 29, GuestState::Unknown), "the rest is not known");
    assert!(source.read.load(Ordering::Relaxed) <= most);
}
