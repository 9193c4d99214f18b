//! The entries that refer to suspected clusters, noted while a check reads them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use super::matching::Suspects;
use crate::check::{RegionKind, Source, Survey};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset};
use crate::storage::ReadAt;

/// Entries that are noted.
const MAX_NOTED: usize = 1 << 18;
/// Referrers of a cluster that are looked at.
const MAX_REFERRERS: usize = 256;
/// Bits of a cluster's number by which most words are recognised as referring elsewhere.
const SIEVE_BITS: u32 = 16;

/// A source that notes the words of what is read that refer to suspected clusters, were they
/// entries of L2 tables.
pub struct Noted<'a> {
    source: &'a dyn ReadAt,
    wanted: &'a HashSet<HostCluster>,
    /// Whether the number of a suspected cluster ends so.
    sieve: Vec<bool>,
    geometry: Geometry,
    data_file: bool,
    /// The offset of each with its bytes, the clusters, and whether it is a standard entry.
    words: Mutex<HashMap<u64, Note>>,
}

/// A word that refers to suspected clusters.
#[derive(Debug, Clone, Copy)]
struct Note {
    bits: u64,
    first: HostCluster,
    count: ClusterCount,
    is_standard: bool,
}

/// A word of the file: its offset, and its bits as the check read them.
pub type Word = (u64, u64);

/// Where the path to an entry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The active L1 table.
    Active,
    /// The snapshot table.
    Snapshots,
    /// The refcount table.
    Reftable,
}

/// A reference to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Where it begins.
    pub root: Root,
    /// The entries of the tables on the way, the last of which refers to the cluster.
    pub path: Vec<Word>,
    /// Whether it is an entry for data of the active disk, not compressed: no two of these refer to
    /// the same cluster.
    pub is_exclusive: bool,
}

/// The entries that refer to suspected clusters.
#[derive(Debug, Default)]
pub struct Referrers {
    by_cluster: HashMap<HostCluster, Vec<Referrer>>,
}

impl Referrers {
    /// Those of a cluster.
    pub fn of(&self, cluster: HostCluster) -> &[Referrer] {
        self.by_cluster.get(&cluster).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, cluster: HostCluster, referrer: Referrer) {
        let known = self.by_cluster.entry(cluster).or_default();
        if known.len() < MAX_REFERRERS && !known.contains(&referrer) {
            known.push(referrer);
        }
    }
}

impl<'a> Noted<'a> {
    /// Notes what refers to the suspects' clusters.
    pub fn new(
        source: &'a dyn ReadAt,
        suspects: &'a Suspects,
        geometry: Geometry,
        data_file: bool,
    ) -> Self {
        let wanted = suspects.wanted();
        let mut sieve = vec![false; 1 << SIEVE_BITS];
        wanted.iter().for_each(|&cluster| sieve[place_in_sieve(cluster)] = true);
        Self { source, wanted, sieve, geometry, data_file, words: Mutex::default() }
    }

    fn note(&self, offset: u64, bytes: &[u8]) {
        let step = self.geometry.l2_entry_bytes();
        if self.wanted.is_empty() || bytes.len() < step || offset % step as u64 != 0 {
            return;
        }
        for (number, entry) in bytes.chunks_exact(step).enumerate() {
            let entry = L2Entry::decode(entry);
            if entry.bits == 0 {
                continue;
            }
            let (first, count, is_standard) = match entry.meaning(&self.geometry, self.data_file) {
                Meaning::Data(at) | Meaning::ZeroAllocated(at) => {
                    (self.geometry.cluster_floor(at), ClusterCount::new(1), true)
                }
                Meaning::Compressed(extent) => {
                    let (first, count) = self.geometry.span(extent.offset, extent.bytes);
                    (first, count, false)
                }
                Meaning::Unallocated | Meaning::Zero => continue,
            };
            if self.is_wanted(first, count) {
                let at = offset.saturating_add((number * step) as u64);
                let note = Note { bits: entry.bits, first, count, is_standard };
                let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
                if words.len() < MAX_NOTED {
                    words.insert(at, note);
                }
            }
        }
    }

    fn is_wanted(&self, first: HostCluster, count: ClusterCount) -> bool {
        (0..count.get()).any(|n| {
            let cluster = first + ClusterCount::new(n);
            self.sieve[place_in_sieve(cluster)] && self.wanted.contains(&cluster)
        })
    }

    /// Those of the noted words that are entries of L2 tables, by what the check has found, with
    /// the L1 entries that point to suspected clusters.
    pub fn into_referrers(self, survey: &Survey) -> Referrers {
        let words = self.words.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut referrers = Referrers::default();
        let geometry = &survey.area.geometry;
        let table_of = |at: u64| geometry.offset_of(geometry.cluster_floor(HostOffset::new(at)));
        let tables: HashSet<HostOffset> = words.keys().map(|&at| table_of(at)).collect();
        let mut visits: HashMap<HostOffset, Vec<(Root, Word)>> = HashMap::new();
        for visit in survey.visits.iter() {
            let table = visit.entry.offset();
            let cluster = geometry.cluster_floor(table);
            if !tables.contains(&table) && !self.wanted.contains(&cluster) {
                continue;
            }
            let Some(at) = l1_entry(survey, &visit) else { continue };
            let root = if visit.source == Source::Active { Root::Active } else { Root::Snapshots };
            let word = (at, visit.entry.0);
            if self.wanted.contains(&cluster) {
                let path = vec![word];
                referrers.add(cluster, Referrer { root, path, is_exclusive: false });
            }
            let known = visits.entry(table).or_default();
            if known.len() < MAX_REFERRERS {
                known.push((root, word));
            }
        }
        for (at, note) in words {
            for &(root, l1) in visits.get(&table_of(at)).into_iter().flatten() {
                let is_exclusive = note.is_standard && root == Root::Active;
                let referrer = Referrer { root, path: vec![l1, (at, note.bits)], is_exclusive };
                for n in 0..note.count.get() {
                    let cluster = note.first + ClusterCount::new(n);
                    if self.wanted.contains(&cluster) {
                        referrers.add(cluster, referrer.clone());
                    }
                }
            }
        }
        refblocks(survey, self.wanted, &mut referrers);
        referrers
    }
}

/// Entries of the refcount table that point to suspected clusters.
fn refblocks(survey: &Survey, wanted: &HashSet<HostCluster>, referrers: &mut Referrers) {
    let geometry = &survey.area.geometry;
    let table = survey.area.header.reftable;
    for block in &survey.refcounts.blocks {
        let cluster = geometry.cluster_floor(block.offset);
        let index = usize::try_from(block.index.get()).ok();
        let entry = index.and_then(|index| survey.refcounts.entries.get(index));
        if let (true, Some(&bits)) = (wanted.contains(&cluster), entry) {
            let at = table.saturating_add(block.index.get().saturating_mul(TABLE_ENTRY_BYTES));
            let path = vec![(at.get(), bits)];
            referrers.add(cluster, Referrer { root: Root::Reftable, path, is_exclusive: false });
        }
    }
}

/// How many references of other metadata there are to a cluster: what header and snapshot table
/// point to, and bitmaps.
pub fn fixed_references(survey: &Survey, cluster: HostCluster) -> u64 {
    let regions = survey.regions.touching(cluster..cluster.next());
    let others = regions.filter(|r| !matches!(r.kind, RegionKind::L2Table | RegionKind::Refblock));
    others.map(|region| region.pointers).sum()
}

/// Where an L1 entry is.
fn l1_entry(survey: &Survey, visit: &crate::check::Visit) -> Option<u64> {
    let table = match visit.source {
        Source::Active => survey.area.header.l1_table,
        Source::Snapshot(index) => {
            survey.snapshots.entries.get(usize::try_from(index).ok()?)?.header.l1_table
        }
    };
    table.get().checked_add(u64::from(visit.index.get()) * TABLE_ENTRY_BYTES)
}

fn place_in_sieve(cluster: HostCluster) -> usize {
    usize::try_from(cluster.get() & ((1 << SIEVE_BITS) - 1)).unwrap_or(0)
}

impl ReadAt for Noted<'_> {
    fn len(&self) -> io::Result<u64> {
        self.source.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(offset, buf)?;
        self.note(offset, &buf[..read]);
        Ok(read)
    }

    fn peek_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.peek_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.source.next_data(offset)
    }

    fn failure(&self) -> Option<io::Error> {
        self.source.failure()
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        self.source.file()
    }

    fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    fn will_need(&self, range: Range<u64>) {
        self.source.will_need(range);
    }
}
