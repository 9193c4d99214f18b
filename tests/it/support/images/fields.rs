//! Where the numbers of every structure are in an image.

use crate::support::images::bytes::{
    self, HEADER, OFFSET_MASK, be64, header as field, l2_entry_at,
};
use crate::support::images::luks;

/// A number in an image.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub at: usize,
    pub width: usize,
    /// It is, or holds, a host offset.
    pub offset: bool,
}

impl Target {
    pub fn number(name: impl Into<String>, at: usize, width: usize) -> Self {
        Self { name: name.into(), at, width, offset: false }
    }

    pub fn offset(name: impl Into<String>, at: usize) -> Self {
        Self { name: name.into(), at, width: 8, offset: true }
    }
}

/// Every field of the header, and the first extension's type and length.
pub fn header(image: &[u8]) -> Vec<Target> {
    let v3 = field(image, "version") >= 3;
    let mut targets: Vec<_> = HEADER
        .iter()
        .filter(|f| v3 || f.at < 72)
        .map(|f| Target {
            name: format!("header {}", f.name),
            at: f.at,
            width: f.width,
            offset: f.name.ends_with("_offset"),
        })
        .collect();
    let first = if v3 { field(image, "header_length") as usize } else { 72 };
    targets.push(Target::number("extension type", first, 4));
    targets.push(Target::number("extension length", first + 4, 4));
    targets
}

/// L1, L2, refcount table and refcount block entries; `guest` names guest clusters by what they hold.
pub fn entries(image: &[u8], guest: &[(&str, u64)]) -> Vec<Target> {
    let wide = bytes::l2_entry_size(image) == 16;
    let mut targets = vec![
        Target::offset("L1[0]", bytes::l1_entry_at(image, 0)),
        Target::offset("reftable[0]", bytes::reftable_entry_at(image, 0)),
        Target::offset("reftable[1]", bytes::reftable_entry_at(image, 1)),
    ];
    if field(image, "l1_size") > 1 {
        targets.push(Target::offset("L1[1]", bytes::l1_entry_at(image, 1)));
    }
    for (name, cluster) in guest {
        let guest = cluster * bytes::cluster_size(image);
        let at = l2_entry_at(image, guest);
        targets.push(Target::offset(format!("L2 {name}"), at));
        if wide {
            targets.push(Target::number(format!("L2 bitmap {name}"), at + 8, 8));
        }
    }
    targets.extend(count_targets(image));
    targets
}

/// The offset part of the entry at `at`.
fn pointee(image: &[u8], at: usize) -> u64 {
    be64(image, at) & OFFSET_MASK
}

/// The clusters that own a role, by name.
pub fn owners(image: &[u8]) -> Vec<(&'static str, u64)> {
    let l1 = field(image, "l1_table_offset");
    vec![
        ("the header", 0),
        ("the L1 table", l1),
        ("an L2 table", pointee(image, l1 as usize)),
        ("a refcount block", bytes::refblock_at(image, 0) as u64),
        ("the refcount table", field(image, "refcount_table_offset")),
        ("data", pointee(image, l2_entry_at(image, bytes::cluster_size(image)))),
    ]
}

/// The counts of one cluster of each role, where they are whole bytes.
fn count_targets(image: &[u8]) -> Vec<Target> {
    let bits = bytes::refcount_bits(image);
    if bits < 8 {
        return Vec::new();
    }
    let per_block = bytes::cluster_size(image) * 8 / bits;
    owners(image)
        .into_iter()
        .map(|(name, offset)| {
            let cluster = offset / bytes::cluster_size(image);
            let block = bytes::refblock_at(image, cluster / per_block);
            let at = block + (cluster % per_block * bits / 8) as usize;
            Target::number(format!("count of {name}"), at, (bits / 8) as usize)
        })
        .collect()
}

/// Every field of the snapshot table, and an entry of each snapshot's tables.
pub fn snapshots(image: &[u8]) -> Vec<Target> {
    let entries = bytes::snapshot_entries(image);
    let mut targets = vec![
        Target::offset("header snapshots_offset", 64),
        Target::number("header nb_snapshots", 60, 4),
    ];
    for (index, at) in entries.iter().enumerate() {
        let name = |field: &str| format!("snapshot[{index}] {field}");
        targets.push(Target::offset(name("l1_table_offset"), *at));
        for (field, offset, width) in [
            ("l1_size", 8, 4),
            ("id_str_size", 12, 2),
            ("name_size", 14, 2),
            ("date_sec", 16, 4),
            ("vm_state_size", 32, 4),
            ("extra_data_size", 36, 4),
            ("large vm_state_size", 40, 8),
            ("disk_size", 48, 8),
        ] {
            targets.push(Target::number(name(field), at + offset, width));
        }
        let l1 = be64(image, *at);
        targets.push(Target::offset(name("L1[0]"), l1 as usize));
        let own = bytes::l2_entry_through(image, l1, 0).expect("an L2 table");
        targets.push(Target::offset(name("L2 data"), own));
    }
    targets
}

/// Every field of the bitmaps extension and of the first directory entry, and a table entry.
pub fn bitmaps(image: &[u8]) -> Vec<Target> {
    let (ext, _) = bytes::extension(image, 0x2385_2875).expect("a bitmaps extension");
    let directory = be64(image, ext + 16) as usize;
    let table = be64(image, directory) as usize;
    vec![
        Target::number("bitmaps extension length", ext - 4, 4),
        Target::number("bitmaps count", ext, 4),
        Target::number("bitmaps reserved", ext + 4, 4),
        Target::number("bitmaps directory size", ext + 8, 8),
        Target::offset("bitmaps directory offset", ext + 16),
        Target::number("header autoclear_features", 88, 8),
        Target::offset("bitmap table offset", directory),
        Target::number("bitmap table size", directory + 8, 4),
        Target::number("bitmap flags", directory + 12, 4),
        Target::number("bitmap type", directory + 16, 1),
        Target::number("bitmap granularity", directory + 17, 1),
        Target::number("bitmap name size", directory + 18, 2),
        Target::number("bitmap extra data size", directory + 20, 4),
        Target::offset("bitmap table entry", table),
    ]
}

/// The pointer to the encryption header.
pub fn crypto_pointer(image: &[u8]) -> Vec<Target> {
    let (ext, _) = bytes::extension(image, 0x0537_be77).expect("an encryption extension");
    vec![
        Target::number("crypto extension length", ext - 4, 4),
        Target::offset("crypto header offset", ext),
        Target::number("crypto header length", ext + 8, 8),
    ]
}

/// Every field of the LUKS header and of its first two key slots, but for salts, digest and identifier.
pub fn luks(image: &[u8]) -> Vec<Target> {
    let (ext, _) = bytes::extension(image, 0x0537_be77).expect("an encryption extension");
    let header = be64(image, ext) as usize;
    let fields = luks::FIELDS.iter();
    let mut targets: Vec<_> = fields
        .map(|&(name, at, width)| Target::number(format!("LUKS {name}"), header + at, width))
        .collect();
    for slot in 0..2 {
        for (name, field) in [("state", 0), ("iterations", 4), ("key offset", 40), ("stripes", 44)]
        {
            let at = header + luks::slot_field(slot, field);
            targets.push(Target::number(format!("LUKS slot {slot} {name}"), at, 4));
        }
    }
    targets
}

/// The type and length of every header extension, and the data of those that are text.
pub fn extensions(image: &[u8]) -> Vec<Target> {
    let v3 = field(image, "version") >= 3;
    let mut at = if v3 { field(image, "header_length") as usize } else { 72 };
    let mut targets = Vec::new();
    loop {
        let (kind, length) = (bytes::be32(image, at), bytes::be32(image, at + 4) as usize);
        targets.push(Target::number(format!("extension {kind:#x} type"), at, 4));
        targets.push(Target::number(format!("extension {kind:#x} length"), at + 4, 4));
        if [0xe279_2aca, 0x4441_5441].contains(&kind) {
            targets.push(Target::number(
                format!("extension {kind:#x} data"),
                at + 8,
                length.min(8),
            ));
        }
        if kind == 0 {
            return targets;
        }
        at += 8 + length.next_multiple_of(8);
    }
}
