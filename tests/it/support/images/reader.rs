//! Reads an image by the specification, sharing no code with the library: what the guest sees, what is referenced,
//! what is counted, and which entries have COPIED.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::support::images::bytes::{COMPRESSED, COPIED, OFFSET_MASK};

/// No disk of these tests is larger: a larger one is not a snapshot's entry.
const LARGEST: u64 = 64 << 20;

/// What a guest cluster reads as; `None` where its entry points to nothing.
pub type Cluster = Option<Vec<u8>>;

/// An image that is being read. Bytes past the end of the file are zeroes.
pub struct Reader<'a> {
    bytes: &'a [u8],
    pub(super) cluster: u64,
    version: u64,
    order: u64,
    extended: bool,
    views: OnceCell<Vec<Vec<Cluster>>>,
}

/// An L1 table: its offset, its entries, and the size of the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) l1: u64,
    pub(super) entries: u64,
    pub(super) size: u64,
}

impl<'a> Reader<'a> {
    /// Starts reading; only the header's plain fields are looked at.
    pub fn new(bytes: &'a [u8]) -> Self {
        let views = OnceCell::new();
        let mut reader = Self { bytes, cluster: 0, version: 0, order: 4, extended: false, views };
        assert_eq!(reader.number(0, 4), 0x5146_49fb, "no magic number");
        reader.version = reader.number(4, 4);
        reader.cluster = 1 << reader.number(20, 4);
        if reader.version >= 3 {
            reader.order = reader.number(96, 4);
            reader.extended = reader.number(72, 8) & 0x10 != 0;
        }
        reader
    }

    pub(super) fn number(&self, at: u64, width: u64) -> u64 {
        let byte = |n| self.bytes.get(at.wrapping_add(n) as usize).copied().unwrap_or(0);
        (0..width).fold(0, |value, n| value << 8 | u64::from(byte(n)))
    }

    fn slice(&self, at: u64, length: u64) -> Vec<u8> {
        let end = (at.saturating_add(length)).min(self.bytes.len() as u64);
        let start = at.min(end);
        let mut bytes = self.bytes[start as usize..end as usize].to_vec();
        bytes.resize(length as usize, 0);
        bytes
    }

    pub(super) fn aligned(&self, offset: u64) -> bool {
        offset % self.cluster == 0 && offset != 0 && offset < self.bytes.len() as u64
    }

    /// The active disk and then every snapshot.
    pub(super) fn disks(&self) -> Vec<Disk> {
        let size = self.number(24, 8);
        let mut disks = vec![Disk { l1: self.number(40, 8), entries: self.number(36, 4), size }];
        let mut at = self.number(64, 8);
        for _ in 0..self.number(60, 4) {
            at = at.next_multiple_of(8);
            let extra = self.number(at + 36, 4);
            let own = if extra >= 16 { self.number(at + 48, 8) } else { size };
            let (l1, entries) = (self.number(at, 8), self.number(at + 8, 4));
            assert!(own <= LARGEST && entries * 8 <= LARGEST, "a wild snapshot of {own:#x} bytes");
            disks.push(Disk { l1, entries, size: own });
            at += 40 + extra + self.number(at + 12, 2) + self.number(at + 14, 2);
        }
        disks
    }

    /// The active disk and then every snapshot, cluster by cluster.
    pub fn views(&self) -> &[Vec<Cluster>] {
        let view = |disk: Disk| {
            (0..disk.size.div_ceil(self.cluster)).map(|guest| self.guest(disk, guest)).collect()
        };
        self.views.get_or_init(|| self.disks().into_iter().map(view).collect())
    }

    fn guest(&self, disk: Disk, guest: u64) -> Cluster {
        let per_table = self.cluster / self.width();
        let (l1_index, l2_index) = (guest / per_table, guest % per_table);
        if l1_index >= disk.entries {
            return None;
        }
        let table = self.number(disk.l1 + 8 * l1_index, 8) & OFFSET_MASK;
        if table == 0 {
            return Some(vec![0; self.cluster as usize]);
        }
        if !self.aligned(table) {
            return None;
        }
        let entry = self.number(table + self.width() * l2_index, 8);
        let host = entry & OFFSET_MASK;
        if entry & COMPRESSED != 0 {
            let (at, length) = self.extent(entry);
            return inflate_stored(&self.slice(at, length), self.cluster as usize);
        }
        if self.extended {
            return self.subclusters(host, self.number(table + 16 * l2_index + 8, 8));
        }
        if host == 0 || (self.version >= 3 && entry & 1 != 0) {
            return Some(vec![0; self.cluster as usize]);
        }
        self.aligned(host).then(|| self.slice(host, self.cluster))
    }

    /// A cluster of 32 subclusters: those with a bit in the low half of the bitmap are in the host cluster.
    fn subclusters(&self, host: u64, bitmap: u64) -> Cluster {
        let (allocated, zero) = (bitmap & 0xffff_ffff, bitmap >> 32);
        if allocated & zero != 0 || (allocated != 0 && !self.aligned(host)) {
            return None;
        }
        let length = self.cluster / 32;
        let one = |n: u64| match allocated >> n & 1 {
            0 => vec![0; length as usize],
            _ => self.slice(host + n * length, length),
        };
        Some((0..32).flat_map(one).collect())
    }

    /// Bytes of an L2 entry.
    pub(super) fn width(&self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    pub(super) fn extent(&self, entry: u64) -> (u64, u64) {
        let shift = 62 - (self.cluster.trailing_zeros() - 8);
        let at = entry & ((1 << shift) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> shift;
        (at, (sectors + 1) * 512 - at % 512)
    }

    /// How often each cluster is referenced.
    pub fn references(&self) -> BTreeMap<u64, u64> {
        let mut found = BTreeMap::new();
        let mut refer = |at: u64, length: u64| {
            if length > 0 && at < self.bytes.len() as u64 {
                let last = at.saturating_add(length - 1).min(self.bytes.len() as u64);
                for cluster in at / self.cluster..=last / self.cluster {
                    *found.entry(cluster).or_default() += 1;
                }
            }
        };
        refer(0, 1);
        if self.aligned(self.number(48, 8)) {
            refer(self.number(48, 8), self.number(56, 4) * self.cluster);
        }
        self.blocks().iter().filter(|b| self.aligned(**b)).for_each(|b| refer(*b, self.cluster));
        for disk in self.disks() {
            refer(disk.l1, disk.entries * 8);
            for (_, table) in self.tables(disk) {
                refer(table, self.cluster);
                for (_, entry) in self.entries(table) {
                    let host = entry & OFFSET_MASK;
                    if entry & COMPRESSED != 0 {
                        let (at, length) = self.extent(entry);
                        refer(at, length);
                    } else if self.aligned(host) {
                        refer(host, self.cluster);
                    }
                }
            }
        }
        let table = self.number(64, 8);
        refer(table, self.snapshot_table_end() - table);
        self.extensions().for_each(|(at, length)| refer(at, length));
        found
    }

    /// What the encryption and bitmaps extensions point to: offsets and lengths.
    pub(super) fn extensions(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut found = Vec::new();
        let mut at = if self.version >= 3 { self.number(100, 4) } else { 72 };
        while self.number(at, 4) != 0 && at < self.cluster {
            let data = at + 8;
            match self.number(at, 4) {
                0x0537_be77 => found.push((self.number(data, 8), self.number(data + 8, 8))),
                0x2385_2875 => self.bitmaps(data, &mut found),
                _ => {}
            }
            at = data + self.number(at + 4, 4).next_multiple_of(8);
        }
        found.into_iter()
    }

    /// The bitmap directory, each bitmap's table and its data clusters.
    fn bitmaps(&self, data: u64, found: &mut Vec<(u64, u64)>) {
        let (length, directory) = (self.number(data + 8, 8), self.number(data + 16, 8));
        found.push((directory, length));
        let mut at = directory;
        for _ in 0..self.number(data, 4) {
            if at >= self.bytes.len() as u64 {
                break;
            }
            let (table, entries) = (self.number(at, 8), self.number(at + 8, 4));
            found.push((table, entries * 8));
            let within = entries.min(self.bytes.len() as u64 / 8);
            let clusters =
                (0..within).map(|n| self.number(table.wrapping_add(8 * n), 8) & OFFSET_MASK);
            let used = clusters.filter(|&cluster| self.aligned(cluster));
            found.extend(used.map(|cluster| (cluster, self.cluster)));
            at += (24 + self.number(at + 18, 2) + self.number(at + 20, 4)).next_multiple_of(8);
        }
    }

    pub(super) fn snapshot_table_end(&self) -> u64 {
        let mut at = self.number(64, 8);
        for _ in 0..self.number(60, 4) {
            at = at.next_multiple_of(8);
            at += 40 + self.number(at + 36, 4) + self.number(at + 12, 2) + self.number(at + 14, 2);
        }
        at
    }

    /// The entries of the active disk that have COPIED: the offset of each, and the cluster it is for.
    pub fn copied(&self) -> BTreeMap<u64, u64> {
        let mut found = BTreeMap::new();
        for (at, table) in self.tables(self.disks()[0]) {
            if self.number(at, 8) & COPIED != 0 {
                found.insert(at, table / self.cluster);
            }
            for (at, entry) in self.entries(table) {
                if entry & COPIED != 0 && entry & COMPRESSED == 0 {
                    found.insert(at, (entry & OFFSET_MASK) / self.cluster);
                }
            }
        }
        found
    }

    /// The L1 entries that point to a table: the offset of each, and the table.
    pub(super) fn tables(&self, disk: Disk) -> Vec<(u64, u64)> {
        let entries = (0..disk.entries).map(|index| disk.l1 + 8 * index);
        let tables = entries.map(|at| (at, self.number(at, 8) & OFFSET_MASK));
        tables.filter(|(_, table)| self.aligned(*table)).collect()
    }

    /// The entries of an L2 table: the offset of each, and its bits.
    fn entries(&self, table: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        (table..table + self.cluster)
            .step_by(self.width() as usize)
            .map(|at| (at, self.number(at, 8)))
    }

    /// What the refcount table points to, as far as there is a table.
    pub(super) fn blocks(&self) -> Vec<u64> {
        let table = self.number(48, 8);
        if !self.aligned(table) {
            return Vec::new();
        }
        let entries = self.number(56, 4) * self.cluster / 8;
        (0..entries.min(self.bytes.len() as u64 / 8))
            .map(|index| self.number(table + 8 * index, 8))
            .collect()
    }

    /// The stored refcounts of the first clusters; 0 where there is no valid block.
    pub fn counts(&self, clusters: u64) -> Vec<u64> {
        let blocks = self.blocks();
        let per_block = (self.cluster * 8) >> self.order;
        let count = |cluster: u64| {
            let block = blocks.get((cluster / per_block) as usize).copied().unwrap_or(0);
            if !self.aligned(block) {
                return 0;
            }
            let bit = (cluster % per_block) << self.order;
            match self.order {
                0..=2 => {
                    self.number(block + bit / 8, 1) >> (bit % 8) & ((1 << (1 << self.order)) - 1)
                }
                wide => self.number(block + bit / 8, 1 << (wide - 3)),
            }
        };
        (0..clusters).map(count).collect()
    }

    /// Clusters in the file, a part of one at its end included.
    pub fn clusters(&self) -> u64 {
        (self.bytes.len() as u64).div_ceil(self.cluster)
    }
}

/// Inflates stored blocks, which is what the builder makes.
fn inflate_stored(stream: &[u8], length: usize) -> Cluster {
    let (mut out, mut at) = (Vec::new(), 0);
    while out.len() < length {
        let head = stream.get(at..at + 5)?;
        let size = usize::from(head[1]) | usize::from(head[2]) << 8;
        out.extend_from_slice(stream.get(at + 5..at + 5 + size)?);
        at += 5 + size;
    }
    Some(out)
}

/// Why `after` is worse than `before`, or nothing: guest bytes that read otherwise, a referenced cluster with a count that
/// got lower, a COPIED flag that appeared on a shared cluster.
pub fn worse(before: &Reader, after: &Reader) -> Option<String> {
    worse_than(before, before, after)
}

/// The same, where guest clusters may also read as they did before the damage.
pub fn worse_than(before: &Reader, sound: &Reader, after: &Reader) -> Option<String> {
    let (old, new, sound) = (before.views(), after.views(), sound.views());
    if old.len() != new.len() {
        return Some(format!("{} disks became {}", old.len(), new.len()));
    }
    for (disk, (old, new)) in old.iter().zip(new).enumerate() {
        if let Some(why) = changed(old, sound.get(disk).unwrap_or(old), new) {
            return Some(format!("disk {disk} {why}"));
        }
    }
    miscounted(before, after)
}

/// The same for the active disk alone, where snapshots may be dropped.
pub fn worse_disk(before: &Reader, sound: &Reader, after: &Reader) -> Option<String> {
    let (old, new, sound) = (before.views(), after.views(), sound.views());
    changed(&old[0], &sound[0], &new[0]).or_else(|| miscounted(before, after))
}

/// How a disk reads otherwise than before, and than before the damage.
fn changed(old: &[Cluster], sound: &[Cluster], new: &[Cluster]) -> Option<String> {
    if new.len() < old.len() {
        return Some("got smaller".into());
    }
    let same = |at: usize| {
        old[at].is_none() || old[at] == new[at] || sound.get(at).is_some_and(|s| *s == new[at])
    };
    let guest = (0..old.len()).find(|&at| !same(at))?;
    Some(format!("reads otherwise at guest cluster {guest}"))
}

/// A referenced cluster with a count that got lower, or a COPIED flag that appeared on a shared cluster.
fn miscounted(before: &Reader, after: &Reader) -> Option<String> {
    let references = after.references();
    let clusters = before.clusters().max(after.clusters());
    let counts = before.counts(clusters).into_iter().zip(after.counts(clusters));
    for (cluster, (was, is)) in (0..).zip(counts) {
        let used = references.get(&cluster).copied().unwrap_or(0);
        if is < was && is < used {
            return Some(format!("cluster {cluster}: {used} uses, count {was} became {is}"));
        }
    }
    let flags = before.copied();
    let gained = after.copied().into_iter().find(|(at, cluster)| {
        flags.get(at) != Some(cluster) && references.get(cluster).is_some_and(|&used| used > 1)
    });
    gained.map(|(at, cluster)| format!("COPIED at {at:#x} for the shared cluster {cluster}"))
}
