//! What a repair leaves alone, and the order in which it gives things up.

use qcheck::check::{CheckOptions, Tally, check};
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::support::damages::broken::{Broken, SPARE, Sound, bases, damages};
use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{
    COPIED, be32, cluster_size, header, l2_entry_at, peek, poke, set_header, snapshot_entries,
};
use crate::support::images::reader::Reader;
use crate::support::storages::crash::{Op, WriteLog};

const MODES: [RepairMode; 2] = [RepairMode::Leaks, RepairMode::All];
/// QEMU's limit on a snapshot's extra data.
const MOST_EXTRA: usize = 1024;

fn options() -> CheckOptions {
    CheckOptions::default().threads(1)
}

fn tally(bytes: &[u8]) -> Tally {
    check(&MemoryStorage::new(bytes.to_vec()), &options(), &Silent).expect("a verdict").tally
}

/// Repairs an image; everything that was written, and the result.
fn repaired(bytes: &[u8], mode: RepairMode) -> (Vec<Op>, Vec<u8>) {
    let log = WriteLog::new(bytes.to_vec());
    repair(&log, mode, &options(), &Silent).expect("a file can grow");
    (log.ops(), log.image())
}

/// Every damage of every base in both modes.
fn for_all(rule: impl Fn(&Broken, RepairMode) -> Option<String>) {
    let mut wrong = Vec::new();
    for broken in bases().iter().flat_map(damages) {
        for mode in MODES {
            wrong.extend(
                rule(&broken, mode).map(|why| format!("[{}] {mode:?}: {why}", broken.name)),
            );
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// An image with something in every place that the specification leaves to others.
fn decorated() -> Sound {
    let tail = (0..40).map(|n| 0x80 | n).collect();
    let first = Snapshot { extra: tail, ..Snapshot::shared("first") };
    let own = Snapshot::own("second", &[(0, Content::Data(0x66))]);
    let mut builder = Builder::new(160 << 10)
        .cluster_bits(10)
        .data(0..11, 0x11)
        .at(12, Content::ZeroOver(0x22))
        .at(64, Content::Data(0x33))
        .at(150, Content::Data(0x34))
        .extension(0x1234_5678, b"an unknown kind")
        .feature_names()
        .extension(0x8765_4321, &[0xff; 9])
        .snapshot(first)
        .snapshot(Snapshot { extra: vec![0xa5; 33], ..own });
    builder.compatible = 0x4000_0000_0000_0101;
    let mut bytes = builder.build().bytes;
    // A header of 136 bytes: the extensions move, and 24 bytes mean something to somebody else.
    let extensions = bytes[104..104 + 500].to_vec();
    bytes[136..636].copy_from_slice(&extensions);
    bytes[104..112].fill(0);
    bytes[112..136].fill(0xc7);
    set_header(&mut bytes, "header_length", 136);
    bytes[700..1000].fill(0x99); // after the end of the extensions
    let spare = (SPARE * 1024) as usize;
    bytes.resize(bytes.len() + spare, 0xee);
    Sound { name: "decorated", bytes }
}

/// Extra data and names of every snapshot.
fn snapshots(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let entry = |at: usize| {
        let names = at + 40 + be32(bytes, at + 36) as usize;
        let end = names + (peek(bytes, at + 12, 2) + peek(bytes, at + 14, 2)) as usize;
        (bytes[at..at + 36].to_vec(), bytes[at + 40..names].to_vec(), bytes[names..end].to_vec())
    };
    snapshot_entries(bytes).into_iter().map(entry).collect()
}

#[test]
fn unknown_parts_of_the_header_and_of_snapshots_survive_every_repair() {
    let base: &Sound = Box::leak(Box::new(decorated()));
    assert!(tally(&base.bytes).is_clean());
    let all = damages(base);
    assert!(all.len() > 25, "{}", all.len());
    for broken in all {
        for mode in MODES {
            let (_, after) = repaired(&broken.bytes, mode);
            let name = format!("[{}] {mode:?}", broken.name);
            // All but the refcount table, the snapshot table, and the feature bits that a repair is about.
            for range in [0..48, 80..88, 96..1024] {
                assert_eq!(after[range.clone()], broken.bytes[range.clone()], "{name}: {range:?}");
            }
            let (old, new) = (snapshots(&broken.bytes), snapshots(&after));
            assert_eq!(old.len(), new.len(), "{name}");
            for (old, new) in old.iter().zip(&new) {
                // A second snapshot of one id gets another.
                let id = usize::from(broken.name.ends_with("id twice"));
                assert_eq!((&old.0, &old.2[id..]), (&new.0, &new.2[id..]), "{name}");
                if old.1.len() >= 16 {
                    let kept = if mode == RepairMode::All { MOST_EXTRA } else { usize::MAX };
                    assert_eq!(old.1[..old.1.len().min(kept)], new.1, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_second_repair_writes_nothing() {
    for_all(|broken, mode| {
        let log = WriteLog::new(broken.bytes.clone());
        let outcome = repair(&log, mode, &options(), &Silent).expect("a file can grow");
        let once = log.image();
        // What was held is waste like any other once no sign of damage is left.
        let only_leaks = tally(&once).corruptions == 0;
        if outcome.held > 0 && only_leaks {
            return None;
        }
        let (ops, twice) = repaired(&once, mode);
        if twice != once {
            return Some("it changes the image again".into());
        }
        ops.iter().any(|op| *op != Op::Sync).then(|| format!("it writes again: {ops:x?}"))
    });
}

#[test]
fn a_check_writes_nothing() {
    for_all(|broken, _| {
        let log = WriteLog::new(broken.bytes.clone());
        check(&log, &options(), &Silent).expect("a verdict");
        (!log.ops().is_empty()).then(|| format!("{:x?}", log.ops()))
    });
}

#[test]
fn clusters_are_punched_out_after_all_else_is_on_disk_and_only_where_the_end_is_clean() {
    let punched = std::cell::Cell::new(0);
    for_all(|broken, mode| {
        let (ops, after) = repaired(&broken.bytes, mode);
        let discard = |op: &Op| matches!(op, Op::Discard { .. });
        let first = ops.iter().position(discard)?;
        punched.set(punched.get() + 1);
        if !tally(&after).is_clean() {
            return Some("it gives clusters back though the end is not clean".into());
        }
        if !ops[first..].iter().all(discard) || ops[..first].last() != Some(&Op::Sync) {
            return Some(format!("it gives clusters back before all is on disk: {ops:x?}"));
        }
        let references = Reader::new(&after).references();
        let cluster = cluster_size(&after);
        let used = ops[first..].iter().find_map(|op| match op {
            Op::Discard { offset, length } => (offset / cluster
                ..(offset + length).div_ceil(cluster))
                .find(|number| references.contains_key(number)),
            _ => None,
        });
        used.map(|number| format!("it gives back cluster {number}, which is in use"))
    });
    assert!(punched.get() > 30, "{}", punched.get());
}

#[test]
fn dirty_and_corrupt_are_cleared_last_and_only_where_no_error_is_left() {
    let cleared = std::cell::Cell::new(0);
    for_all(|broken, mode| {
        let mut bytes = broken.bytes.clone();
        if header(&bytes, "version") < 3 {
            return None;
        }
        let bits = header(&bytes, "incompatible_features") | 3;
        set_header(&mut bytes, "incompatible_features", bits);
        let log = WriteLog::new(bytes);
        let outcome = repair(&log, mode, &options(), &Silent).expect("a file can grow");
        let (ops, after) = (log.ops(), log.image());
        let left = header(&after, "incompatible_features") & 3;
        // A repair has evidence about cross-links that no check of its result can see.
        let sound = outcome.after.unwrap_or(outcome.before).tally.corruptions == 0;
        if (left == 0) != sound || (left != 0 && left != 3) {
            return Some(format!("bits {left} where the valid one is {sound}"));
        }
        let writes = ops.iter().filter(|op| matches!(op, Op::Write { .. }));
        let about = |op: &Op| matches!(op, Op::Write { offset: 72, .. });
        cleared.set(cleared.get() + usize::from(sound));
        let last_only = writes.clone().rev().skip(1).all(|op| !about(op));
        (!last_only).then(|| format!("the bits are not the last write: {ops:x?}"))
    });
    assert!(cleared.get() > 100, "{}", cleared.get());
}

#[test]
fn a_cross_link_in_an_image_of_one_bit_counts_loses_no_data() {
    let base = bases().iter().find(|base| base.name == "v3 512 1-bit").expect("a base");
    let guest = 5;
    let size = cluster_size(&base.bytes);
    let at = l2_entry_at(&base.bytes, guest * size);
    let references = Reader::new(&base.bytes).references();
    for cluster in 1..Reader::new(&base.bytes).clusters() {
        let mut bytes = base.bytes.clone();
        poke(&mut bytes, at, 8, (cluster * size) | COPIED);
        for mode in MODES {
            let (_, after) = repaired(&bytes, mode);
            let views = [&bytes, &after].map(|bytes| Reader::new(bytes).views().to_vec());
            let views = views[0].iter().cloned().zip(views[1].iter().cloned());
            for (disk, (mut old, mut new)) in views.enumerate() {
                // Where the cluster is metadata the guest sees what the repair writes there.
                if disk == 0 {
                    (old[guest as usize], new[guest as usize]) = (None, None);
                }
                assert!(old == new, "cluster {cluster}, {mode:?}: disk {disk} has changed");
            }
            let shared = references.contains_key(&cluster);
            let owner = Reader::new(&after).counts(cluster + 1)[cluster as usize];
            assert!(!shared || owner == 1, "cluster {cluster}, {mode:?}: its refcount is {owner}");
        }
    }
}

#[test]
fn a_snapshot_table_that_is_cut_short_keeps_its_snapshots_in_a_repair_of_another_entry() {
    let large = Snapshot { extra: vec![0x5e; 1100], ..Snapshot::shared("large") };
    let builder = Builder::new(160 << 10).cluster_bits(10).data(0..11, 0x11).snapshot(large);
    let mut bytes = builder.snapshot(Snapshot::shared("cut")).build().bytes;
    let second = snapshot_entries(&bytes)[1];
    poke(&mut bytes, second + 36, 4, 0x10_0000);
    let (_, after) = repaired(&bytes, RepairMode::All);
    assert_eq!(header(&after, "nb_snapshots"), 2);
    assert_eq!(header(&after, "snapshots_offset"), header(&bytes, "snapshots_offset"));
    assert_eq!(after[second..second + 60], bytes[second..second + 60]);
}

#[test]
fn what_is_reported_as_repaired_is_found_no_more() {
    for_all(|broken, mode| {
        let image = MemoryStorage::new(broken.bytes.clone());
        let outcome = repair(&image, mode, &options(), &Silent).ok()?;
        let after = check(&image, &options(), &Silent).ok()?;
        let comparison = outcome.comparison();
        let repaired = comparison.repaired();
        let still = repaired.iter().find(|finding| after.findings.contains(finding))?;
        Some(format!("still there: {still:?}"))
    });
}

/// Where something else is in a table its flags wait until that has gone elsewhere.
#[test]
fn flags_in_a_disputed_table_are_reported_when_they_are_corrected() {
    let sound = Builder::new(64 << 9).cluster_bits(9).data(0..8, 0x11).build().bytes;
    let entry = |guest: u64| l2_entry_at(&sound, guest << 9);
    let mut bytes = sound.clone();
    poke(&mut bytes, entry(9), 8, (entry(0) as u64 & !511) | COPIED);
    poke(&mut bytes, entry(3), 8, peek(&sound, entry(3), 8) & !COPIED);
    let image = MemoryStorage::new(bytes);
    let outcome = repair(&image, RepairMode::All, &options(), &Silent).expect("a file can grow");
    assert!(tally(&image.to_vec()).is_clean());
    let comparison = outcome.comparison();
    let repaired = comparison.repaired();
    let flags = repaired.iter().filter(|finding| finding.code() == "copied-data");
    assert!(flags.count() >= 1, "{repaired:?}");
}
