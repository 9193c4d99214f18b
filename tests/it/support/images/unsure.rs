//! Guest clusters that are in metadata, or are mapped by a table that is also something else: what they read as changes
//! with every write to the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::images::bytes::{COMPRESSED, OFFSET_MASK};
use crate::support::images::reader::{Disk, Reader};

/// Bits of an L1 entry that are reserved: what such an entry points to is not defined.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;

/// What a cluster is used as: one bit for each.
mod role {
    pub const HEADER: u8 = 1;
    pub const COUNTS: u8 = 2;
    pub const L1: u8 = 4;
    pub const L2: u8 = 8;
    pub const OTHER: u8 = 16;
}

impl Reader<'_> {
    /// The guest clusters, each with the number of its disk, whose bytes or tables are used as something else too.
    pub fn unsure(&self) -> BTreeSet<(usize, u64)> {
        let roles = self.roles();
        let is_other = |at: u64, length: u64, own: u8| {
            let last = at.saturating_add(length.max(1) - 1) / self.cluster;
            (at / self.cluster..=last.min(self.clusters()))
                .any(|cluster| roles.get(&cluster).is_some_and(|roles| roles & !own != 0))
        };
        let mut found = BTreeSet::new();
        for (number, disk) in self.disks().into_iter().enumerate() {
            let mixed = is_other(disk.l1, disk.entries * 8, role::L1);
            for guest in 0..disk.size.div_ceil(self.cluster) {
                let mixed = mixed || self.has_reserved_bits(disk, guest);
                let Some((table, entry)) = self.mapping(disk, guest) else {
                    if mixed {
                        found.insert((number, guest));
                    }
                    continue;
                };
                let (at, length) = match entry & COMPRESSED {
                    0 => (entry & OFFSET_MASK, self.cluster),
                    _ => self.extent(entry),
                };
                let leads = at != 0 && is_other(at, length, 0);
                if mixed || leads || is_other(table, self.cluster, role::L2) {
                    found.insert((number, guest));
                }
            }
        }
        found
    }

    /// Whether the L1 entry for a guest cluster has reserved bits.
    fn has_reserved_bits(&self, disk: Disk, guest: u64) -> bool {
        let index = guest / (self.cluster / self.width());
        self.number(disk.l1 + 8 * index, 8) & L1_RESERVED != 0
    }

    /// The L2 table and the entry for a guest cluster, where there is a table.
    fn mapping(&self, disk: Disk, guest: u64) -> Option<(u64, u64)> {
        let per_table = self.cluster / self.width();
        let l1_index = guest / per_table;
        let table = self.number(disk.l1 + 8 * l1_index, 8) & OFFSET_MASK;
        let has = l1_index < disk.entries && table != 0 && self.aligned(table);
        has.then(|| (table, self.number(table + self.width() * (guest % per_table), 8)))
    }

    /// What each cluster of the file is used as, guest data aside.
    fn roles(&self) -> BTreeMap<u64, u8> {
        let mut roles: BTreeMap<u64, u8> = BTreeMap::new();
        let mut add = |at: u64, length: u64, role: u8| {
            let end = at.saturating_add(length).min(self.clusters() * self.cluster);
            for cluster in at / self.cluster..end.div_ceil(self.cluster) {
                *roles.entry(cluster).or_default() |= role;
            }
        };
        add(0, 1, role::HEADER);
        add(self.number(48, 8), self.number(56, 4) * self.cluster, role::COUNTS);
        self.blocks().iter().for_each(|&block| add(block, self.cluster, role::COUNTS));
        for disk in self.disks() {
            add(disk.l1, disk.entries * 8, role::L1);
            self.tables(disk).iter().for_each(|&(_, table)| add(table, self.cluster, role::L2));
        }
        let table = self.number(64, 8);
        add(table, self.snapshot_table_end() - table, role::OTHER);
        self.extensions().for_each(|(at, length)| add(at, length, role::OTHER));
        roles
    }
}
