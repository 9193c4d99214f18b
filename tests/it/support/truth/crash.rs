//! Damage that cannot be distinguished from what a crash leaves.

use std::collections::BTreeMap;
use std::ops::Range;

use super::judge::{Case, count, slice, word};
use super::roles::Role;
use crate::support::images::bytes::{COMPRESSED, COPIED, OFFSET_MASK};

impl Case<'_> {
    /// Whether the damage cannot be distinguished from what a crash leaves: entries of L2 tables that are zero, but not a sector of
    /// them; entries that point to what a crash had left; and wrong refcounts.
    pub(super) fn is_like_a_crash(&self) -> bool {
        let (was, is) = (self.truth.view.bytes, self.damaged.bytes);
        let width = self.truth.head.entry() as usize;
        // Without a cluster; subclusters can be zero.
        let zeroes =
            |at: usize| word(is, at) & !1 == 0 && (width == 8 || word(is, at + 8) as u32 == 0);
        let cluster = self.truth.head.cluster() as usize;
        let was_leaked = |at: usize| self.was_leaked(word(is, at));
        // Tables that were lost before they became this position's data.
        let was_lost = |at: usize| {
            let entry = word(is, at);
            let roles = self.truth.roles.get(((entry & OFFSET_MASK) / cluster as u64) as usize);
            let is_lost = |role: &Role| match role {
                Role::L2(disk, index) => self.is_lost_as_in_a_crash(*disk, *index),
                _ => false,
            };
            entry & COMPRESSED == 0
                && entry & COPIED != 0
                && roles.is_some_and(|roles| !roles.is_empty() && roles.iter().all(is_lost))
        };
        // The cluster in which an entry's data begins.
        let host = |entry: u64| match entry & COMPRESSED {
            0 => (entry & OFFSET_MASK) / cluster as u64,
            _ => (entry & ((1 << (62 - (self.truth.head.cluster_bits - 8))) - 1)) / cluster as u64,
        };
        // Entries that changed places.
        let entries = |bytes: &[u8]| {
            let is_table = |roles: &[Role]| roles.iter().any(|role| matches!(role, Role::L2(..)));
            let tables = self.truth.roles.iter().enumerate().filter(|(_, roles)| is_table(roles));
            let mut found = BTreeMap::new();
            for (table, _) in tables {
                for entry in slice(bytes, table as u64, cluster as u64).chunks_exact(width) {
                    *found.entry(host(word(entry, 0))).or_insert(0) += 1u64;
                }
            }
            found
        };
        let (before, after) = (entries(was), entries(is));
        let lost = |disk: usize, index: u64| self.is_lost_as_in_a_crash(disk, index);
        // What nobody needs can be cut off: data whose table is gone, or whose entry.
        let is_needed = |role: &Role| match role {
            Role::Data(disk, sectors) => {
                let (guest, span) = (sectors.start * 512, self.truth.head.span());
                let index = guest / span;
                let pointer = (self.truth.disks[*disk].l1 + 8 * index) as usize;
                let table = (word(was, pointer) & OFFSET_MASK) as usize;
                let at = table + (guest % span) as usize / cluster * width;
                let is_lost = at + width <= is.len() && word(was, at) != 0 && zeroes(at);
                !is_lost && !lost(*disk, index)
            }
            _ => true,
        };
        // Compressed data that is cut off within a sector or less shows in the data alone.
        let short = (is.len().div_ceil(cluster)..self.truth.roles.len())
            .filter(|number| was.len() - number * cluster >= 512)
            .all(|number| !self.truth.roles[number].iter().any(is_needed));
        short
            && (0..was.len().min(is.len())).step_by(512).all(|sector| {
                let end = (sector + 512).min(was.len()).min(is.len());
                let (old, new) = (&was[sector..end], &is[sector..end]);
                if old == new {
                    return true;
                }
                let roles = &self.truth.roles[sector / self.truth.head.cluster() as usize];
                match roles.first() {
                    Some(
                        Role::Header
                        | Role::RefcountTable
                        | Role::RefcountBlock
                        | Role::Bitmap
                        | Role::Data(..),
                    )
                    | None => true,
                    // Nothing shows whether key material is right.
                    Some(Role::CryptoHeader) => self.is_key_material(sector),
                    // Nor what follows the entries of the snapshot table.
                    Some(Role::SnapshotTable) => self.is_after_snapshots(sector),
                    Some(Role::L1(_)) => self.points_as_after_a_crash(sector..end),
                    // No table any more, and nothing points to it.
                    Some(&Role::L2(disk, index)) if lost(disk, index) => true,
                    Some(Role::L2(..)) => {
                        let all = (sector..end).step_by(width);
                        let changed: Vec<usize> = all
                            .filter(|&at| was.get(at..at + width) != is.get(at..at + width))
                            .collect();
                        let flags = |at: usize| (word(was, at) ^ word(is, at)) & !COPIED == 0;
                        let changed: Vec<usize> =
                            changed.into_iter().filter(|&at| !flags(at)).collect();
                        let moved = |at: usize| {
                            let times = |entries: &BTreeMap<u64, u64>| {
                                entries.get(&host(word(is, at))).copied().unwrap_or(0)
                            };
                            times(&before) > 0 && times(&before) >= times(&after)
                        };
                        changed.len() < 512 / width
                            && changed.iter().all(|&at| {
                                zeroes(at) || was_leaked(at) || was_lost(at) || moved(at)
                            })
                    }
                    _ => false,
                }
            })
    }

    /// Whether an offset within the cluster of the snapshot table is after its entries.
    fn is_after_snapshots(&self, at: usize) -> bool {
        at as u64 >= self.truth.view.snapshot_table_end()
    }

    /// Whether an offset within the encryption header is after its fields.
    fn is_key_material(&self, at: usize) -> bool {
        const FIELDS: usize = 592;
        let is_header = |roles: &Vec<Role>| roles.first() == Some(&Role::CryptoHeader);
        let first = self.truth.roles.iter().position(is_header);
        first.is_some_and(|first| at >= first * self.truth.head.cluster() as usize + FIELDS)
    }

    /// Whether an entry points to clusters that were leaked before the damage.
    fn was_leaked(&self, entry: u64) -> bool {
        let size = self.truth.head.cluster();
        let is_dirty = self.damaged.head.as_ref().is_some_and(|head| head.incompatible & 1 != 0);
        let nobodys = |host: u64| {
            let roles = self.truth.roles.get((host / size) as usize);
            let counted = count(&self.damaged, host);
            let free = is_dirty && counted == Some(0);
            roles.is_some_and(Vec::is_empty) && (counted == Some(1) || free)
        };
        if entry & COMPRESSED == 0 {
            let host = entry & OFFSET_MASK;
            return host % size == 0 && nobodys(host) && entry & COPIED != 0;
        }
        let shift = 62 - (self.truth.head.cluster_bits - 8);
        let host = entry & ((1 << shift) - 1);
        let end = (host / 512 + ((entry & !COMPRESSED) >> shift)) * 512;
        (host / size..=end / size).all(|number| nobodys(number * size))
    }

    /// Whether what changed in a part of an L1 table is what a crash can leave: entries that
    /// changed places are right in themselves; others are zero or point to what was leaked, and
    /// their tables cannot be recognised.
    fn points_as_after_a_crash(&self, part: Range<usize>) -> bool {
        let (was, is) = (self.truth.view.bytes, self.damaged.bytes);
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for at in part.step_by(8) {
            let (old, now) = (word(was, at), word(is, at));
            if (old ^ now) & !COPIED != 0 {
                gone.push(old & !COPIED);
                new.push(now);
            }
        }
        new.retain(|now| match gone.iter().position(|old| *old == now & !COPIED) {
            Some(place) => {
                gone.swap_remove(place);
                false
            }
            None => *now != 0,
        });
        let kept = gone.iter().filter(|&&old| old != 0 && !self.is_unrecognisable(old));
        kept.count() <= new.len() && new.iter().all(|&now| self.is_left_by_a_crash(now))
    }

    /// Whether an L1 entry can be what a crash left: it points to a leaked table, or to what has
    /// all signs of one.
    fn is_left_by_a_crash(&self, entry: u64) -> bool {
        self.was_leaked(entry) || self.is_like_a_table(entry & OFFSET_MASK)
    }

    /// Whether the damage left no pointer to an L2 table, as a crash can, and nothing by which the
    /// table is recognised.
    pub(super) fn is_lost_as_in_a_crash(&self, disk: usize, index: u64) -> bool {
        let (was, is) = (self.truth.view.bytes, self.damaged.bytes);
        let (l1, entries) = (self.truth.disks[disk].l1, self.truth.disks[disk].entries);
        let at = (l1 + 8 * index) as usize;
        let entry = word(was, at);
        let same = |index: u64| (word(is, (l1 + 8 * index) as usize) ^ entry) & !COPIED == 0;
        let now = word(is, at);
        entry != 0
            && !(0..entries).any(same)
            && (self.is_unrecognisable(entry) || now != 0 && self.is_left_by_a_crash(now))
    }

    /// Whether nothing shows that a cluster to which no L1 entry points is an L2 table.
    fn is_unrecognisable(&self, entry: u64) -> bool {
        let (head, at) = (&self.truth.head, entry & OFFSET_MASK);
        let cluster = head.cluster();
        let [before, table] = [self.truth.view.bytes, self.damaged.bytes]
            .map(|bytes| slice(bytes, at / cluster, cluster));
        let width = head.entry() as usize;
        // Without a backing file, what is marked as zero reads as if there were no table.
        let zero = |entry: &[u8]| match entry.len() {
            8 => word(entry, 0) < 2,
            _ => word(entry, 0) == 0 && word(entry, 8) as u32 == 0,
        };
        let is_blank = !self.is_backed() && table.chunks_exact(width).all(zero);
        // What has little of a table left in it cannot be recognised as one.
        let pairs = before.chunks_exact(width).zip(table.chunks_exact(width));
        let same = pairs.filter(|(a, b)| a == b && !zero(a)).count();
        let entries = before.chunks_exact(width).filter(|entry| !zero(entry)).count();
        // A table that is free: so it is after a snapshot was deleted.
        let is_free = count(&self.damaged, at) == Some(0);
        // Data of a position that the damage gave it: nothing reads guest data for signs of tables.
        let is_data = || {
            let at = at..at + cluster;
            let reads = self.before.iter().flatten();
            reads.filter_map(|segment| segment.host).any(|host| at.contains(&host))
        };
        is_free || is_blank || same * 3 < entries * 2 || is_data()
    }

    /// Whether guest data at this offset has all signs of an L2 table: what points to it is not known to be wrong.
    fn is_like_a_table(&self, at: u64) -> bool {
        let cluster = self.truth.head.cluster();
        let roles = self.truth.roles.get((at / cluster) as usize);
        let is_data =
            roles.is_some_and(|roles| roles.iter().all(|role| matches!(role, Role::Data(..))));
        let length = self.damaged.bytes.len() as u64;
        let mut words = slice(self.damaged.bytes, at / cluster, cluster).chunks_exact(8);
        is_data
            && words.all(|entry| {
                let host = word(entry, 0) & !COPIED;
                host & OFFSET_MASK == host && host % cluster == 0 && host < length
            })
    }
}
