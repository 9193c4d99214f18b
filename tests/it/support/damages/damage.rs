//! Every structure of an image times everything that can happen to a number in it.

use std::sync::OnceLock;

use crate::support::damages::matrix::Case;
use crate::support::images::builder::{Builder, Built, Content, Snapshot};
use crate::support::images::bytes::{self, OFFSET_MASK, peek, poke};
use crate::support::images::fields::{self, Target, owners};
use crate::support::rng::Rng;

/// An image, with the names of its snapshots.
#[derive(Debug)]
pub struct Base {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub data: Option<Vec<u8>>,
    pub snapshots: Vec<&'static str>,
    /// qemu-img needs the secret.
    pub encrypted: bool,
    /// Guest clusters whose entries get damaged, by what they hold.
    guest: &'static [(&'static str, u64)],
}

/// A damaged image.
#[derive(Debug)]
pub struct Damaged {
    /// Base, structure and damage: `plain/L1[0]/off by 512`.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Guest clusters of an image with `contents`.
const MIXED: &[(&str, u64)] =
    &[("data", 0), ("unallocated", 6), ("zero", 7), ("zero over data", 8), ("compressed", 9)];
/// Of one of version 2.
const OLD: &[(&str, u64)] = &[("data", 0), ("unallocated", 6), ("compressed", 9)];
/// Of one with subclusters.
const EXTENDED: &[(&str, u64)] =
    &[("data", 0), ("unallocated", 6), ("zero", 7), ("subclusters", 8), ("compressed", 9)];
/// Of one that begins with data and does not fill its L2 table.
const SPARSE: &[(&str, u64)] = &[("data", 0), ("unallocated", 30)];
/// Of one that is all data.
const FULL: &[(&str, u64)] = &[("data", 0)];

fn contents(builder: Builder) -> Builder {
    builder
        .data(0..5, 0x11)
        .at(7, Content::Zero)
        .at(8, Content::ZeroOver(0x22))
        .at(9, Content::Compressed(0x33))
        .at(10, Content::Compressed(0x44))
        .at(700, Content::Data(0x55))
}

/// The images that get damaged.
pub fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(all_bases)
}

/// A LUKS image of qemu-img's, with a small header.
fn encrypted() -> Base {
    let cipher = "cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain64";
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let case = Case::encrypted(&format!("cluster_size=4k,{options},encrypt.{cipher}"));
    let bytes = case.image.bytes();
    Base { name: "key", bytes, data: None, snapshots: Vec::new(), encrypted: true, guest: SPARSE }
}

fn all_bases() -> Vec<Base> {
    let base = |name, builder: Builder, guest, snapshots: &[&'static str]| {
        let Built { bytes, data } = builder.build();
        Base { name, bytes, data, snapshots: snapshots.to_vec(), encrypted: false, guest }
    };
    let own = Snapshot::own("own", &[(0, Content::Data(0x66)), (20, Content::Data(0x67))]);
    let vm = Snapshot { vm_clusters: 2, ..own.clone() };
    let subclusters = Content::Subclusters { allocated: 0xff, zero: 0xff00_0000, byte: 0x88 };
    let mut old = contents(Builder::new(4 << 20)).version(2).snapshot(Snapshot::shared("shared"));
    old.contents.retain(|(_, c)| !matches!(c, Content::Zero | Content::ZeroOver(_)));
    vec![
        base("plain", contents(Builder::new(4 << 20)).feature_names(), MIXED, &[]),
        base(
            "snapshots",
            contents(Builder::new(4 << 20)).snapshot(Snapshot::shared("shared")).snapshot(vm),
            MIXED,
            &["shared", "own"],
        ),
        base(
            "bitmaps",
            contents(Builder::new(4 << 20)).bitmap("day", 12, 0xf0).bitmap("hour", 16, 1),
            MIXED,
            &[],
        ),
        base(
            "subclusters",
            Builder::new(8 << 20)
                .cluster_bits(14)
                .extended_l2()
                .data(0..3, 0x11)
                .at(7, Content::Zero)
                .at(8, subclusters)
                .at(9, Content::Compressed(0x33)),
            EXTENDED,
            &[],
        ),
        base("version 2", old, OLD, &["shared"]),
        base(
            "wide counts",
            Builder::new(1 << 20).cluster_bits(9).refcount_order(6).data(0..200, 0x11),
            FULL,
            &[],
        ),
        base(
            "1-bit counts",
            Builder::new(1 << 20).cluster_bits(9).refcount_order(0).data(0..200, 0x11),
            FULL,
            &[],
        ),
        base(
            "data file",
            Builder::new(1 << 20).data_file("data.raw", true).data(0..5, 0x11),
            SPARSE,
            &[],
        ),
        encrypted(),
    ]
}

/// Everything that can happen to a base.
pub fn damages(base: &Base) -> Vec<Damaged> {
    let image = &base.bytes;
    let mut targets = fields::entries(image, base.guest);
    match base.name {
        "plain" | "version 2" => targets.extend(fields::header(image)),
        "snapshots" => targets.extend(fields::snapshots(image)),
        "bitmaps" => targets.extend(fields::bitmaps(image)),
        "key" => targets.extend(fields::crypto_pointer(image)),
        _ => {}
    }
    let mut all: Vec<_> = targets.iter().flat_map(|t| mutations(base, t)).collect();
    all.extend(blocks(base));
    all
}

/// Everything that can happen to one number.
fn mutations(base: &Base, target: &Target) -> Vec<Damaged> {
    let image = &base.bytes;
    let bits = 8 * target.width as u32;
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let old = peek(image, target.at, target.width);
    let mut values = vec![
        ("zeroed".to_owned(), 0),
        ("maximum".into(), mask),
        ("off by 512".into(), old.wrapping_add(512)),
        ("off by one".into(), old.wrapping_add(1)),
    ];
    let flips = [0, 9, 12, 55, 58, 62, 63].into_iter().filter(|bit| *bit < bits);
    values.extend(flips.map(|bit| (format!("bit {bit} flipped"), old ^ (1 << bit))));
    if bits < 63 {
        values.push(("top bit flipped".into(), old ^ (1 << (bits - 1))));
    }
    if target.offset {
        let flags = old & !OFFSET_MASK;
        let cluster = bytes::cluster_size(image);
        let end = (image.len() as u64).next_multiple_of(cluster);
        values.push(("at the end of the file".into(), end | flags));
        values.push(("beyond the end of the file".into(), (end + 64 * cluster) | flags));
        values.push(("far beyond the end".into(), 0x00f0_0000_0000_0000 | flags));
        for (name, offset) in owners(image) {
            values.push((format!("at {name}"), offset | flags));
        }
    }
    let mut all = Vec::new();
    let mut seen = vec![old];
    for (what, value) in values {
        if seen.contains(&(value & mask)) {
            continue;
        }
        seen.push(value & mask);
        let mut damaged = image.clone();
        poke(&mut damaged, target.at, target.width, value & mask);
        let name = format!("{}/{}/{what}", base.name, target.name);
        all.push(Damaged { name, bytes: damaged });
    }
    all
}

/// Whole clusters zeroed or filled, and a file cut short.
fn blocks(base: &Base) -> Vec<Damaged> {
    let image = &base.bytes;
    let cluster = bytes::cluster_size(image) as usize;
    let mut all = Vec::new();
    for (owner, at) in owners(image).into_iter().filter(|(_, at)| *at != 0) {
        for (what, byte) in
            [("zeroed", 0u8), ("filled with ones", 0xff), ("filled with 0x5a", 0x5a)]
        {
            let mut bytes = image.clone();
            bytes[at as usize..at as usize + cluster].fill(byte);
            if owner != "data" {
                all.push(Damaged { name: format!("{}/whole {owner}/{what}", base.name), bytes });
            }
        }
    }
    for (what, keep) in [
        ("one byte", image.len() - 1),
        ("one cluster", image.len() - cluster),
        ("half", image.len() / 2),
        ("all but a header", 112),
    ] {
        let name = format!("{}/file/cut by {what}", base.name);
        all.push(Damaged { name, bytes: image[..keep].to_vec() });
    }
    let mut bytes = image.clone();
    bytes.resize(image.len() + 10 * cluster, 0x5a);
    all.push(Damaged { name: format!("{}/file/junk after the end", base.name), bytes });
    all
}

/// Numbers all over the metadata of an image, changed at random.
pub fn scrambled(base: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut image = base.to_vec();
    let cluster = bytes::cluster_size(base);
    for _ in 0..=rng.below(6) {
        // Most numbers are places of clusters, with or without flags.
        let clusters = image.len() as u64 / cluster;
        let value = match rng.below(6) {
            0 => rng.next(),
            1 => 0,
            2 => rng.below(4),
            3 => rng.below(clusters + 2) * cluster,
            4 => (rng.below(clusters) * cluster) | (1 << 63),
            _ => rng.below(image.len() as u64) | (1 << 62),
        };
        let at = match rng.below(3) {
            0 => 24 + rng.below(80),
            _ => rng.below(image.len() as u64 / 8 - 1) * 8,
        };
        poke(&mut image, at as usize, 8, value);
    }
    image
}
