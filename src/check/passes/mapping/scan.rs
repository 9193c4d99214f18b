//! One L2 table: counts what it references, in runs, and collects what is wrong.

use std::io;
use std::sync::atomic::AtomicUsize;

use crate::check::Hold;
use crate::check::parallel::take_one;
use crate::check::report::Kind;
use crate::check::survey::beyond::Beyond;
use crate::check::survey::context::Context;
use crate::check::survey::copied::CopiedSummary;
use crate::check::survey::extent::Extent;
use crate::check::survey::mapping::Reach;
use crate::check::survey::refcount_map::RefcountMap;
use crate::format::l1::{COPIED, OFFSET_MASK};
use crate::format::l2::{COMPRESSED, L2Entry, Meaning, ZERO};
use crate::format::{ClusterCount, Geometry, GuestOffset, HostOffset, L2Index};

/// What does not change from table to table.
#[derive(Clone, Copy)]
pub struct Scanner<'a> {
    /// The image's sizes.
    pub geometry: Geometry,
    /// The file's length in bytes.
    pub file_bytes: u64,
    /// Whether data is in an external data file.
    pub data_file: bool,
    /// Whether entries have a zero flag: not in version 2, and not with subclusters.
    pub has_zero_flag: bool,
    /// Counts every reference.
    pub map: &'a RefcountMap,
    /// Counts what is claimed past the end of the file.
    pub beyond: &'a Beyond,
    /// Counts references of the active disk to data clusters, each table once.
    pub active: &'a RefcountMap,
    /// Counts references of compressed extents.
    pub compressed: &'a RefcountMap,
    /// Whether entries that point into the middle of a cluster count for nothing: a repair corrects
    /// or holds them.
    pub skips_unaligned: bool,
    /// How many more findings may be kept one by one.
    pub room: &'a AtomicUsize,
    /// How many more compressed extents may be kept.
    pub extent_room: &'a AtomicUsize,
}

/// What a table holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Whether every entry is 0.
    pub blank: bool,
    /// What is wrong, by entry, in order.
    pub found: Vec<(L2Index, Kind)>,
    /// Errors that were counted only, since there are so many.
    pub uncounted: u64,
    /// Standard clusters and compressed ones.
    pub allocated: u64,
    /// Clusters that do not follow the one before.
    pub fragmented: u64,
    /// Compressed clusters.
    pub compressed: u64,
    /// The COPIED flags.
    pub copied: CopiedSummary,
    /// Compressed extents, as descriptors without flags.
    pub extents: Vec<u64>,
    next_offset: u64,
}

impl Scanner<'_> {
    /// Goes through the table in `bytes`, a cluster long.
    pub fn table(&self, bytes: &[u8], reach: Reach) -> Scan {
        let mut scan = Scan::default();
        if self.geometry.extended_l2() {
            self.extended(bytes, reach, &mut scan);
        } else {
            self.standard(bytes, reach, &mut scan);
        }
        scan
    }

    fn standard(&self, bytes: &[u8], reach: Reach, scan: &mut Scan) {
        let entries = bytes.len() / 8;
        let mut index = zeroes(bytes);
        scan.blank = index == entries;
        while index < entries {
            let bits = entry_at(bytes, index);
            if bits == 0 {
                index += zeroes(&bytes[index * 8..]);
            } else if self.is_plain(bits) {
                let count = self.run_length(&bytes[index * 8..], bits);
                self.run(bits, count, reach, scan);
                index += count;
            } else {
                self.single(index, L2Entry::standard(bits), reach, scan);
                index += 1;
            }
        }
    }

    fn extended(&self, bytes: &[u8], reach: Reach, scan: &mut Scan) {
        scan.blank = zeroes(bytes) == bytes.len() / 8;
        for (index, pair) in bytes.chunks_exact(16).enumerate() {
            let entry = L2Entry { bits: entry_at(pair, 0), bitmap: entry_at(pair, 1) };
            if entry.bits == 0 && entry.allocated() == 0 {
                continue;
            }
            if self.is_plain(entry.bits) && !entry.has_conflicting_subclusters() {
                self.run(entry.bits, 1, reach, scan);
            } else {
                self.single(index, entry, reach, scan);
            }
        }
    }

    /// Whether an entry is a valid standard cluster inside the file: all that runs are made of.
    fn is_plain(&self, bits: u64) -> bool {
        let zero_flag = u64::from(self.has_zero_flag);
        let sound = OFFSET_MASK & !(self.geometry.cluster_bytes() - 1) | COPIED | zero_flag;
        let offset = bits & OFFSET_MASK;
        bits & !sound == 0 && offset != 0 && !self.data_file && offset < self.file_bytes
    }

    /// How many entries from here on go on cluster by cluster, flags alike, inside the file.
    fn run_length(&self, bytes: &[u8], first: u64) -> usize {
        let step = self.geometry.cluster_bytes();
        let room = (self.file_bytes - (first & OFFSET_MASK)).div_ceil(step);
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len() / 8);
        let mut expected = first;
        let mut count = 0;
        // Sixteen at a time: the comparison has no branch inside.
        for chunk in bytes[..most * 8].chunks_exact(128) {
            let mut differs = 0;
            for (i, entry) in (0u64..).zip(chunk.chunks_exact(8)) {
                differs |= be64(entry) ^ expected.wrapping_add(i * step);
            }
            if differs != 0 {
                break;
            }
            count += 16;
            expected = expected.wrapping_add(16 * step);
        }
        while count < most && entry_at(bytes, count) == expected {
            count += 1;
            expected = expected.wrapping_add(step);
        }
        count
    }

    fn run(&self, bits: u64, count: usize, reach: Reach, scan: &mut Scan) {
        let offset = bits & OFFSET_MASK;
        let first = self.geometry.cluster_floor(HostOffset::new(offset));
        let clusters = ClusterCount::new(count as u64);
        scan.place(offset, clusters.get(), self.geometry.cluster_bytes());
        self.map.add(first, clusters, reach.times);
        if reach.active > 0 {
            self.active.add(first, clusters, 1);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a table has at most 2^18 entries")]
        scan.copied.add(first, count as u32, bits & COPIED != 0);
    }

    /// An entry that is not plain: compressed, damaged, or in a data file.
    fn single(&self, index: usize, entry: L2Entry, reach: Reach, scan: &mut Scan) {
        #[expect(clippy::cast_possible_truncation, reason = "a table has at most 2^18 entries")]
        let l2 = L2Index::new(index as u32);
        if entry.has_reserved_bits(&self.geometry) {
            let kind = if entry.bits & L2Entry::RESERVED != 0 {
                Kind::L2Reserved(entry.bits)
            } else {
                Kind::L2ZeroReserved(entry.bits)
            };
            self.find(scan, l2, kind);
        }
        let is_standard = !self.geometry.extended_l2() && !entry.is_compressed();
        if !self.has_zero_flag && is_standard && entry.bits & ZERO != 0 {
            self.find(scan, l2, Kind::L2ZeroInVersion2(entry.bits));
        }
        match entry.meaning(&self.geometry, self.data_file) {
            Meaning::Compressed(_) => self.compressed(l2, entry, reach, scan),
            Meaning::ZeroAllocated(at) | Meaning::Data(at) => {
                self.damaged_data(l2, entry, at, reach, scan);
            }
            Meaning::Unallocated if entry.allocated() != 0 => {
                self.find(scan, l2, Kind::SubclustersWithoutCluster);
            }
            Meaning::Unallocated | Meaning::Zero => {}
        }
    }

    fn compressed(&self, l2: L2Index, entry: L2Entry, reach: Reach, scan: &mut Scan) {
        let extent = entry.compressed_extent(&self.geometry);
        if entry.copied() {
            self.find(scan, l2, Kind::CompressedCopied { offset: extent.offset });
        }
        let plain = entry.bits & !COPIED;
        if self.data_file {
            self.find(scan, l2, Kind::CompressedWithDataFile(plain));
            return;
        }
        if entry.bitmap != 0 {
            self.find(scan, l2, Kind::CompressedWithBitmap(plain));
            return;
        }
        let (offset, bytes) = (extent.offset, extent.bytes);
        let clusters = Extent::of(&self.geometry, self.file_bytes, offset, bytes);
        if clusters.is_beyond() {
            self.find(scan, l2, Kind::BeyondEnd { offset, bytes });
        }
        self.map.add(clusters.first, clusters.count, reach.times);
        self.beyond.add(&clusters, reach.times);
        self.compressed.add(clusters.first, clusters.count, 1);
        if take_one(self.extent_room) {
            scan.extents.push(plain & !COMPRESSED);
        }
        scan.allocated += 1;
        scan.compressed += 1;
        scan.fragmented += 1;
    }

    fn damaged_data(
        &self,
        l2: L2Index,
        entry: L2Entry,
        at: HostOffset,
        reach: Reach,
        scan: &mut Scan,
    ) {
        if entry.has_conflicting_subclusters() {
            self.find(scan, l2, Kind::SubclusterConflict(at));
        }
        if !self.geometry.is_aligned(at) {
            let kind = if self.has_data(entry) {
                Kind::DataUnaligned(at)
            } else {
                Kind::PreallocatedUnaligned(at)
            };
            self.find(scan, l2, kind);
            if self.skips_unaligned && !(self.data_file && self.has_data(entry)) {
                return;
            }
        }
        let bytes = self.geometry.cluster_bytes();
        scan.place(at.get(), 1, bytes);
        if self.data_file {
            let misplaced = at.get() != self.guest(reach, l2).get();
            if misplaced && self.geometry.is_aligned(at) {
                self.find(scan, l2, Kind::DataFileOffset(at));
            }
            let cluster = self.geometry.cluster_floor(at);
            scan.copied.add(cluster, 1, entry.copied());
            return;
        }
        let clusters = Extent::of(&self.geometry, self.file_bytes, at, bytes);
        if clusters.is_beyond() {
            self.find(scan, l2, Kind::BeyondEnd { offset: at, bytes });
        }
        self.map.add(clusters.first, clusters.count, reach.times);
        self.beyond.add(&clusters, reach.times);
        if reach.active > 0 {
            self.active.add(clusters.first, clusters.count, 1);
        }
        scan.copied.look_again();
    }

    /// Keeps a finding, or counts it where there are too many.
    fn find(&self, scan: &mut Scan, l2: L2Index, kind: Kind) {
        if take_one(self.room) {
            scan.found.push((l2, kind));
        } else {
            scan.uncounted += 1;
        }
    }

    fn guest(&self, reach: Reach, l2: L2Index) -> GuestOffset {
        self.geometry.guest_offset(reach.index, l2)
    }

    /// Whether an unaligned entry holds data, which is lost when it is made zero.
    fn has_data(&self, entry: L2Entry) -> bool {
        if self.geometry.extended_l2() { entry.allocated() != 0 } else { entry.bits & ZERO == 0 }
    }
}

/// A file that was cut off was no more than so many times as long.
const FAR: u64 = 64;
/// So many damaged entries of a table can show that something else was written there.
const MANY_DAMAGED: u64 = 4;

impl Scan {
    /// Whether many entries are damaged, or most of few; where data is given up, whether most are,
    /// apart from those that point to what was cut off.
    pub fn is_garbage(&self, ctx: &Context) -> bool {
        let entries = || self.found.chunk_by(|a, b| a.0 == b.0);
        let is_damaged = |entry: &&[(L2Index, Kind)]| match entry {
            [(_, kind)] => !is_cut_off(ctx, kind),
            _ => true,
        };
        let most = |damaged: u64| damaged > 1 && 2 * damaged > self.allocated;
        if ctx.hold == Hold::Never {
            return most(entries().filter(is_damaged).count() as u64 + self.uncounted);
        }
        let damaged = entries().count() as u64 + self.uncounted;
        most(damaged) || damaged >= MANY_DAMAGED && 8 * damaged > self.allocated
    }

    /// A table that is in a hole of the file.
    pub fn hole() -> Self {
        Self { blank: true, ..Self::default() }
    }

    /// A table that could not be read.
    pub fn unreadable(offset: HostOffset, error: &io::Error) -> Self {
        let kind = Kind::Unreadable { what: "L2 table", offset, error: error.to_string() };
        Self { found: vec![(L2Index::new(0), kind)], ..Self::default() }
    }

    /// Standard clusters at consecutive offsets from `offset` on.
    fn place(&mut self, offset: u64, count: u64, cluster_bytes: u64) {
        self.allocated += count;
        if self.next_offset != 0 && self.next_offset != offset {
            self.fragmented += 1;
        }
        self.next_offset = offset + count * cluster_bytes;
    }
}

/// Whether an entry points to a whole cluster not far past the end of the file, as where that was
/// cut off.
fn is_cut_off(ctx: &Context, kind: &Kind) -> bool {
    let Kind::BeyondEnd { offset, bytes } = *kind else { return false };
    let near = ctx.file_bytes.saturating_mul(FAR);
    bytes == ctx.geometry.cluster_bytes() && ctx.geometry.is_aligned(offset) && offset.get() < near
}

fn be64(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(word)
}

fn entry_at(bytes: &[u8], index: usize) -> u64 {
    be64(&bytes[index * 8..])
}

/// How many entries at the start are 0.
fn zeroes(bytes: &[u8]) -> usize {
    let blocks = bytes.chunks_exact(64).take_while(|b| b.iter().all(|&b| b == 0)).count() * 8;
    blocks + bytes[blocks * 8..].chunks_exact(8).take_while(|e| be64(e) == 0).count()
}
