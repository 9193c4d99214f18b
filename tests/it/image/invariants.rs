//! The two invariants of every crash image, checked with code that shares nothing with the engine.
//!
//! I1: the stored refcount of every cluster is at least the number of references to it.
//! I2: an entry with COPIED set is the only reference to its cluster.

use std::collections::HashMap;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

struct Reader<'a> {
    bytes: &'a [u8],
    cluster: u64,
    references: HashMap<u64, u64>,
    /// Clusters that an entry with COPIED refers to, and where that entry is.
    alone: Vec<(u64, String)>,
}

impl Reader<'_> {
    fn number(&self, at: u64, bytes: u64) -> u64 {
        let byte = |n| self.bytes.get((at + n) as usize).copied().unwrap_or(0);
        (0..bytes).fold(0, |value, n| value << 8 | u64::from(byte(n)))
    }

    fn refer(&mut self, at: u64, bytes: u64) {
        if bytes > 0 {
            for cluster in at / self.cluster..=(at + bytes - 1) / self.cluster {
                *self.references.entry(cluster).or_default() += 1;
            }
        }
    }

    fn walk_l1(&mut self, at: u64, entries: u64, extended: bool, active: bool, data_file: bool) {
        self.refer(at, entries * 8);
        for n in 0..entries {
            let entry = self.number(at + n * 8, 8);
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            self.refer(table, self.cluster);
            if entry & COPIED != 0 && active {
                self.alone.push((table / self.cluster, format!("L1 entry {n}")));
            }
            self.walk_l2(table, if extended { 16 } else { 8 }, active, data_file);
        }
    }

    fn walk_l2(&mut self, table: u64, width: u64, active: bool, data_file: bool) {
        for n in 0..self.cluster / width {
            let entry = self.number(table + n * width, 8);
            if entry & COMPRESSED != 0 {
                let x = 62 - (self.cluster.trailing_zeros() - 8);
                let offset = entry & ((1 << x) - 1);
                let sectors = (entry & (COMPRESSED - 1)) >> x;
                self.refer(offset, (sectors + 1) * 512 - offset % 512);
            } else if entry & OFFSET != 0 && !data_file {
                let host = entry & OFFSET;
                assert_eq!(host % self.cluster, 0, "L2 entry {n} of the table at {table:#x}");
                self.refer(host, self.cluster);
                if entry & COPIED != 0 && active {
                    let what = format!("L2 entry {n} of the table at {table:#x}");
                    self.alone.push((host / self.cluster, what));
                }
            }
        }
    }

    fn refcount(&self, cluster: u64) -> u64 {
        let order = if self.number(4, 4) >= 3 { self.number(96, 4) } else { 4 };
        let per_block = (self.cluster * 8) >> order;
        let (index, entry) = (cluster / per_block, cluster % per_block);
        if index >= self.number(56, 4) * self.cluster / 8 {
            return 0;
        }
        let block = self.number(self.number(48, 8) + index * 8, 8);
        if block == 0 {
            return 0;
        }
        if order >= 3 {
            let bytes = 1 << (order - 3);
            return self.number(block + entry * bytes, bytes);
        }
        let per_byte = 8 >> order;
        let byte = self.number(block + entry / per_byte, 1);
        byte >> ((entry % per_byte) << order) & ((1 << (1 << order)) - 1)
    }
}

/// What is wrong with the invariants in an image; `None`: nothing. While the dirty bit is set,
/// refcounts promise nothing.
pub fn violation(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader { bytes, cluster: 0, references: HashMap::new(), alone: Vec::new() };
    assert_eq!(reader.number(0, 4), 0x5146_49fb, "magic");
    reader.cluster = 1 << reader.number(20, 4);
    let incompatible = if reader.number(4, 4) >= 3 { reader.number(72, 8) } else { 0 };
    if incompatible & 2 != 0 {
        return Some("the image is marked corrupt".into());
    }
    let (extended, data_file) = (incompatible & 16 != 0, incompatible & 4 != 0);
    reader.refer(0, reader.cluster);
    let (reftable, clusters) = (reader.number(48, 8), reader.number(56, 4));
    reader.refer(reftable, clusters * reader.cluster);
    for n in 0..clusters * reader.cluster / 8 {
        let block = reader.number(reftable + n * 8, 8);
        if block != 0 {
            reader.refer(block, reader.cluster);
        }
    }
    reader.walk_l1(reader.number(40, 8), reader.number(36, 4), extended, true, data_file);
    let (mut at, snapshots) = (reader.number(64, 8), reader.number(60, 4));
    let table = at;
    for _ in 0..snapshots {
        at = at.next_multiple_of(8);
        let (l1, entries) = (reader.number(at, 8), reader.number(at + 8, 4));
        reader.walk_l1(l1, entries, extended, false, data_file);
        at +=
            40 + reader.number(at + 36, 4) + reader.number(at + 12, 2) + reader.number(at + 14, 2);
    }
    reader.refer(table, at - table);
    if incompatible & 1 == 0 {
        for (&cluster, &references) in &reader.references {
            let count = reader.refcount(cluster);
            if count < references {
                return Some(format!("I1: cluster {cluster}: {count} counted, {references} used"));
            }
        }
    }
    reader.alone.iter().find_map(|(cluster, what)| {
        let references = reader.references[cluster];
        (references > 1)
            .then(|| format!("I2: {what}: cluster {cluster} is used {references} times"))
    })
}
