//! What cannot be accounted for is held, and no guest position changes on a guess: one test for each kind of loss, on
//! images of real QEMU.

use std::path::Path;

use qcheck::check::CheckOptions;
use qcheck::progress::Silent;
use qcheck::repair::{RepairMode, repair};
use qcheck::storage::MemoryStorage;

use crate::support::images::bytes::{
    COPIED, OFFSET_MASK, be64, header, l1_entry_at, l2_entry_at, peek, poke, refblock_at,
    reftable_entry_at, set_header, set_refcount,
};
use crate::support::programs::oracle::{IMAGE, Scratch};
use crate::support::programs::run::{qemu_io, qemu_ok};

const CLUSTER: u64 = 4096;
/// Guest bytes below one L1 entry.
const SPAN: u64 = 2 << 20;

/// An image of qemu-img with these options, after these commands of qemu-io.
fn image(options: &str, size: &str, commands: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    let options = format!("cluster_size={CLUSTER}{options}");
    qemu_ok(
        scratch.path(),
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &options, IMAGE, size],
    );
    commands.iter().for_each(|command| qemu_io(scratch.path(), IMAGE, command));
    scratch
}

/// The same with other bytes.
fn changed(scratch: &Scratch, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = scratch.bytes();
    change(&mut bytes);
    scratch.write(IMAGE, &bytes);
    bytes
}

fn set_l1(bytes: &mut [u8], index: u64, value: u64) {
    let at = l1_entry_at(bytes, index);
    poke(bytes, at, 8, value);
}

/// Sets the L2 entry of a guest cluster.
fn set_l2(bytes: &mut [u8], cluster: u64, value: u64) {
    let at = l2_entry_at(bytes, cluster * CLUSTER);
    poke(bytes, at, 8, value);
}

/// What the active disk, or a snapshot of it, reads as by real qemu-img.
fn guest(folder: &Path, snapshot: Option<&str>) -> Vec<u8> {
    let chosen = snapshot.map(|name| format!("snapshot.name={name}"));
    let mut args = vec!["convert", "-U", "-O", "raw"];
    args.extend(chosen.iter().flat_map(|chosen| ["-l", chosen]));
    args.extend(["-f", "qcow2", IMAGE, "guest.raw"]);
    qemu_ok(folder, "qemu-img", &args);
    std::fs::read(folder.join("guest.raw")).expect("the raw disk")
}

/// Repairs in a mode; the exit code.
fn repaired(scratch: &Scratch, mode: &str) -> i32 {
    scratch.qcheck(&["check", "-q", "-r", mode, IMAGE]).code
}

/// Neither repair without leave releases or writes anything, and both end with leaks.
fn assert_held(scratch: &Scratch, damaged: &[u8]) {
    for mode in ["leaks", "all"] {
        assert_eq!(repaired(scratch, mode), 3, "-r {mode}");
        assert!(scratch.bytes() == damaged, "-r {mode}: nothing is released");
    }
}

/// The bytes of clusters that a repair must keep are where they were.
fn assert_kept(before: &[u8], after: &[u8], clusters: impl IntoIterator<Item = u64>) {
    for at in clusters.into_iter().map(|cluster| (cluster * CLUSTER) as usize) {
        assert!(before[at..at + 4096] == after[at..at + 4096], "the cluster at {at:#x} is kept");
    }
}

/// The clusters of the L2 table below an L1 entry, and of the data below it.
fn clusters_below(bytes: &[u8], index: u64) -> Vec<u64> {
    let table = be64(bytes, l1_entry_at(bytes, index)) & OFFSET_MASK;
    let entries = (0..CLUSTER / 8).map(|n| be64(bytes, (table + 8 * n) as usize) & OFFSET_MASK);
    let data = entries.filter(|&host| host != 0).map(|host| host / CLUSTER);
    data.chain([table / CLUSTER]).collect()
}

#[test]
fn a_deleted_snapshot_does_not_come_back_into_the_disk() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    let folder = scratch.path();
    let snapshot =
        |args: &[&str]| qemu_ok(folder, "qemu-img", &[&["snapshot"], args, &[IMAGE]].concat());
    snapshot(&["-c", "s0"]);
    qemu_io(folder, IMAGE, "write -q -P 0x42 2M 64k");
    snapshot(&["-c", "s1"]);
    snapshot(&["-a", "s0"]);
    let truth = guest(folder, None);
    let before = scratch.bytes();
    snapshot(&["-d", "s1"]);
    // As if it was killed when the header was written: all but the new snapshot table is as before.
    let after = scratch.bytes();
    let mut killed = before;
    let table = header(&after, "snapshots_offset") as usize;
    killed.resize(killed.len().max(table + 4096), 0);
    killed[..4096].copy_from_slice(&after[..4096]);
    killed[table..table + 4096].copy_from_slice(&after[table..table + 4096]);
    set_refcount(&mut killed, table as u64 / CLUSTER, 1);
    for mode in ["leaks", "all"] {
        scratch.write(IMAGE, &killed);
        assert_eq!(repaired(&scratch, mode), 3, "-r {mode}");
        assert!(guest(folder, None) == truth, "-r {mode}");
    }
}

#[test]
fn a_table_of_vm_state_does_not_become_one_of_the_disk() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k", "write -q -b -P 0xd3 0 16k"]);
    let truth = guest(scratch.path(), None);
    let damaged = changed(&scratch, |bytes| set_header(bytes, "l1_size", 2));
    assert_eq!(repaired(&scratch, "all"), 3);
    assert!(guest(scratch.path(), None) == truth);
    assert!(scratch.bytes() == damaged, "nothing is written");
}

#[test]
fn a_table_for_an_external_data_file_goes_to_its_own_place_only() {
    let commands = ["write -q -P 0x41 0 64k", "write -q -P 0x42 2M 64k"];
    let scratch = image(",data_file=data.raw", "6M", &commands);
    changed(&scratch, |bytes| {
        let entry = l1_entry_at(bytes, 1);
        let table = (be64(bytes, entry) & OFFSET_MASK) as usize;
        let end = bytes.len().next_multiple_of(4096);
        let copy = bytes[table..table + 4096].to_vec();
        bytes.resize(end, 0);
        bytes.extend(copy);
        poke(bytes, entry, 8, end as u64 | COPIED);
    });
    let before = guest(scratch.path(), None);
    repaired(&scratch, "all");
    assert!(guest(scratch.path(), None) == before);
}

#[test]
fn a_leaked_bitmap_table_does_not_become_an_l2_table() {
    for options in ["", ",data_file=data.raw"] {
        let scratch = image(options, "4M", &["write -q -P 0x41 0 64k"]);
        let folder = scratch.path();
        let taken = options.is_empty();
        if taken {
            qemu_ok(folder, "qemu-img", &["snapshot", "-c", "s0", IMAGE]);
        }
        qemu_ok(folder, "qemu-img", &["bitmap", "--add", "-g", "4096", IMAGE, "bm0"]);
        qemu_io(folder, IMAGE, "write -q -P 0x42 16k 4k");
        changed(&scratch, |bytes| poke(bytes, 88, 8, 0));
        let read = || (guest(folder, None), taken.then(|| guest(folder, Some("s0"))));
        let before = read();
        repaired(&scratch, "all");
        assert!(read() == before, "{options}");
    }
}

#[test]
fn a_pointer_to_refcount_structures_is_what_is_wrong() {
    for to_table in [true, false] {
        let scratch = image("", "4259840", &["write -q -P 0x41 0x1f0000 8k"]);
        let whole = scratch.bytes();
        let kept = clusters_below(&whole, 0);
        let place = match to_table {
            true => header(&whole, "refcount_table_offset"),
            false => refblock_at(&whole, 0) as u64,
        };
        let damaged = changed(&scratch, |bytes| set_l1(bytes, 0, place));
        assert_eq!(repaired(&scratch, "all"), 2, "to the table: {to_table}");
        let after = scratch.bytes();
        assert_kept(&damaged, &after, kept);
        assert_eq!(
            peek(&after, reftable_entry_at(&after, 0), 8),
            be64(&whole, reftable_entry_at(&whole, 0))
        );
        assert_eq!(be64(&after, l1_entry_at(&after, 1)), 0, "nothing is put into another entry");
    }
}

#[test]
fn a_lost_table_is_held_beside_vm_state_and_with_shared_compressed_clusters() {
    let vm_state = ["write -q -P 0x41 0 64k", "write -q -b -P 0xd3 0 16k"];
    let compressed = [
        "write -q -P 0x41 0 64k",
        "write -q -P 0x42 2M 64k",
        "write -q -c -P 0x43 100k 4k",
        "write -q -c -P 0x44 3M 4k",
    ];
    for (size, commands, lost) in [("2M", &vm_state[..], 1), ("4M", &compressed[..], 2)] {
        let scratch = image("", size, commands);
        let damaged = changed(&scratch, |bytes| {
            (0..lost).for_each(|n| set_l1(bytes, n, 0));
        });
        assert_held(&scratch, &damaged);
    }
}

#[test]
fn leaked_data_beside_a_blank_table_is_held() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    let damaged = changed(&scratch, |bytes| {
        let table = (be64(bytes, l1_entry_at(bytes, 0)) & OFFSET_MASK) as usize;
        bytes[table..table + 4096].fill(0);
    });
    assert_held(&scratch, &damaged);
}

#[test]
fn a_lost_table_may_have_damaged_entries() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    let damaged = changed(&scratch, |bytes| {
        let entry = l2_entry_at(bytes, 0);
        let old = be64(bytes, entry);
        poke(bytes, entry, 8, old + 512);
        set_l1(bytes, 0, 0);
    });
    assert_held(&scratch, &damaged);
}

#[test]
fn an_entry_with_copied_and_no_cluster_holds_the_leak_that_it_left() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    let damaged = changed(&scratch, |bytes| set_l2(bytes, 4, COPIED));
    assert_held(&scratch, &damaged);
}

#[test]
fn a_leak_stays_held_where_a_repair_corrects_damage_elsewhere() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    let mut host = 0;
    changed(&scratch, |bytes| {
        let lost = l2_entry_at(bytes, 4 * CLUSTER);
        host = be64(bytes, lost) & OFFSET_MASK;
        poke(bytes, lost, 8, 0);
        let other = l2_entry_at(bytes, 9 * CLUSTER);
        let reserved = be64(bytes, other) | 1 << 8;
        poke(bytes, other, 8, reserved);
    });
    let before = scratch.bytes();
    assert_eq!(repaired(&scratch, "all"), 3);
    assert_kept(&before, &scratch.bytes(), [host / CLUSTER]);
}

#[test]
fn what_positions_share_is_not_given_to_a_damaged_entry() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 32k", "write -q -P 0x42 32k 32k"]);
    // The entry points into the middle of another position's cluster.
    changed(&scratch, |bytes| {
        let other = be64(bytes, l2_entry_at(bytes, 0)) & OFFSET_MASK;
        set_l2(bytes, 12, (other + 512) | COPIED);
    });
    let entry = |bytes: &[u8]| be64(bytes, l2_entry_at(bytes, 12 * CLUSTER)) & OFFSET_MASK;
    let before = entry(&scratch.bytes());
    for run in 0..2 {
        repaired(&scratch, "all");
        assert_eq!(entry(&scratch.bytes()), before, "run {run}");
    }
}

#[test]
fn a_cluster_size_under_which_no_table_is_aligned_is_refused() {
    let scratch = image(",refcount_bits=1", "4M", &["write -q -P 0x41 0 64k"]);
    // L1 table and refcount table begin at odd multiples of 4 KiB.
    let damaged = changed(&scratch, |bytes| {
        set_l1(bytes, 0, 0);
        set_header(bytes, "cluster_bits", 13);
    });
    for mode in ["leaks", "all"] {
        let ran = scratch.qcheck(&["check", "-r", mode, IMAGE]);
        assert_eq!(ran.code, 1, "-r {mode}: {}", ran.out);
        assert!(ran.err.contains("nothing was written"), "{}", ran.err);
        assert!(scratch.bytes() == damaged, "-r {mode}");
    }
}

#[test]
fn an_unknown_compression_type_is_corrected_where_nothing_is_compressed() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    changed(&scratch, |bytes| bytes[104] = 7);
    assert_eq!(repaired(&scratch, "all"), 0);
    assert_eq!(scratch.bytes()[104], 0);
    assert_eq!(scratch.qemu_check(&[]).code, 0);
}

#[test]
fn only_a_proven_table_is_put_back_in_the_json() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k"]);
    changed(&scratch, |bytes| set_l1(bytes, 0, 0));
    let ran = scratch.qcheck(&["check", "--output", "json", IMAGE]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    let orphan = findings.iter().find(|f| f["code"] == "orphan-l2-table").expect("the table");
    assert_eq!(orphan["repair"], "data-loss");
}

#[test]
fn copies_are_made_all_or_not_at_all() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 2M", "write -q -P 0x42 2M 64k"]);
    // Every entry of a table points to the same few clusters: no table of a guest is like that.
    changed(&scratch, |bytes| {
        let first = be64(bytes, l2_entry_at(bytes, SPAN)) & OFFSET_MASK;
        for n in 0..SPAN / CLUSTER {
            let entry = l2_entry_at(bytes, n * CLUSTER);
            poke(bytes, entry, 8, (first + n % 2 * CLUSTER) | COPIED);
        }
    });
    let length = scratch.bytes().len();
    repaired(&scratch, "all");
    let once = scratch.bytes();
    assert!(once.len() <= length + 4096, "no copies beside leaks");
    repaired(&scratch, "all");
    assert!(scratch.bytes().len() <= length + 4096);
}

#[test]
fn a_repair_with_leave_needs_no_second_run() {
    let scratch = image("", "4M", &["write -q -P 0x41 0 64k", "write -q -P 0x42 2M 64k"]);
    // A refcount that is too high, and an L1 entry with a reserved bit.
    let bytes = changed(&scratch, |bytes| {
        let entry = l1_entry_at(bytes, 0);
        let old = be64(bytes, entry);
        poke(bytes, entry, 8, old | 1 << 59);
        let table = (old & OFFSET_MASK) / CLUSTER;
        set_refcount(bytes, table, 12);
    });
    let image = MemoryStorage::new(bytes);
    let options = CheckOptions::default().threads(1);
    let outcome = repair(&image, RepairMode::Lossy, &options, &Silent).expect("a repair");
    assert!(outcome.after.expect("something is written").tally.is_clean());
    let once = image.to_vec();
    repair(&image, RepairMode::Lossy, &options, &Silent).expect("a repair");
    assert!(image.to_vec() == once);
}

#[test]
fn data_that_refcount_table_entries_point_to_is_kept() {
    // Without COPIED, entries of an L2 table are like those of a refcount table.
    let scratch = image("", "2M", &["write -q -P 0x30 0 12k"]);
    qemu_ok(scratch.path(), "qemu-img", &["snapshot", "-c", "s", IMAGE]);
    let whole = scratch.bytes();
    let table = (be64(&whole, l1_entry_at(&whole, 0)) & OFFSET_MASK) as usize;
    let reftable = header(&whole, "refcount_table_offset") as usize;
    let damaged = changed(&scratch, |bytes| {
        let size = CLUSTER as usize;
        bytes[table..table + size].copy_from_slice(&whole[reftable..reftable + size]);
        bytes[reftable..reftable + size].copy_from_slice(&whole[table..table + size]);
    });
    let data = clusters_below(&whole, 0).into_iter().filter(|&at| at * CLUSTER != table as u64);
    assert_ne!(repaired(&scratch, "all"), 0);
    assert_kept(&damaged, &scratch.bytes(), data);
}

#[test]
fn a_header_that_hides_its_extensions_is_corrected() {
    let scratch = Scratch::new();
    let options = "data_file=data.raw";
    let create = ["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "1M"];
    qemu_ok(scratch.path(), "qemu-img", &create);
    let whole = scratch.bytes();
    changed(&scratch, |bytes| set_header(bytes, "header_length", 0x170));
    assert_eq!(scratch.qcheck(&["check", "-q", IMAGE]).code, 2);
    assert_eq!(repaired(&scratch, "all"), 0);
    assert!(scratch.bytes() == whole);
}
