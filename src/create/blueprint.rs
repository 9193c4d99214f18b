//! Where everything in a new image goes: one structure after the other, all full.

use crate::error::{Error, Result};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::MAX_L1_BYTES;
use crate::format::refcount::MAX_REFTABLE_BYTES;
use crate::format::{ClusterCount, Geometry, HostCluster};

/// A run of clusters that belongs to one structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its first cluster.
    pub first: HostCluster,
    /// How many.
    pub count: ClusterCount,
}

impl Run {
    /// The cluster after it.
    pub fn end(&self) -> HostCluster {
        self.first + self.count
    }
}

/// The new image's clusters, in file order: the header's is cluster 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blueprint {
    /// The refcount table.
    pub reftable: Run,
    /// The refcount blocks.
    pub refblocks: Run,
    /// The active L1 table.
    pub l1: Run,
    /// Entries of the active L1 table.
    pub l1_entries: u32,
    /// The encryption header with its key material, where there is one.
    pub crypto: Run,
    /// The L2 tables, all of them or none.
    pub l2: Run,
    /// The guest's clusters, all of them or none.
    pub data: Run,
}

impl Blueprint {
    /// Places everything. `tables`: whether the L2 tables are there from the start;
    /// `data`: whether the guest's clusters are there too; `crypto_bytes`: the length of the
    /// encryption header, 0 without one.
    pub fn new(geometry: &Geometry, tables: bool, data: bool, crypto_bytes: u64) -> Result<Self> {
        let l1_entries = geometry.l1_entries_for(geometry.virtual_size());
        let l1_clusters = geometry.clusters_for(checked_l1_bytes(geometry)?);
        let l2_clusters = ClusterCount::new(if tables { l1_entries } else { 0 });
        let none = ClusterCount::new(0);
        let data_clusters = if data { geometry.guest_clusters() } else { none };
        let crypto_clusters = geometry.clusters_for(crypto_bytes);
        let metadata = ClusterCount::new(1) + l1_clusters + crypto_clusters + l2_clusters;
        let others = metadata + data_clusters;
        let (reftable, refblocks) = refcount_clusters(geometry, others)?;

        let mut next = HostCluster::new(1);
        let mut place = |count: ClusterCount| {
            let run = Run { first: next, count };
            next = run.end();
            run
        };
        Ok(Self {
            reftable: place(reftable),
            refblocks: place(refblocks),
            l1: place(l1_clusters),
            l1_entries: u32::try_from(l1_entries).unwrap_or(u32::MAX),
            crypto: place(crypto_clusters),
            l2: place(l2_clusters),
            data: place(data_clusters),
        })
    }

    /// The cluster after the last one.
    pub fn end(&self) -> HostCluster {
        self.data.end()
    }

    /// Length of the file in bytes. An L1 table that comes last is not padded to a cluster.
    pub fn file_bytes(&self, geometry: &Geometry) -> u64 {
        let after = self.crypto.count + self.l2.count + self.data.count;
        if after.get() > 0 || self.l1_entries == 0 {
            return geometry.offset_of(self.end()).get();
        }
        geometry.offset_of(self.l1.first).get() + u64::from(self.l1_entries) * TABLE_ENTRY_BYTES
    }
}

/// Bytes of the L1 table of a new image; an error where QEMU would not open it.
pub(crate) fn checked_l1_bytes(geometry: &Geometry) -> Result<u64> {
    let entries = geometry.l1_entries_for(geometry.virtual_size());
    let bytes = entries.saturating_mul(TABLE_ENTRY_BYTES);
    if bytes > MAX_L1_BYTES {
        return Err(Error::Refused(format!(
            "{} bytes are too many for clusters of {} bytes: choose larger clusters",
            geometry.virtual_size(),
            geometry.cluster_bytes()
        )));
    }
    Ok(bytes)
}

/// How many clusters the refcount table and the refcount blocks take that describe `others` and
/// themselves: the smallest numbers for which everything fits.
pub(crate) fn refcount_clusters(
    geometry: &Geometry,
    others: ClusterCount,
) -> Result<(ClusterCount, ClusterCount)> {
    let (table, blocks) = counting_clusters(geometry, others);
    if geometry.bytes_of(table) > MAX_REFTABLE_BYTES.max(geometry.cluster_bytes()) {
        return Err(Error::Refused(format!(
            "a refcount table of {} bytes is over QEMU's limit: choose larger clusters or narrower \
             refcounts",
            geometry.bytes_of(table)
        )));
    }
    Ok((table, blocks))
}

/// The same without regard to QEMU's limit.
pub(crate) fn counting_clusters(
    geometry: &Geometry,
    others: ClusterCount,
) -> (ClusterCount, ClusterCount) {
    let mut table = ClusterCount::new(1);
    let mut blocks = ClusterCount::new(1);
    loop {
        let all = others + table + blocks;
        let need_blocks = ClusterCount::new(all.get().div_ceil(geometry.refblock_entries()));
        let need_table = geometry.clusters_for(need_blocks.get() * TABLE_ENTRY_BYTES);
        if need_blocks <= blocks && need_table <= table {
            return (table, blocks);
        }
        (blocks, table) = (blocks.max(need_blocks), table.max(need_table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32, order: u32, size: u64) -> Geometry {
        Geometry::new(cluster_bits, order, false, size).unwrap()
    }

    #[test]
    fn an_empty_image_has_the_layout_of_one_of_qemu() {
        let g = geometry(16, 4, 10 << 20);
        let blueprint = Blueprint::new(&g, false, false, 0).unwrap();
        assert_eq!(blueprint.reftable.first, HostCluster::new(1));
        assert_eq!(blueprint.refblocks.first, HostCluster::new(2));
        assert_eq!(blueprint.l1.first, HostCluster::new(3));
        assert_eq!((blueprint.l1_entries, blueprint.file_bytes(&g)), (1, 3 * 65536 + 8));
    }

    #[test]
    fn blocks_describe_themselves_and_the_table_at_every_width() {
        for cluster_bits in [9, 12, 16] {
            for order in 0..=6 {
                for size in [0, 1 << 20, 100 << 20] {
                    let g = geometry(cluster_bits, order, size);
                    let blueprint = Blueprint::new(&g, true, true, 0).unwrap();
                    let described = blueprint.refblocks.count.get() * g.refblock_entries();
                    assert!(described >= blueprint.end().get());
                    let entries = g.bytes_of(blueprint.reftable.count) / TABLE_ENTRY_BYTES;
                    assert!(entries >= blueprint.refblocks.count.get());
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_for_its_clusters_is_refused() {
        assert!(Blueprint::new(&geometry(9, 4, 1 << 40), false, false, 0).is_err());
        assert!(Blueprint::new(&geometry(16, 4, 2 << 50), false, false, 0).is_ok());
        assert!(Blueprint::new(&geometry(16, 4, (2 << 50) + 512), false, false, 0).is_err());
        // 16 million refcount blocks: the table would be over the limit.
        assert!(Blueprint::new(&geometry(9, 6, 100 << 30), true, true, 0).is_err());
    }
}
