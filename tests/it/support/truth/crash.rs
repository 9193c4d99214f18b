//! Damage that cannot be distinguished from what a crash leaves.

use std::collections::BTreeMap;

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
        let is_dirty = self.damaged.head.as_ref().is_some_and(|head| head.incompatible & 1 != 0);
        let was_leaked = |at: usize| {
            let (entry, size) = (word(is, at), self.truth.head.cluster());
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
        };
        let cluster = self.truth.head.cluster() as usize;
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
        let blank = |at: usize| {
            let table = (word(was, at) & OFFSET_MASK) / cluster as u64;
            let [before, table] = [was, is].map(|bytes| slice(bytes, table, cluster as u64));
            // Without a backing file, what is marked as zero reads as if there were no table.
            let zero = |word: &[u8]| word[..7].iter().all(|&byte| byte == 0) && word[7] < 2;
            let blank =
                !self.is_backed() && !self.truth.head.extended() && table.chunks_exact(8).all(zero);
            // What has little of a table left in it cannot be recognised as one.
            let pairs = before.chunks_exact(width).zip(table.chunks_exact(width));
            let same = pairs.filter(|(a, b)| a == b && !zero(a));
            let entries = before.chunks_exact(width).filter(|word| !zero(word)).count();
            // A table that is free: so it is after a snapshot was deleted.
            let freed = count(&self.damaged, word(was, at) & OFFSET_MASK) == Some(0);
            let gone = word(is, at) == 0 && (freed || blank || same.count() * 3 < entries * 2);
            gone || self.is_like_a_table(word(is, at) & OFFSET_MASK)
        };
        // What nobody needs can be cut off: data whose table is gone, or whose entry.
        let is_needed = |role: &Role| match role {
            Role::Data(disk, sectors) => {
                let (guest, span) = (sectors.start * 512, self.truth.head.span());
                let pointer = (self.truth.disks[*disk].l1 + 8 * (guest / span)) as usize;
                let table = (word(was, pointer) & OFFSET_MASK) as usize;
                let at = table + (guest % span) as usize / cluster * width;
                let is_lost = at + width <= is.len() && word(was, at) != 0 && zeroes(at);
                !is_lost && !blank(pointer)
            }
            _ => true,
        };
        let short = (is.len().div_ceil(cluster)..self.truth.roles.len())
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
                    Some(Role::L1(_)) => {
                        let changed: Vec<usize> = (sector..end)
                            .step_by(8)
                            .filter(|&at| word(was, at) != word(is, at))
                            .collect();
                        let sorted = |bytes: &[u8]| {
                            let mut all: Vec<u64> =
                                changed.iter().map(|&at| word(bytes, at)).collect();
                            all.sort_unstable();
                            all
                        };
                        // Entries that changed places are right in themselves.
                        sorted(was) == sorted(is) || changed.iter().copied().all(blank)
                    }
                    // No table any more, and nothing points to it.
                    Some(&Role::L2(disk, index))
                        if blank((self.truth.disks[disk].l1 + 8 * index) as usize) =>
                    {
                        true
                    }
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
                            && changed.iter().all(|&at| zeroes(at) || was_leaked(at) || moved(at))
                    }
                    _ => false,
                }
            })
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
