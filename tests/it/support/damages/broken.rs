//! Small images and what can be wrong with them, for every step that a repair may take.

use std::sync::OnceLock;

use crate::support::images::builder::{Builder, Content, Snapshot};
use crate::support::images::bytes::{
    COPIED, be32, be64, cluster_size, header, l1_entry_at, l2_entry_at, poke, refblock_at,
    refcount, refcount_bits, reftable_entry_at, set_header, set_refcount, snapshot_entries,
};
use crate::support::programs::oracle::{IMAGE, Scratch};

/// Clusters that nothing uses after the end of every base.
pub const SPARE: u64 = 12;

/// A valid image.
#[derive(Clone, Debug)]
pub struct Sound {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

/// A damaged image.
#[derive(Clone, Debug)]
pub struct Broken {
    pub name: String,
    pub bytes: Vec<u8>,
    /// The image before the damage.
    pub sound: &'static [u8],
}

/// A damage: whether the image could take it.
type Damage = fn(&mut [u8]) -> bool;

fn contents(mut builder: Builder) -> Builder {
    let data = (0..10_u64).chain([62, 63, 64, 70, 150]);
    builder.contents.extend(data.map(|n| (n, Content::Data(n as u8 + 1))));
    if builder.version >= 3 {
        builder = builder.at(12, Content::ZeroOver(0x22)).at(13, Content::Zero);
    }
    // Two of them share a cluster, which narrow counts can't count for two disks.
    let compressed = if builder.refcount_order > 1 { 20..22 } else { 20..21 };
    builder.contents.extend(compressed.map(|n| (n, Content::Compressed(n as u8))));
    builder
}

fn base(version: u32, bits: u32, order: u32) -> Builder {
    let clusters = if bits < 12 { 160 } else { 200 };
    let builder = Builder::new(clusters << bits).version(version).cluster_bits(bits);
    contents(builder.refcount_order(order))
}

/// The images that get damaged, by the numbers that matter.
pub fn bases() -> &'static [Sound] {
    static BASES: OnceLock<Vec<Sound>> = OnceLock::new();
    BASES.get_or_init(|| {
        let own = Snapshot::own("own", &[(0, Content::Data(0x66)), (90, Content::Data(0x67))]);
        let shared = Snapshot::shared("shared");
        let tail = Snapshot { extra: vec![0x5c; 40], ..shared.clone() };
        let mut wide = base(3, 9, 6).data(80..130, 0x71);
        wide.contents.retain(|(_, content)| !matches!(content, Content::Compressed(_)));
        let built = [
            ("v3 512 16-bit", base(3, 9, 4)),
            ("v2 512 shared", base(2, 9, 4).snapshot(shared.clone())),
            ("v3 512 64-bit", wide),
            ("v3 1k 8-bit snapshots", base(3, 10, 3).snapshot(tail).snapshot(own.clone())),
            ("v3 512 2-bit shared", base(3, 9, 1).snapshot(shared)),
            ("v3 512 1-bit", base(3, 9, 0).snapshot(own)),
            ("v3 4k 16-bit", base(3, 12, 4)),
            ("v3 16k subclusters", base(3, 14, 4).extended_l2()),
            ("v3 1k bitmaps", base(3, 10, 4).bitmap("day", 9, 0xf0).bitmap("hour", 12, 1)),
            ("v3 1k encrypted", base(3, 10, 4).encrypted()),
        ];
        let mut all: Vec<_> =
            built.into_iter().map(|(name, b)| Sound { name, bytes: b.build().bytes }).collect();
        all.push(Sound { name: "qemu-img", bytes: by_qemu() });
        for Sound { bytes, .. } in &mut all {
            let spare = SPARE * cluster_size(bytes);
            bytes.resize((bytes.len() as u64 + spare) as usize, 0xee);
        }
        all
    })
}

/// An image that real qemu-img made, with a snapshot.
fn by_qemu() -> Vec<u8> {
    let made = Scratch::new();
    let io = |commands: &[&str]| {
        let commands = commands.iter().flat_map(|command| ["-c", *command]);
        made.run("qemu-io", &commands.chain([IMAGE]).collect::<Vec<_>>()).success();
    };
    let options = "cluster_size=1k,refcount_bits=16";
    made.qemu_img(&["create", "-q", "-f", "qcow2", "-o", options, IMAGE, "160k"]).success();
    io(&["write -P 1 0 9k", "write -P 2 64k 2k", "write -z 20k 1k"]);
    made.qemu_img(&["snapshot", "-c", "one", IMAGE]).success();
    io(&["write -P 3 1k 2k", "write -P 4 100k 1k"]);
    let mut bytes = made.bytes();
    bytes.resize(bytes.len().next_multiple_of(1024), 0);
    bytes
}

/// The first cluster that nothing uses.
fn spare(image: &[u8]) -> u64 {
    image.len() as u64 / cluster_size(image) - SPARE
}

fn leaks(image: &mut [u8]) -> bool {
    let first = spare(image);
    let most = (1 << refcount_bits(image).min(8)) - 1;
    set_refcount(image, first + 1, 1);
    set_refcount(image, first + 2, most);
    set_refcount(image, first + 6, 1);
    true
}

fn data_cluster(image: &[u8], guest: u64) -> u64 {
    let entry = be64(image, l2_entry_at(image, guest * cluster_size(image)));
    (entry & 0x00ff_ffff_ffff_fe00) / cluster_size(image)
}

fn too_high(image: &mut [u8]) -> bool {
    if refcount_bits(image) == 1 {
        return false;
    }
    for guest in [0, 3] {
        let cluster = data_cluster(image, guest);
        let count = refcount(image, cluster) + 1;
        set_refcount(image, cluster, count);
    }
    true
}

fn too_low(image: &mut [u8]) -> bool {
    let table = (be64(image, l1_entry_at(image, 0)) & !COPIED) / cluster_size(image);
    for cluster in [data_cluster(image, 0), data_cluster(image, 4), table] {
        let count = refcount(image, cluster) - 1;
        set_refcount(image, cluster, count);
    }
    true
}

/// As old versions of crosvm left their images.
fn first_counts_zero(image: &mut [u8]) -> bool {
    (0..6).for_each(|cluster| set_refcount(image, cluster, 0));
    true
}

fn flags_flipped(image: &mut [u8]) -> bool {
    let size = cluster_size(image);
    let at = [l1_entry_at(image, 0), l2_entry_at(image, 0), l2_entry_at(image, 2 * size)];
    for at in at {
        image[at] ^= 0x80;
    }
    true
}

/// Flags as a writer left them before it took a snapshot or gave one up, whichever is wrong.
fn all_flags_inverted(image: &mut [u8]) -> bool {
    let size = cluster_size(image);
    for guest in 0..10 {
        let at = l2_entry_at(image, guest * size);
        image[at] ^= 0x80;
    }
    true
}

fn reftable_zeroed(image: &mut [u8]) -> bool {
    let at = header(image, "refcount_table_offset") as usize;
    let length = (header(image, "refcount_table_clusters") * cluster_size(image)) as usize;
    image[at..at + length].fill(0);
    true
}

fn reftable_at_zero(image: &mut [u8]) -> bool {
    set_header(image, "refcount_table_offset", 0);
    true
}

fn reftable_unaligned(image: &mut [u8]) -> bool {
    let at = header(image, "refcount_table_offset");
    set_header(image, "refcount_table_offset", at + 8);
    true
}

fn reftable_of_no_clusters(image: &mut [u8]) -> bool {
    set_header(image, "refcount_table_clusters", 0);
    true
}

fn set_block(image: &mut [u8], index: u64, entry: u64) {
    let at = reftable_entry_at(image, index);
    poke(image, at, 8, entry);
}

fn block_missing(image: &mut [u8]) -> bool {
    set_block(image, 0, 0);
    true
}

fn block_outside(image: &mut [u8]) -> bool {
    let entry = (image.len() as u64).next_multiple_of(cluster_size(image)) * 4;
    set_block(image, 0, entry);
    true
}

fn block_in_data(image: &mut [u8]) -> bool {
    let entry = data_cluster(image, 1) * cluster_size(image);
    set_block(image, 0, entry);
    true
}

fn block_twice(image: &mut [u8]) -> bool {
    let entry = refblock_at(image, 0) as u64;
    set_block(image, 1, entry);
    true
}

fn block_with_reserved_bits(image: &mut [u8]) -> bool {
    let entry = refblock_at(image, 0) as u64 | 1;
    set_block(image, 0, entry);
    true
}

fn block_unaligned(image: &mut [u8]) -> bool {
    let entry = refblock_at(image, 0) as u64 | 0x200;
    set_block(image, 0, entry);
    cluster_size(image) > 512
}

fn zero_out_of_place(image: &mut [u8]) -> bool {
    let size = cluster_size(image);
    let wide = header(image, "incompatible_features") & 0x10 != 0;
    if size == 512 || header(image, "version") < 3 || wide {
        return false;
    }
    let at = l2_entry_at(image, 2 * size);
    let entry = be64(image, at);
    poke(image, at, 8, entry | 0x201);
    true
}

/// Takes the extra data out of the last snapshot's entry, or all but 8 bytes of it.
fn shorten_extra(image: &mut [u8], keep: usize) -> bool {
    let Some(&at) = snapshot_entries(image).last() else { return false };
    let extra = be32(image, at + 36) as usize;
    if extra < 16 || header(image, "version") < 3 {
        return false;
    }
    let from = at + 40 + extra;
    let names = image[from..from + 40].to_vec();
    image[at + 40 + keep..at + 40 + keep + 40].copy_from_slice(&names);
    poke(image, at + 36, 4, keep as u64);
    true
}

fn snapshot_incomplete(image: &mut [u8]) -> bool {
    shorten_extra(image, 0)
}

fn snapshot_half_complete(image: &mut [u8]) -> bool {
    shorten_extra(image, 8)
}

/// Moves the snapshot table past the end of the file and gives each entry more extra data than QEMU takes.
fn snapshot_extra_too_large(image: &mut [u8]) -> bool {
    let size = cluster_size(image);
    let mut table = Vec::new();
    for at in snapshot_entries(image) {
        let extra = be32(image, at + 36) as usize;
        let names = peek_names(image, at);
        let mut entry = image[at..at + 40 + extra].to_vec();
        entry.resize(40 + 1500, 0x5d);
        poke(&mut entry, 36, 4, 1500);
        entry.extend(&image[at + 40 + extra..at + 40 + extra + names]);
        table.extend(entry);
        table.resize(table.len().next_multiple_of(8), 0);
    }
    if table.is_empty() || header(image, "version") < 3 {
        return false;
    }
    let old = header(image, "snapshots_offset") / size;
    let at = (spare(image) + 3) * size;
    let clusters = (table.len() as u64).div_ceil(size);
    assert!(clusters + 3 < SPARE, "the spare clusters do not hold the table");
    image[at as usize..at as usize + table.len()].copy_from_slice(&table);
    (0..clusters).for_each(|n| set_refcount(image, at / size + n, 1));
    set_refcount(image, old, 0);
    set_header(image, "snapshots_offset", at);
    true
}

fn peek_names(image: &[u8], at: usize) -> usize {
    (be32(image, at + 12) >> 16) as usize + (be32(image, at + 12) & 0xffff) as usize
}

fn set_incompatible(image: &mut [u8], bit: u64) -> bool {
    if header(image, "version") >= 3 {
        let bits = header(image, "incompatible_features") | bit;
        set_header(image, "incompatible_features", bits);
    }
    header(image, "version") >= 3
}

fn dirty(image: &mut [u8]) -> bool {
    set_incompatible(image, 1)
}

fn corrupt(image: &mut [u8]) -> bool {
    set_incompatible(image, 2)
}

fn table_twice(image: &mut [u8]) -> bool {
    let entry = be64(image, l1_entry_at(image, 0));
    let at = l1_entry_at(image, 1);
    poke(image, at, 8, entry);
    true
}

fn data_twice(image: &mut [u8]) -> bool {
    let size = cluster_size(image);
    let entry = be64(image, l2_entry_at(image, size));
    let at = l2_entry_at(image, 5 * size);
    poke(image, at, 8, entry);
    true
}

/// The last L1 entry that points to a table.
fn last_l1(image: &[u8]) -> usize {
    let mut entries = (0..header(image, "l1_size")).map(|index| l1_entry_at(image, index));
    entries.rfind(|&at| be64(image, at) != 0).expect("a table")
}

fn l1_zeroed(image: &mut [u8]) -> bool {
    let at = last_l1(image);
    poke(image, at, 8, 0);
    true
}

fn l1_beyond(image: &mut [u8]) -> bool {
    let at = last_l1(image);
    poke(image, at, 8, COPIED | 0x7f_0000_0000_0000);
    true
}

fn l1_inside_cluster(image: &mut [u8]) -> bool {
    let at = last_l1(image);
    let entry = be64(image, at);
    poke(image, at, 8, entry | 0x200);
    cluster_size(image) > 512
}

fn l1_reserved(image: &mut [u8]) -> bool {
    let at = last_l1(image);
    image[at] |= 0x20;
    true
}

fn entry_reserved(image: &mut [u8]) -> bool {
    let at = l2_entry_at(image, 3 * cluster_size(image));
    image[at] |= 0x10;
    true
}

fn entry_inside_cluster(image: &mut [u8]) -> bool {
    let at = l2_entry_at(image, 4 * cluster_size(image));
    let entry = be64(image, at);
    poke(image, at, 8, entry | 0x200);
    cluster_size(image) > 512
}

fn entry_beyond(image: &mut [u8]) -> bool {
    let at = l2_entry_at(image, 2 * cluster_size(image));
    image[at + 1] |= 0x40;
    true
}

fn compressed_copied(image: &mut [u8]) -> bool {
    let at = l2_entry_at(image, 20 * cluster_size(image));
    let compressed = image[at] & 0x40 != 0;
    image[at] |= 0x80;
    compressed
}

fn snapshot_l1_beyond(image: &mut [u8]) -> bool {
    let Some(&at) = snapshot_entries(image).first() else { return false };
    poke(image, at, 8, 0x7f_0000_0000_0000);
    true
}

fn snapshot_id_twice(image: &mut [u8]) -> bool {
    let entries = snapshot_entries(image);
    let [first, second] = entries[..] else { return false };
    let id = |image: &[u8], at: usize| at + 40 + be32(image, at + 36) as usize;
    let (from, to) = (id(image, first), id(image, second));
    image[to] = image[from];
    true
}

fn bitmap_table_beyond(image: &mut [u8]) -> bool {
    let Some((data, _)) = crate::support::images::bytes::extension(image, 0x2385_2875) else {
        return false;
    };
    let directory = be64(image, data + 16) as usize;
    poke(image, directory, 8, 0x7f_0000_0000_0000);
    true
}

/// Every damage and the combinations that meet in a repair.
const DAMAGES: &[(&str, &[Damage])] = &[
    ("leaks", &[leaks]),
    ("counts too high", &[too_high]),
    ("counts too low", &[too_low]),
    ("first counts zero", &[first_counts_zero]),
    ("flags flipped", &[flags_flipped]),
    ("all flags inverted", &[all_flags_inverted]),
    ("reftable zeroed", &[reftable_zeroed]),
    ("reftable at 0", &[reftable_at_zero]),
    ("reftable unaligned", &[reftable_unaligned]),
    ("reftable of no clusters", &[reftable_of_no_clusters]),
    ("block missing", &[block_missing]),
    ("block outside", &[block_outside]),
    ("block in data", &[block_in_data]),
    ("block twice", &[block_twice]),
    ("block with reserved bits", &[block_with_reserved_bits]),
    ("block unaligned", &[block_unaligned]),
    ("zero out of place", &[zero_out_of_place]),
    ("snapshot incomplete", &[snapshot_incomplete]),
    ("snapshot half complete", &[snapshot_half_complete]),
    ("snapshot extra too large", &[snapshot_extra_too_large]),
    ("dirty", &[dirty]),
    ("corrupt", &[corrupt]),
    ("table twice", &[table_twice]),
    ("data twice", &[data_twice]),
    ("leaks, flags", &[leaks, all_flags_inverted]),
    ("dirty, high, low, flags", &[dirty, too_high, first_counts_zero, flags_flipped]),
    ("corrupt, leaks, low", &[corrupt, leaks, too_low]),
    ("leaks, block missing, snapshot", &[leaks, block_missing, snapshot_incomplete]),
    ("flags, reftable at 0, zero", &[flags_flipped, reftable_at_zero, zero_out_of_place]),
    ("extra, first zero, leaks", &[leaks, snapshot_extra_too_large, first_counts_zero]),
    ("low, flags, extra", &[too_low, all_flags_inverted, snapshot_extra_too_large]),
    ("data twice, leaks, dirty", &[data_twice, leaks, dirty]),
    ("table twice, low", &[table_twice, too_low]),
    ("L1 entry zeroed", &[l1_zeroed]),
    ("L1 entry beyond the end", &[l1_beyond]),
    ("L1 entry inside a cluster", &[l1_inside_cluster]),
    ("L1 entry with reserved bits", &[l1_reserved]),
    ("entry with reserved bits", &[entry_reserved]),
    ("entry inside a cluster", &[entry_inside_cluster]),
    ("entry beyond the end", &[entry_beyond]),
    ("compressed with COPIED", &[compressed_copied]),
    ("snapshot L1 beyond the end", &[snapshot_l1_beyond]),
    ("snapshot id twice", &[snapshot_id_twice]),
    ("bitmap table beyond the end", &[bitmap_table_beyond]),
    ("leaks, L1 entry beyond", &[leaks, l1_beyond]),
    ("low, L1 entry zeroed, dirty", &[too_low, l1_zeroed, dirty]),
    ("data twice, entry beyond, leaks", &[data_twice, entry_beyond, leaks]),
];

/// Every damage that a base can take, alone and combined.
pub fn damages(base: &'static Sound) -> Vec<Broken> {
    let mut all = Vec::new();
    for (what, damages) in DAMAGES {
        let mut bytes = base.bytes.clone();
        // The damages to counts come before the one that makes them unreadable.
        if damages.iter().all(|damage| damage(&mut bytes)) {
            let name = format!("{}: {what}", base.name);
            all.push(Broken { name, bytes, sound: &base.bytes });
        }
    }
    all
}
