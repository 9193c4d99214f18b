//! What a repair promises: nothing readable before is unreadable after, nothing is freed that is not provably
//! unreferenced, and what only looks lost comes back. Each damage here is one that users met.

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{
    COPIED, OFFSET_MASK, be64, extension, header, l1_entry_at, l2_entry_at, poke, refblock_at,
    refcount, reftable_entry_at, set_header, set_refcount, snapshot_entries,
};
use crate::support::programs::oracle::{Scratch, all_guest_bytes};
use crate::support::programs::run::{qcheck, qemu_create, qemu_io, qemu_ok};

const CLUSTER: u64 = 4096;
/// Guest bytes below one L1 entry.
const SPAN: u64 = CLUSTER / 8 * CLUSTER;

/// Two tables full enough to be recognised, nothing else.
fn plain() -> Builder {
    let builder = Builder::new(2 * SPAN).data(0..20, 0x11).data(512..540, 0x22);
    builder.at(30, Content::Compressed(0x33)).at(31, Content::ZeroOver(0x44))
}

/// The same with space for two more tables.
fn roomy() -> Builder {
    Builder { size: 4 * SPAN, ..plain() }
}

fn with_snapshots() -> Builder {
    let own = Snapshot::own("own", &[(0, Content::Data(0x66)), (600, Content::Data(0x67))]);
    plain().snapshot(Snapshot::shared("shared")).snapshot(own)
}

fn bytes(builder: &Builder) -> Vec<u8> {
    builder.build().bytes
}

/// The bytes of the active disk and of these snapshots, by qemu-img.
fn guest(image: &[u8], snapshots: &[&str]) -> Vec<Option<Vec<u8>>> {
    all_guest_bytes(&Scratch::in_memory(image), snapshots)
}

/// Repairs an image; the exit code, what it printed, and the image.
fn repaired(image: &[u8], options: &[&str]) -> (i32, String, Vec<u8>) {
    let scratch = Scratch::in_memory(image);
    let ran = scratch.own_check(options);
    (ran.code, ran.err, scratch.bytes())
}

/// A repair of all ends clean by both checkers, writes nothing more the second time, and guests read what they are to.
fn assert_mended(damaged: &[u8], snapshots: &[&str], wanted: &[Option<Vec<u8>>], story: &str) {
    let (code, said, after) = repaired(damaged, &["-r", "all"]);
    assert_eq!(code, 0, "{story}: {said}");
    assert_eq!(Scratch::in_memory(&after).qemu_check(&[]).code, 0, "{story}");
    assert!(guest(&after, snapshots) == wanted, "{story}: guests read something else");
    assert!(repaired(&after, &["-r", "all"]).2 == after, "{story}: it writes again");
}

/// A repair of all holds what is lost, and puts it back where a person asks for it.
fn assert_reattached(damaged: &[u8], snapshots: &[&str], wanted: &[Option<Vec<u8>>], story: &str) {
    let before = guest(damaged, snapshots);
    let (code, said, after) = repaired(damaged, &["-r", "all"]);
    assert!(matches!(code, 2 | 3), "{story}: {code:?} {said}");
    assert!(guest(&after, snapshots) == before, "{story}: guests read something else");
    let (code, said, after) = repaired(damaged, &["-r", "all", "--reattach"]);
    assert_eq!(code, 0, "{story}: {said}");
    assert_eq!(Scratch::in_memory(&after).qemu_check(&[]).code, 0, "{story}");
    assert!(guest(&after, snapshots) == wanted, "{story}: guests read something else");
}

/// No repair without leave to lose data changes a referenced byte; with leave both checkers find it clean.
fn assert_held(damaged: &[u8], snapshots: &[&str], story: &str) {
    let before = guest(damaged, snapshots);
    for mode in ["leaks", "all"] {
        let (code, said, after) = repaired(damaged, &["-r", mode]);
        assert!(matches!(code, 2 | 3), "{story}: {code:?} {said}");
        assert!(guest(&after, snapshots) == before, "{story}: guests read something else");
        for (was, is) in damaged.chunks(CLUSTER as usize).zip(after.chunks(CLUSTER as usize)) {
            let lost = was.iter().any(|&b| b != 0) && is.iter().all(|&b| b == 0);
            assert!(!lost, "{story}: a cluster was punched out by -r {mode}");
        }
    }
    let (code, said, after) = repaired(damaged, &["-r", "all", "--allow-data-loss"]);
    assert_eq!(code, 0, "{story}: {said}");
    assert_eq!(Scratch::in_memory(&after).qemu_check(&[]).code, 0, "{story}");
}

/// The image with another number of 8 bytes at a place.
fn with(image: &[u8], at: usize, value: u64) -> Vec<u8> {
    let mut image = image.to_vec();
    poke(&mut image, at, 8, value);
    image
}

#[test]
fn an_l1_entry_that_points_nowhere_is_proof_of_what_it_pointed_to() {
    let sound = bytes(&plain());
    let wanted = guest(&sound, &[]);
    for index in 0..2 {
        let at = l1_entry_at(&sound, index);
        let entry = be64(&sound, at);
        // Far away only one table and one entry are left for each other.
        let far = COPIED | 0x7f_0000_0000_0000;
        for wrong in [far, COPIED, entry | 0x200, entry ^ (1 << 40), entry | 0x100_0000_0000_0000] {
            let story = format!("L1 entry {index} is {wrong:#x}");
            assert_mended(&with(&sound, at, wrong), &[], &wanted, &story);
        }
    }
}

#[test]
fn an_l1_entry_that_is_lost_comes_back_only_where_a_person_asks_for_it() {
    let sound = bytes(&plain());
    let wanted = guest(&sound, &[]);
    for index in 0..2 {
        let at = l1_entry_at(&sound, index);
        let story = format!("L1 entry {index} is empty");
        assert_reattached(&with(&sound, at, 0), &[], &wanted, &story);
    }
}

#[test]
fn a_lost_table_that_fits_two_entries_is_reported_and_kept() {
    let sound = bytes(&roomy());
    let damaged = with(&sound, l1_entry_at(&sound, 1), 0);
    assert_held(&damaged, &[], "one of three");
    let json = Scratch::in_memory(&damaged).own_check(&["--output", "json"]).out;
    for index in 1..4 {
        assert!(json.contains(&format!("\"offset\": {}", index * SPAN)), "{json}");
    }
    let (_, said, _) = repaired(&damaged, &["-r", "leaks"]);
    assert!(said.contains("maps 28 clusters of possible data"), "{said}");
}

#[test]
fn a_table_that_a_snapshot_has_too_comes_back_to_the_disk() {
    let builder = roomy().snapshot(Snapshot::shared("shared"));
    let sound = bytes(&builder);
    let wanted = guest(&sound, &["shared"]);
    let damaged = |lost| with(&sound, l1_entry_at(&sound, 1), lost);
    assert_reattached(&damaged(0), &["shared"], &wanted, "empty");
    assert_mended(&damaged(COPIED | 0x7f_0000_0000_0000), &["shared"], &wanted, "far");
}

/// The cluster that the entry pointed to before is leaked, and may be the only copy of its data.
#[test]
fn a_cluster_that_lost_its_entry_to_a_cross_link_is_kept_until_it_may_be_lost() {
    for order in [0, 1, 4, 6] {
        let sound = bytes(&Builder { refcount_order: order, ..plain() });
        let at = l2_entry_at(&sound, 3 * CLUSTER);
        let own = be64(&sound, at) & OFFSET_MASK;
        let l1 = header(&sound, "l1_table_offset");
        let places = [
            ("other data", be64(&sound, l2_entry_at(&sound, 5 * CLUSTER)) & OFFSET_MASK),
            ("the L1 table", l1),
            ("an L2 table", be64(&sound, l1 as usize + 8) & OFFSET_MASK),
            ("its own L2 table", be64(&sound, l1 as usize) & OFFSET_MASK),
            ("the refcount table", header(&sound, "refcount_table_offset")),
            ("a refcount block", refblock_at(&sound, 0) as u64),
        ];
        for (what, place) in places {
            let damaged = with(&sound, at, place | COPIED);
            let story = format!("{} bits: data at {what}", 1 << order);
            let (code, said, after) = repaired(&damaged, &["-r", "all"]);
            assert!(matches!(code, 2 | 3), "{story}: {code:?} {said}");
            assert_eq!(refcount(&after, own / CLUSTER), 1, "{story}: {said}");
            let range = own as usize..(own + CLUSTER) as usize;
            assert!(after[range.clone()] == sound[range], "{story}: {said}");
            let (code, said, after) = repaired(&damaged, &["-r", "all", "--allow-data-loss"]);
            assert_eq!(code, 0, "{story}: {said}");
            assert_eq!(Scratch::in_memory(&after).qemu_check(&[]).code, 0, "{story}");
            let of = |guest| be64(&after, l2_entry_at(&after, guest * CLUSTER)) & OFFSET_MASK;
            assert_ne!(of(3), of(5), "{story}: nobody else has the cluster");
        }
    }
}

#[test]
fn an_entry_that_points_nowhere_is_kept_until_it_may_be_lost() {
    let sound = bytes(&plain());
    let at = l2_entry_at(&sound, 3 * CLUSTER);
    let compressed = l2_entry_at(&sound, 30 * CLUSTER);
    for (at, lost) in [
        (at, COPIED | 0x7f_0000_0000_0000),
        (at, sound.len() as u64 * 2),
        (compressed, 0x4000_0000_7000_0000),
    ] {
        let damaged = with(&sound, at, lost);
        assert_held(&damaged, &[], &format!("{lost:#x}"));
        let (_, _, after) = repaired(&damaged, &["-r", "all", "--allow-data-loss"]);
        let (old, new) =
            (guest(&sound, &[])[0].clone().unwrap(), guest(&after, &[])[0].clone().unwrap());
        let same = |n: usize| old[n * 4096..][..4096] == new[n * 4096..][..4096];
        assert!((0..1024).all(|n| same(n) || n == 3 || n == 30));
    }
}

#[test]
fn an_entry_with_one_right_value_is_corrected() {
    let sound = bytes(&plain());
    let wanted = guest(&sound, &[]);
    let at = l2_entry_at(&sound, 3 * CLUSTER);
    let entry = be64(&sound, at);
    let compressed = l2_entry_at(&sound, 30 * CLUSTER);
    for (at, wrong) in [
        (at, entry | 2),
        (at, entry | 1 << 58),
        (at, entry | 0x600),
        (at, entry & !COPIED),
        (compressed, be64(&sound, compressed) | COPIED),
    ] {
        assert_mended(&with(&sound, at, wrong), &[], &wanted, &format!("{wrong:#x}"));
    }
}

#[test]
fn a_snapshot_whose_l1_table_is_lost_is_held_until_it_may_be_dropped() {
    let sound = bytes(&with_snapshots());
    let at = snapshot_entries(&sound)[1];
    for lost in [0x7f_0000_0000_0000, be64(&sound, at) + 512] {
        let damaged = with(&sound, at, lost);
        assert_held(&damaged, &["shared"], &format!("{lost:#x}"));
        let (_, _, after) = repaired(&damaged, &["-r", "all", "--allow-data-loss"]);
        assert_eq!(header(&after, "nb_snapshots"), 1);
        assert!(guest(&after, &["shared"]) == guest(&sound, &["shared"]));
    }
}

#[test]
fn one_count_of_zero_is_one_entry_patched() {
    let sound = bytes(&plain());
    let mut damaged = sound.clone();
    let cluster = (be64(&sound, l2_entry_at(&sound, 0)) & OFFSET_MASK) / CLUSTER;
    set_refcount(&mut damaged, cluster, 0);
    let (code, said, after) = repaired(&damaged, &["-r", "all"]);
    assert_eq!(code, 0, "{said}");
    assert!(after == sound && !said.contains("Rebuilding"), "{said}");
}

#[test]
fn pointers_of_refcount_structures_into_nowhere_let_nothing_grow() {
    let sound = bytes(&with_snapshots());
    let wanted = guest(&sound, &["shared", "own"]);
    let mut no_table = sound.clone();
    set_header(&mut no_table, "refcount_table_offset", 0);
    let far = with(&sound, reftable_entry_at(&sound, 0), 0x7f_0000_0000_0000);
    let further = with(&sound, reftable_entry_at(&sound, 3), 1 << 50);
    for (damaged, story) in [(no_table, "no table"), (far, "far"), (further, "a second block far")]
    {
        let (_, _, after) = repaired(&damaged, &["-r", "all"]);
        assert!(after.len() < sound.len() + 8 * CLUSTER as usize, "{story}: {}", after.len());
        assert_mended(&damaged, &["shared", "own"], &wanted, story);
    }
}

#[test]
fn a_broken_bitmap_is_dropped_only_with_leave_and_the_others_stay() {
    let sound = bytes(&plain().bitmap("day", 12, 0xf0).bitmap("hour", 16, 1));
    let directory = be64(&sound, extension(&sound, 0x2385_2875).unwrap().0 + 16) as usize;
    let damaged = with(&sound, directory, 0x7f_0000_0000_0000);
    assert_held(&damaged, &[], "the table of day");
    let (_, _, after) = repaired(&damaged, &["-r", "all", "--allow-data-loss"]);
    let info = Scratch::in_memory(&after).qemu_img(&["info", "image.qcow2"]).out;
    assert!(info.contains("name: hour") && !info.contains("name: day"), "{info}");
    assert!(guest(&after, &[]) == guest(&sound, &[]));
}

#[test]
fn a_clean_image_with_a_snapshot_and_a_bitmap_is_left_alone() {
    let scratch = Scratch::new();
    for args in [
        &["create", "-q", "-f", "qcow2", "image.qcow2", "4M"][..],
        &["bitmap", "--add", "image.qcow2", "day"],
        &["snapshot", "-c", "one", "image.qcow2"],
    ] {
        scratch.qemu_img(args).success();
    }
    let before = scratch.bytes();
    for mode in ["leaks", "all"] {
        assert_eq!(scratch.own_check(&["-r", mode]).code, 0);
        assert!(scratch.bytes() == before, "-r {mode} wrote something");
    }
}

#[test]
fn the_dirty_bit_goes_only_where_counts_are_right() {
    let mut dirty = bytes(&plain());
    let cluster = (be64(&dirty, l2_entry_at(&dirty, 0)) & OFFSET_MASK) / CLUSTER;
    set_header(&mut dirty, "compatible_features", 1);
    set_header(&mut dirty, "incompatible_features", 1);
    set_refcount(&mut dirty, cluster, 0);
    let (code, _, after) = repaired(&dirty, &["-r", "leaks"]);
    assert_eq!((code, header(&after, "incompatible_features") & 1), (2, 1));
    let (code, _, after) = repaired(&dirty, &["-r", "all"]);
    assert_eq!((code, header(&after, "incompatible_features")), (0, 0));
}

#[test]
fn what_reaches_past_the_end_of_the_file_is_in_use_as_far_as_it_goes() {
    let sound = bytes(&plain());
    let mut cut = sound.clone();
    set_header(&mut cut, "l1_size", 1 << 14); // 128 KiB of L1 table: past the end
    let (code, said, after) = repaired(&cut, &["-r", "leaks"]);
    assert_eq!(code, 2, "{said}");
    let differ = after.iter().zip(&cut).filter(|(a, b)| a != b).count();
    assert!(differ < 64, "-r leaks changed {differ} bytes");
    // Whatever is put after the end of the file becomes part of that table.
    let (code, said, after) = repaired(&cut, &["-r", "all"]);
    assert!(matches!(code, 1 | 2), "{code:?} {said}");
    assert!(after.len() == cut.len() && guest(&after, &[]) == guest(&sound, &[]), "{said}");
    let (code, said, after) = repaired(&cut, &["-r", "all", "--allow-data-loss"]);
    assert_eq!(code, 0, "{said}");
    assert!(guest(&after, &[]) == guest(&sound, &[]), "the disk needs one entry");
}

#[test]
fn nothing_is_written_into_guest_data_that_an_l1_entry_points_to() {
    let sound = bytes(&plain());
    let data = be64(&sound, l2_entry_at(&sound, 5 * CLUSTER)) & OFFSET_MASK;
    let damaged = with(&sound, l1_entry_at(&sound, 1), data | COPIED);
    for options in [&["-r", "leaks"][..], &["-r", "all"], &["-r", "all", "--allow-data-loss"]] {
        let (_, said, after) = repaired(&damaged, options);
        let at = data as usize..(data + CLUSTER) as usize;
        assert!(after[at.clone()] == sound[at], "{options:?}: {said}");
    }
    assert_reattached(&damaged, &[], &guest(&sound, &[]), "an L1 entry into guest data");
}

#[test]
fn bitmaps_beside_wrong_counts_keep_their_bytes() {
    let sound = bytes(&plain().bitmap("day", 12, 0xf0));
    let (at, _) = extension(&sound, 0x2385_2875).unwrap();
    let directory = be64(&sound, at + 16) as usize;
    let table = be64(&sound, directory) as usize;
    let data = (be64(&sound, table) & OFFSET_MASK) as usize;
    let mut damaged = sound.clone();
    for place in [directory, table, data] {
        set_refcount(&mut damaged, place as u64 / CLUSTER, 0);
    }
    let (code, said, after) = repaired(&damaged, &["-r", "all"]);
    assert_eq!(code, 0, "{said}");
    for place in [at, directory, table, data] {
        let range = place..place + 24;
        assert_eq!(after[range.clone()], sound[range]);
    }
}

#[test]
fn a_backing_file_still_shows_through_subclusters_whose_entry_had_a_bad_offset() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    std::fs::write(folder.join("base"), vec![0xff; 128 << 10]).unwrap();
    for (allocated, options) in
        [(false, &["-r", "all"][..]), (true, &["-r", "all", "--allow-data-loss"])]
    {
        let create = ["-o", "extended_l2=on", "-f", "qcow2", "-b", "base", "-F", "raw", "image"];
        qemu_create(folder, &create);
        qemu_io(folder, "image", "write -q -P 1 4k 2k");
        if !allocated {
            qemu_io(folder, "image", "write -q -z 4k 2k");
        }
        let path = folder.join("image");
        let mut image = std::fs::read(&path).unwrap();
        // Also out of the file where there is data, so that the data is really lost.
        let damage = if allocated { 0x7f_0000_0000 } else { 0x200 };
        let at = l2_entry_at(&image, 0);
        let damaged = be64(&image, at) | damage;
        poke(&mut image, at, 8, damaged);
        std::fs::write(&path, &image).unwrap();
        let ran = qcheck(folder, &[&["check"], options, &["image"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        for read in ["read -P 0xff 0 4k", "read -P 0 4k 2k", "read -P 0xff 6k 122k"] {
            let told = qemu_ok(folder, "qemu-io", &["-f", "qcow2", "-c", read, "image"]);
            assert!(!told.contains("failed"), "{options:?}: {read}: {told}");
        }
    }
}
