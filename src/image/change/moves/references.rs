//! All references to some clusters, found by reading every table once.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::bitmap::BitmapTableEntry;
use crate::format::l1::L1Entry;
use crate::format::l2::{CompressedExtent, L2Entry, Meaning};
use crate::format::{Geometry, HostCluster, HostOffset};
use crate::tables::load_entries;

use crate::image::Image;
use crate::image::meta::Meta;
use crate::image::order::ordering::Side;
use crate::image::run::ClusterRun;

/// What a pointer is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// An L2 table, by its position in [`References::tables`].
    Table(u32),
    /// The active L1 table.
    Active,
    /// The L1 table of the snapshot at this position.
    Snapshot(u32),
    /// The table of the bitmap at this position.
    Bitmap(u32),
}

/// What a pointer refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Guest data.
    Data,
    /// An L2 table.
    Table,
    /// Data of a bitmap.
    Bitmap,
}

impl Holder {
    /// What its pointers refer to.
    pub(crate) const fn content(self) -> Content {
        match self {
            Self::Table(_) => Content::Data,
            Self::Active | Self::Snapshot(_) => Content::Table,
            Self::Bitmap(_) => Content::Bitmap,
        }
    }
}

/// A pointer to a whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The cluster.
    pub(crate) cluster: HostCluster,
    /// What the pointer is in.
    pub(crate) holder: Holder,
    /// Which entry of it.
    pub(crate) index: u32,
}

/// A pointer to compressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The data.
    pub(crate) extent: CompressedExtent,
    /// The L2 table, by its position in [`References::tables`].
    pub(crate) table: u32,
    /// Which entry of it.
    pub(crate) index: u32,
}

/// An L2 table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// Where it is.
    pub(crate) at: HostOffset,
    /// How many L1 entries refer to it: each of its entries counts so often.
    pub(crate) weight: u64,
}

/// All references to some clusters.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// All L2 tables of the image, each once.
    pub(crate) tables: Vec<Table>,
    /// Their positions, by where they are.
    ids: HashMap<HostOffset, u32>,
    /// Pointers to whole clusters, by cluster.
    pub(crate) plain: Vec<Reference>,
    /// Pointers to compressed data, by its offset.
    pub(crate) packed: Vec<Packed>,
}

impl References {
    /// Leaves out compressed data in these clusters.
    pub(crate) fn leave(&mut self, clusters: &HashSet<HostCluster>, geometry: &Geometry) {
        if !clusters.is_empty() {
            self.packed.retain(|packed| {
                let extent = packed.extent;
                let run = ClusterRun::of(geometry, extent.offset, extent.bytes);
                !run.clusters().any(|cluster| clusters.contains(&cluster))
            });
        }
    }

    /// How many references an entry of an L2 table is.
    fn weight_of(&self, table: u32) -> u64 {
        self.tables[table as usize].weight
    }

    /// How many references a pointer is.
    fn weight(&self, holder: Holder) -> u64 {
        match holder {
            Holder::Table(id) => self.weight_of(id),
            Holder::Active | Holder::Snapshot(_) | Holder::Bitmap(_) => 1,
        }
    }

    /// The references to each cluster, by their positions in [`Self::plain`].
    pub(crate) fn clusters(&self) -> Vec<Range<usize>> {
        groups(&self.plain, |a, b| a.cluster == b.cluster)
    }

    /// The references to the same compressed data, by their positions in [`Self::packed`].
    pub(crate) fn extents(&self) -> Vec<Range<usize>> {
        groups(&self.packed, |a, b| a.extent == b.extent)
    }

    /// How many references some pointers to whole clusters are.
    pub(crate) fn count(&self, references: &Range<usize>) -> u64 {
        self.plain[references.clone()].iter().map(|r| self.weight(r.holder)).sum()
    }

    /// How many references some pointers to compressed data are.
    pub(crate) fn count_packed(&self, references: &Range<usize>) -> u64 {
        self.packed[references.clone()].iter().map(|p| self.weight_of(p.table)).sum()
    }

    /// Notes that the cluster of some pointers is elsewhere.
    pub(crate) fn note_move(&mut self, references: &Range<usize>, to: HostCluster) {
        self.plain[references.clone()].iter_mut().for_each(|reference| reference.cluster = to);
    }

    /// Notes that an L2 table is elsewhere, or nowhere.
    pub(super) fn relocate(&mut self, from: HostOffset, to: Option<HostOffset>) {
        if let Some(id) = self.ids.remove(&from) {
            self.tables[id as usize].at = to.unwrap_or_default();
            if let Some(to) = to {
                self.ids.insert(to, id);
            }
        }
    }
}

impl Image {
    /// All references to the clusters that `wanted` accepts. Everything must be on disk.
    pub(crate) fn references(
        &self,
        wanted: impl Fn(HostCluster) -> bool + Copy,
    ) -> Result<References> {
        let meta = self.meta()?;
        let mut found = References::default();
        meta.collect_l1(&mut found, wanted)?;
        meta.collect_bitmaps(&mut found, wanted)?;
        let mut bytes = vec![0; meta.geometry.cluster_len()];
        for id in 0..found.tables.len() {
            meta.ordering.disk.read(found.tables[id].at, &mut bytes, "an L2 table")?;
            collect_l2(&mut found, id, &bytes, &meta, wanted);
        }
        found.plain.sort_unstable_by_key(|r| (r.cluster, r.holder, r.index));
        found.packed.sort_unstable_by_key(|p| (p.extent.offset, p.extent.bytes, p.table, p.index));
        Ok(found)
    }

    /// The clusters that both compressed data and other references are in, as a write of
    /// compressed data that fails in QEMU can leave them. They stay where they are, since a
    /// refcount that falls to 1 would ask for a COPIED flag.
    pub(crate) fn mixed_clusters(&self) -> Result<HashSet<HostCluster>> {
        let found = self.l2_tables()?;
        let meta = self.meta()?;
        if meta.has_data_file() {
            return Ok(HashSet::new());
        }
        let geometry = meta.geometry;
        let (mut plain, mut packed) = (Clusters::default(), Clusters::default());
        for table in &found.tables {
            for entry in entries_of(&meta.table_bytes(table.at)?, &geometry) {
                match entry.meaning(&geometry, false) {
                    Meaning::Data(host) | Meaning::ZeroAllocated(host) => {
                        plain.insert(geometry.cluster_floor(host));
                    }
                    Meaning::Compressed(extent) => {
                        let run = ClusterRun::of(&geometry, extent.offset, extent.bytes);
                        run.clusters().for_each(|cluster| packed.insert(cluster));
                    }
                    Meaning::Unallocated | Meaning::Zero => {}
                }
            }
        }
        Ok(plain.and(&packed))
    }

    /// All L2 tables of the image, and nothing that refers to clusters.
    pub(crate) fn l2_tables(&self) -> Result<References> {
        let meta = self.meta()?;
        let mut found = References::default();
        meta.collect_l1(&mut found, |_| false)?;
        Ok(found)
    }
}

impl Meta {
    /// The L2 tables of the disk and of all snapshots, and pointers to those of interest.
    fn collect_l1(
        &self,
        found: &mut References,
        wanted: impl Fn(HostCluster) -> bool,
    ) -> Result<()> {
        let mut add = |holder, entries: &[u64]| {
            for (index, &bits) in (0u32..).zip(entries) {
                let at = L1Entry(bits).offset();
                if at.get() == 0 {
                    continue;
                }
                let id = *found.ids.entry(at).or_insert_with(|| {
                    found.tables.push(Table { at, weight: 0 });
                    u32::try_from(found.tables.len() - 1).unwrap_or(u32::MAX)
                });
                found.tables[id as usize].weight += 1;
                let cluster = self.geometry.cluster_floor(at);
                if wanted(cluster) {
                    found.plain.push(Reference { cluster, holder, index });
                }
            }
        };
        add(Holder::Active, self.l1_entries());
        for (n, snapshot) in (0u32..).zip(&self.snapshots) {
            let (at, entries) = (snapshot.header.l1_table, snapshot.header.l1_entries);
            let l1 = load_entries(self.ordering.disk.file.as_ref(), at, u64::from(entries))
                .map_err(|source| Error::io("read a snapshot's L1 table", at.get(), source))?;
            add(Holder::Snapshot(n), &l1);
        }
        Ok(())
    }

    fn collect_bitmaps(
        &self,
        found: &mut References,
        wanted: impl Fn(HostCluster) -> bool,
    ) -> Result<()> {
        let Some(bitmaps) = &self.bitmaps else { return Ok(()) };
        for (n, bitmap) in (0u32..).zip(&bitmaps.entries) {
            let (at, entries) = (bitmap.table, u64::from(bitmap.table_entries));
            let table = load_entries(self.ordering.disk.file.as_ref(), at, entries)
                .map_err(|source| Error::io("read a bitmap table", at.get(), source))?;
            for (index, &bits) in (0u32..).zip(&table) {
                let Some(data) = BitmapTableEntry(bits).data() else { continue };
                let cluster = self.geometry.cluster_floor(data);
                if wanted(cluster) {
                    found.plain.push(Reference { cluster, holder: Holder::Bitmap(n), index });
                }
            }
        }
        Ok(())
    }

    /// The bytes of an L2 table as the file has them.
    pub(super) fn table_bytes(&self, at: HostOffset) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.geometry.cluster_len()];
        self.ordering.disk.read(at, &mut bytes, "an L2 table")?;
        Ok(bytes)
    }

    /// The active L1 table's position in the file.
    pub(super) fn active_l1(&self) -> ClusterRun {
        let root = self.ordering.root(Side::Mappings);
        ClusterRun::of(&self.geometry, root.offset(), root.entries().len() as u64 * 8)
    }
}

/// Neighbours that are alike, by their positions.
fn groups<T>(items: &[T], alike: impl FnMut(&T, &T) -> bool) -> Vec<Range<usize>> {
    let mut start = 0;
    let groups = items.chunk_by(alike).map(|group| {
        let range = start..start + group.len();
        start = range.end;
        range
    });
    groups.collect()
}

/// A set of clusters, a bit each.
#[derive(Default)]
struct Clusters(Vec<u64>);

impl Clusters {
    fn insert(&mut self, cluster: HostCluster) {
        let word = usize::try_from(cluster.get() / 64).unwrap_or(usize::MAX);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (cluster.get() % 64);
    }

    fn and(&self, other: &Self) -> HashSet<HostCluster> {
        let words = (0u64..).zip(self.0.iter().zip(&other.0)).filter(|(_, (a, b))| *a & *b != 0);
        let bits = words.flat_map(|(n, (a, b))| {
            (0..64).filter(move |bit| (a & b) >> bit & 1 != 0).map(move |bit| n * 64 + bit)
        });
        bits.map(HostCluster::new).collect()
    }
}

/// The references of interest in one L2 table.
fn collect_l2(
    found: &mut References,
    id: usize,
    bytes: &[u8],
    meta: &Meta,
    wanted: impl Fn(HostCluster) -> bool,
) {
    if meta.has_data_file() {
        // Its entries point into that file.
        return;
    }
    let geometry = &meta.geometry;
    let table = u32::try_from(id).unwrap_or(u32::MAX);
    for (index, entry) in (0u32..).zip(entries_of(bytes, geometry)) {
        match entry.meaning(geometry, false) {
            Meaning::Data(host) | Meaning::ZeroAllocated(host) => {
                let cluster = geometry.cluster_floor(host);
                if wanted(cluster) {
                    let holder = Holder::Table(table);
                    found.plain.push(Reference { cluster, holder, index });
                }
            }
            Meaning::Compressed(extent) => {
                let run = ClusterRun::of(geometry, extent.offset, extent.bytes);
                if run.clusters().any(&wanted) {
                    found.packed.push(Packed { extent, table, index });
                }
            }
            Meaning::Unallocated | Meaning::Zero => {}
        }
    }
}

/// The entries of an L2 table.
pub(super) fn entries_of<'a>(
    bytes: &'a [u8],
    geometry: &Geometry,
) -> impl Iterator<Item = L2Entry> + 'a {
    bytes.chunks_exact(geometry.l2_entry_bytes()).map(L2Entry::decode)
}
