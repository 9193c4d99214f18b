//! Targets that are written once, from the first byte to the last: a raw disk, or a qcow2 image.
//!
//! For qcow2 the source is read twice. The first pass finds which clusters will be stored; with
//! that every table can be written before the data, which follows in the order of the disk.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::create::{NewImage, Roots, refcount_clusters};
use crate::error::{Error, Result};
use crate::format::l1::{COPIED, L1Entry};
use crate::format::refcount::count_once;
use crate::format::{ClusterCount, Geometry, HostCluster, encode_entries};

use crate::convert::flow::buffer::{Buffer, Pool};
use crate::convert::flow::in_order::InOrder;
use crate::convert::flow::item::{Item, Kind};
use crate::convert::flow::pipeline::Target;
use crate::disk::zeroes;

/// Zeroes that are written at once.
const ZEROES: usize = 1 << 20;
/// Bitmap of an extended entry: all subclusters are allocated.
const ALL_ALLOCATED: u64 = u32::MAX as u64;

/// A stream that is written.
type Out<'a> = &'a mut (dyn Write + Send);

fn emit(out: &mut (dyn Write + Send), bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| Error::file("write the stream", e))
}

/// A raw disk on its way out.
pub(in crate::convert) struct RawPipe<'a> {
    order: InOrder<(Item, Buffer), Out<'a>>,
    pool: &'a Pool,
}

impl<'a> RawPipe<'a> {
    pub(in crate::convert) fn new(out: Out<'a>, threads: usize, pool: &'a Pool) -> Self {
        Self { order: InOrder::new(out, threads as u64), pool }
    }
}

impl Target for RawPipe<'_> {
    type Tools = ();

    fn tools(&self) {}

    fn put(&self, item: Item, bytes: Buffer, _tools: &mut ()) -> Result<()> {
        self.order.submit(item.number, (item, bytes), |out, (item, bytes)| {
            if item.kind == Kind::Data {
                emit(*out, &bytes)?;
            } else {
                let zeroes = vec![0; ZEROES];
                let mut left = item.bytes;
                while left > 0 {
                    let length = usize::try_from(left).unwrap_or(ZEROES).min(ZEROES);
                    emit(*out, &zeroes[..length])?;
                    left -= length as u64;
                }
            }
            self.pool.give_back(bytes);
            Ok(())
        })
    }

    fn stop(&self) {
        self.order.stop();
    }
}

/// Which clusters of a disk will be stored, one bit for each.
#[derive(Debug)]
pub(in crate::convert) struct Stored {
    bits: Vec<u64>,
}

impl Stored {
    fn has(&self, cluster: u64) -> bool {
        let word = usize::try_from(cluster / 64).ok().and_then(|index| self.bits.get(index));
        word.is_some_and(|word| word >> (cluster % 64) & 1 != 0)
    }

    fn any(&self, clusters: std::ops::Range<u64>) -> bool {
        clusters.into_iter().any(|cluster| self.has(cluster))
    }

    fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The first pass: takes note, and writes nothing.
pub(in crate::convert) struct Survey<'a> {
    stored: Mutex<Stored>,
    geometry: Geometry,
    sparse: u64,
    pool: &'a Pool,
}

impl<'a> Survey<'a> {
    pub(in crate::convert) fn new(geometry: Geometry, sparse: u64, pool: &'a Pool) -> Self {
        let words = geometry.guest_clusters().get().div_ceil(64);
        let bits = vec![0; usize::try_from(words).unwrap_or(usize::MAX)];
        Self { stored: Mutex::new(Stored { bits }), geometry, sparse, pool }
    }

    pub(in crate::convert) fn finish(self) -> Stored {
        self.stored.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Survey<'_> {
    type Tools = ();

    fn tools(&self) {}

    fn put(&self, item: Item, bytes: Buffer, _tools: &mut ()) -> Result<()> {
        if item.kind == Kind::Data {
            let first = item.start >> self.geometry.cluster_bits();
            let size = self.geometry.cluster_len();
            let runs = zeroes::data_runs(&bytes, item.start, self.sparse);
            let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            for run in runs {
                let clusters = run.start / size..run.end.div_ceil(size);
                for cluster in clusters.map(|n| first + n as u64) {
                    if let Ok(index) = usize::try_from(cluster / 64) {
                        stored.bits[index] |= 1 << (cluster % 64);
                    }
                }
            }
        }
        self.pool.give_back(bytes);
        Ok(())
    }
}

/// The second pass: the clusters that are stored, in order.
pub(in crate::convert) struct ImagePipe<'a> {
    order: InOrder<(Item, Buffer), Out<'a>>,
    stored: &'a Stored,
    geometry: Geometry,
    pool: &'a Pool,
}

impl<'a> ImagePipe<'a> {
    /// Writes everything that comes before the data.
    pub(in crate::convert) fn new(
        out: Out<'a>,
        new: &NewImage,
        stored: &'a Stored,
        threads: usize,
        pool: &'a Pool,
    ) -> Result<Self> {
        let geometry = new.geometry();
        write_tables(out, new, stored)?;
        let order = InOrder::new(out, threads as u64);
        Ok(Self { order, stored, geometry, pool })
    }
}

impl Target for ImagePipe<'_> {
    type Tools = ();

    fn tools(&self) {}

    fn put(&self, item: Item, mut bytes: Buffer, _tools: &mut ()) -> Result<()> {
        let size = self.geometry.cluster_len();
        let whole = bytes.len().next_multiple_of(size);
        if whole > bytes.len() {
            bytes.extend_zeroed(whole);
        }
        self.order.submit(item.number, (item, bytes), |out, (item, mut bytes)| {
            let first = item.start >> self.geometry.cluster_bits();
            let count = item.bytes.div_ceil(self.geometry.cluster_bytes());
            if bytes.is_empty() && self.stored.any(first..first + count) {
                // The source was read as data before, and is known to be zero by now.
                bytes.extend_zeroed(usize::try_from(count).unwrap_or(usize::MAX) * size);
            }
            for (cluster, data) in (first..).zip(bytes.chunks(size)) {
                if self.stored.has(cluster) {
                    emit(*out, data)?;
                }
            }
            self.pool.give_back(bytes);
            Ok(())
        })
    }

    fn stop(&self) {
        self.order.stop();
    }
}

/// Header, refcount table, refcount blocks, L1 table, L2 tables.
fn write_tables(out: Out<'_>, new: &NewImage, stored: &Stored) -> Result<()> {
    let geometry = new.geometry();
    let per_table = u64::from(geometry.l2_entries());
    let l1_entries = geometry.l1_entries_for(geometry.virtual_size());
    let tables: Vec<u64> = (0..l1_entries)
        .filter(|table| stored.any(table * per_table..(table + 1) * per_table))
        .collect();
    let l1_clusters = geometry.clusters_for(l1_entries * 8);
    let l2_clusters = ClusterCount::new(tables.len() as u64);
    let others = ClusterCount::new(1 + stored.count()) + l1_clusters + l2_clusters;
    let (reftable, refblocks) = refcount_clusters(&geometry, others)?;
    let first_block = HostCluster::new(1) + reftable;
    let first_l1 = first_block + refblocks;
    let first_l2 = first_l1 + l1_clusters;
    let first_data = first_l2 + l2_clusters;
    let at = |first: HostCluster, n: u64| geometry.offset_of(first + ClusterCount::new(n));

    let roots = Roots {
        l1: if l1_entries == 0 { at(HostCluster::new(0), 0) } else { at(first_l1, 0) },
        l1_entries: u32::try_from(l1_entries).unwrap_or(u32::MAX),
        reftable: at(HostCluster::new(1), 0),
        reftable_clusters: u32::try_from(reftable.get()).unwrap_or(u32::MAX),
        crypto: None,
        autoclear: 0,
    };
    let pad = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len().next_multiple_of(geometry.cluster_len()), 0);
        bytes
    };
    emit(out, &pad(new.header_with(geometry.virtual_size(), &roots, &[])?))?;
    let places: Vec<u64> = (0..refblocks.get()).map(|n| at(first_block, n).get()).collect();
    let mut table = encode_entries(&places);
    table.resize(usize::try_from(geometry.bytes_of(reftable)).unwrap_or(usize::MAX), 0);
    emit(out, &table)?;
    write_counts(out, &geometry, refblocks, (others + reftable + refblocks).get())?;
    let mut l1 = vec![0; usize::try_from(l1_entries).unwrap_or(usize::MAX)];
    for (n, &table) in (0..).zip(&tables) {
        l1[usize::try_from(table).unwrap_or(usize::MAX)] = L1Entry::new(at(first_l2, n), true).0;
    }
    emit(out, &pad(encode_entries(&l1)))?;
    let mut next = geometry.offset_of(first_data).get();
    for table in tables {
        let mut words = Vec::with_capacity(geometry.cluster_len() / 8);
        for cluster in table * per_table..(table + 1) * per_table {
            let has = stored.has(cluster);
            words.push(if has { COPIED | next } else { 0 });
            if geometry.extended_l2() {
                words.push(if has { ALL_ALLOCATED } else { 0 });
            }
            next += if has { geometry.cluster_bytes() } else { 0 };
        }
        emit(out, &encode_entries(&words))?;
    }
    Ok(())
}

/// Refcount blocks for `used` clusters, each counted once.
fn write_counts(out: Out<'_>, geometry: &Geometry, blocks: ClusterCount, used: u64) -> Result<()> {
    let per_block = geometry.refblock_entries();
    for block in 0..blocks.get() {
        let mut bytes = vec![0; geometry.cluster_len()];
        let left = used.saturating_sub(block * per_block).min(per_block);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        count_once(&mut bytes, geometry.refcount_order(), 0..left);
        emit(out, &bytes)?;
    }
    Ok(())
}
