//! Whether refcount structures describe themselves: a table whose blocks count the header, the
//! table and themselves once, and nothing past the end of the file.

use std::io;

use crate::format::feature::incompatible;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::Header;
use crate::format::l2::SECTOR_BYTES;
use crate::format::refcount::{self, MAX_REFTABLE_BYTES, ReftableEntry, get_refcount};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, ReftableIndex};
use crate::storage::ReadAt;
use crate::tables::load_entries;

/// A refcount table that describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reftable {
    /// Its position.
    pub offset: HostOffset,
    /// Cluster size and refcount width for which it does.
    pub geometry: Geometry,
    /// Clusters that it needs to describe the file.
    pub clusters: u32,
    /// Bytes of the file that it counts, without those past its end.
    pub covered: u64,
}

impl Reftable {
    /// The table at `offset` with clusters and counts of these sizes; `None` where it does not
    /// describe itself.
    pub fn at(
        source: &dyn ReadAt,
        offset: HostOffset,
        geometry: Geometry,
    ) -> io::Result<Option<Self>> {
        let file_bytes = source.len()?;
        if offset.get() == 0 || !geometry.is_aligned(offset) || offset.get() >= file_bytes {
            return Ok(None);
        }
        let table = Self { offset, geometry, clusters: 0, covered: 0 };
        let header = HostCluster::new(0);
        if table.count(source, header)? != 1
            || table.count(source, geometry.cluster_floor(offset))? != 1
        {
            return Ok(None);
        }
        let first = ReftableEntry(table.entry(source, ReftableIndex::new(0))?).offset();
        if table.count(source, geometry.cluster_floor(first))? != 1 {
            return Ok(None);
        }
        table.measured(source, file_bytes)
    }

    fn entry(&self, source: &dyn ReadAt, index: ReftableIndex) -> io::Result<u64> {
        let at = self.offset.saturating_add(index.get().saturating_mul(TABLE_ENTRY_BYTES));
        Ok(load_entries(source, at, 1)?[0])
    }

    /// The refcount of a cluster; 0 where the table points to no block.
    pub fn count(&self, source: &dyn ReadAt, cluster: HostCluster) -> io::Result<u64> {
        let (index, place) = self.geometry.refcount_place(cluster);
        let block = ReftableEntry(self.entry(source, index)?);
        if block.has_reserved_bits()
            || block.offset().get() == 0
            || !self.geometry.is_aligned(block.offset())
        {
            return Ok(0);
        }
        let order = self.geometry.refcount_order();
        let bit = u64::from(place.get()) << order;
        let mut sector = [0; 512];
        let at = block.offset().saturating_add(bit / 8 / SECTOR_BYTES * SECTOR_BYTES);
        source.read_padded_at(at.get(), &mut sector)?;
        let entry = usize::try_from((bit % (SECTOR_BYTES * 8)) >> order).unwrap_or(0);
        Ok(get_refcount(&sector, order, entry))
    }

    /// The clusters with its blocks for the file.
    pub fn blocks(&self, source: &dyn ReadAt) -> io::Result<Vec<HostCluster>> {
        let blocks = self.geometry.refblocks_for(source.len()?);
        let entries = load_entries(source, self.offset, blocks)?;
        let offsets = entries.into_iter().map(|entry| ReftableEntry(entry).offset());
        Ok(offsets.filter_map(|at| self.geometry.cluster_exact(at)).collect())
    }

    /// Goes through the blocks of the whole file; `None` where one has no valid offset.
    fn measured(mut self, source: &dyn ReadAt, file_bytes: u64) -> io::Result<Option<Self>> {
        let geometry = self.geometry;
        let clusters = geometry.clusters_for(file_bytes);
        let blocks = geometry.refblocks_for(file_bytes);
        let bytes = (blocks * TABLE_ENTRY_BYTES).next_multiple_of(geometry.cluster_bytes());
        if bytes > MAX_REFTABLE_BYTES.max(geometry.cluster_bytes()) {
            return Ok(None);
        }
        let entries = load_entries(source, self.offset, blocks)?;
        let mut block = vec![0; geometry.cluster_len()];
        let (mut counted, mut outside) = (0u64, 0u64);
        for (index, &bits) in (0u64..).zip(&entries) {
            if bits == 0 {
                continue;
            }
            let at = ReftableEntry(bits).offset();
            if ReftableEntry(bits).has_reserved_bits()
                || !geometry.is_aligned(at)
                || at.get() >= file_bytes
            {
                return Ok(None);
            }
            source.read_padded_at(at.get(), &mut block)?;
            let first = geometry.first_cluster_of_block(ReftableIndex::new(index));
            let inside = clusters.get().saturating_sub(first.get());
            let entries = 0..geometry.refblock_len();
            for (entry, _) in refcount::counted(&block, geometry.refcount_order(), entries) {
                *(if (entry as u64) < inside { &mut counted } else { &mut outside }) += 1;
            }
        }
        if outside >= counted {
            return Ok(None); // Counts of what is not there: something else was read as a block.
        }
        let counted = ClusterCount::new(counted - outside);
        self.covered = geometry.bytes_of(counted);
        self.clusters =
            u32::try_from(geometry.clusters_for(bytes.max(1)).get()).unwrap_or(u32::MAX);
        Ok(Some(self))
    }
}

/// The refcount widths under which a header's table describes itself, its own first.
pub fn widths(source: &dyn ReadAt, header: &Header) -> io::Result<Vec<u32>> {
    let mut orders: Vec<u32> = (0..=6).filter(|&order| order != header.refcount_order).collect();
    if header.refcount_order <= 6 {
        orders.insert(0, header.refcount_order);
    }
    if header.version < 3 {
        orders = vec![4];
    }
    let extended = header.has_incompatible(incompatible::EXTENDED_L2);
    let mut found = Vec::new();
    for order in orders {
        if let Ok(geometry) = Geometry::new(header.cluster_bits, order, extended, header.size) {
            if Reftable::at(source, header.reftable, geometry)?.is_some() {
                found.push(order);
            }
        }
    }
    Ok(found)
}
