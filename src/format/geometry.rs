//! The sizes that follow from the header: every shift of the format in one place.

use super::addr::{
    ClusterCount, GuestCluster, GuestOffset, HostCluster, HostOffset, L1Index, L2Index,
    RefblockIndex, ReftableIndex,
};

/// Smallest cluster size as a power of two (specification: 512 bytes).
pub const MIN_CLUSTER_BITS: u32 = 9;
/// Largest cluster size as a power of two (QEMU's limit: 2 MiB).
pub const MAX_CLUSTER_BITS: u32 = 21;
/// Largest refcount order (specification: 64-bit refcounts).
pub const MAX_REFCOUNT_ORDER: u32 = 6;
/// Smallest cluster size with extended L2 entries (QEMU's limit: a subcluster holds a sector).
pub const MIN_EXTENDED_L2_CLUSTER_BITS: u32 = 14;
/// Bytes of an L1 table entry, a refcount table entry and a standard L2 entry.
pub const TABLE_ENTRY_BYTES: u64 = 8;
/// Bytes of the units in which guests count a disk.
const SECTOR_BYTES: u64 = 512;
/// Subclusters of a cluster with extended L2 entries.
pub const SUBCLUSTERS: u32 = 32;

/// A header field whose value gives no usable geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GeometryError {
    /// `cluster_bits` outside 9..=21.
    ClusterBits(u32),
    /// `refcount_order` above 6.
    RefcountOrder(u32),
    /// Extended L2 entries with clusters under 16 KiB.
    ExtendedL2(u32),
}

/// Cluster size, refcount width, L2 entry size and virtual size of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    cluster_bits: u32,
    refcount_order: u32,
    extended_l2: bool,
    virtual_size: u64,
}

/// A guest sees whole sectors.
const fn whole_sectors(bytes: u64) -> u64 {
    bytes - bytes % SECTOR_BYTES
}

impl Geometry {
    /// Checks the ranges of the specification and of QEMU's limits. `virtual_size` is in bytes.
    pub const fn new(
        cluster_bits: u32,
        refcount_order: u32,
        extended_l2: bool,
        virtual_size: u64,
    ) -> Result<Self, GeometryError> {
        if cluster_bits < MIN_CLUSTER_BITS || cluster_bits > MAX_CLUSTER_BITS {
            return Err(GeometryError::ClusterBits(cluster_bits));
        }
        if refcount_order > MAX_REFCOUNT_ORDER {
            return Err(GeometryError::RefcountOrder(refcount_order));
        }
        if extended_l2 && cluster_bits < MIN_EXTENDED_L2_CLUSTER_BITS {
            return Err(GeometryError::ExtendedL2(cluster_bits));
        }
        let virtual_size = whole_sectors(virtual_size);
        Ok(Self { cluster_bits, refcount_order, extended_l2, virtual_size })
    }

    /// The same with refcounts of 2^`refcount_order` bits, at most 64.
    pub const fn with_refcount_order(self, refcount_order: u32) -> Self {
        Self { refcount_order, ..self }
    }

    /// log2 of the cluster size, 9..=21.
    pub const fn cluster_bits(&self) -> u32 {
        self.cluster_bits
    }
    /// Bytes of a cluster.
    pub const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }
    /// Bytes of a cluster, as a length in memory.
    pub const fn cluster_len(&self) -> usize {
        1 << self.cluster_bits
    }
    /// Bytes of the virtual disk: whole sectors, as in QEMU, whatever size the header has.
    pub const fn virtual_size(&self) -> u64 {
        self.virtual_size
    }
    /// The same image with another disk size: a snapshot's, or after a resize.
    pub const fn with_virtual_size(self, virtual_size: u64) -> Self {
        Self { virtual_size: whole_sectors(virtual_size), ..self }
    }

    // Host clusters.

    /// The cluster that holds this byte.
    pub const fn cluster_floor(&self, offset: HostOffset) -> HostCluster {
        HostCluster::new(offset.get() >> self.cluster_bits)
    }
    /// The cluster that begins at this offset, or `None` where none does.
    pub const fn cluster_exact(&self, offset: HostOffset) -> Option<HostCluster> {
        if self.is_aligned(offset) { Some(self.cluster_floor(offset)) } else { None }
    }
    /// Whether a cluster begins at this offset.
    pub const fn is_aligned(&self, offset: HostOffset) -> bool {
        offset.get() & (self.cluster_bytes() - 1) == 0
    }
    /// Where a cluster begins.
    pub const fn offset_of(&self, cluster: HostCluster) -> HostOffset {
        HostOffset::new(cluster.get() << self.cluster_bits)
    }
    /// How many clusters hold this many bytes, the last one perhaps in part.
    pub const fn clusters_for(&self, bytes: u64) -> ClusterCount {
        ClusterCount::new(bytes.div_ceil(self.cluster_bytes()))
    }
    /// Bytes of this many clusters.
    pub const fn bytes_of(&self, count: ClusterCount) -> u64 {
        count.get() << self.cluster_bits
    }
    /// The clusters that a range of bytes touches: first and how many. An empty range touches none.
    pub const fn span(&self, offset: HostOffset, bytes: u64) -> (HostCluster, ClusterCount) {
        let first = self.cluster_floor(offset);
        if bytes == 0 {
            return (first, ClusterCount::new(0));
        }
        let last = offset.get().saturating_add(bytes - 1) >> self.cluster_bits;
        (first, ClusterCount::new(last - first.get() + 1))
    }

    // L1 and L2 tables.

    /// Whether L2 entries are 16 bytes with a subcluster bitmap.
    pub const fn extended_l2(&self) -> bool {
        self.extended_l2
    }
    /// Bytes of an L2 entry: 8, or 16 with subclusters.
    pub const fn l2_entry_bytes(&self) -> usize {
        if self.extended_l2 { 16 } else { 8 }
    }
    /// log2 of the entries of an L2 table.
    pub const fn l2_bits(&self) -> u32 {
        self.cluster_bits - if self.extended_l2 { 4 } else { 3 }
    }
    /// Entries of an L2 table, which is one cluster long.
    pub const fn l2_entries(&self) -> u32 {
        1 << self.l2_bits()
    }
    /// Bytes of guest disk that one L2 table maps: at most 2^39.
    pub const fn bytes_per_l2_table(&self) -> u64 {
        1 << (self.cluster_bits + self.l2_bits())
    }
    /// L1 entries that a disk of this many bytes needs.
    pub const fn l1_entries_for(&self, disk_bytes: u64) -> u64 {
        disk_bytes.div_ceil(self.bytes_per_l2_table())
    }
    /// The guest offset that an L2 entry maps.
    pub const fn guest_offset(&self, l1: L1Index, l2: L2Index) -> GuestOffset {
        let base = (l1.get() as u64).saturating_mul(self.bytes_per_l2_table());
        GuestOffset::new(base.saturating_add((l2.get() as u64) << self.cluster_bits))
    }
    /// The cluster of the guest's disk that holds this byte.
    pub const fn guest_cluster_floor(&self, offset: GuestOffset) -> GuestCluster {
        GuestCluster::new(offset.get() >> self.cluster_bits)
    }
    /// Clusters of the guest's disk.
    pub const fn guest_clusters(&self) -> ClusterCount {
        self.clusters_for(self.virtual_size)
    }

    // Refcounts.

    /// log2 of the bits of a refcount, 0..=6.
    pub const fn refcount_order(&self) -> u32 {
        self.refcount_order
    }
    /// Bits of a refcount.
    pub const fn refcount_bits(&self) -> u32 {
        1 << self.refcount_order
    }
    /// The greatest count that fits.
    pub const fn refcount_max(&self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits())
    }
    /// log2 of the entries of a refcount block.
    pub const fn refblock_bits(&self) -> u32 {
        self.cluster_bits + 3 - self.refcount_order
    }
    /// Entries of a refcount block, which is one cluster long.
    pub const fn refblock_entries(&self) -> u64 {
        1 << self.refblock_bits()
    }
    /// [`Self::refblock_entries`] as a length in memory.
    pub fn refblock_len(&self) -> usize {
        usize::try_from(self.refblock_entries()).expect("at most 2^24 entries in a block")
    }
    /// Where the count of a cluster is stored.
    pub const fn refcount_place(&self, cluster: HostCluster) -> (ReftableIndex, RefblockIndex) {
        let low = cluster.get() & (self.refblock_entries() - 1);
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^24 entries in a block")]
        let low = RefblockIndex::new(low as u32);
        (ReftableIndex::new(cluster.get() >> self.refblock_bits()), low)
    }
    /// The first cluster that a refcount block describes, saturated at 2^64 - 1.
    pub const fn first_cluster_of_block(&self, index: ReftableIndex) -> HostCluster {
        HostCluster::new(index.get().saturating_mul(self.refblock_entries()))
    }
    /// How many entries of a refcount block are for clusters that begin before an offset.
    pub fn refblock_entries_before(&self, index: ReftableIndex, end: u64) -> usize {
        let first = self.first_cluster_of_block(index);
        let before = self.clusters_for(end).get().saturating_sub(first.get());
        usize::try_from(before.min(self.refblock_entries())).unwrap_or(usize::MAX)
    }
    /// How many refcount blocks describe the clusters of a file of so many bytes.
    pub const fn refblocks_for(&self, bytes: u64) -> u64 {
        self.clusters_for(bytes).get().div_ceil(self.refblock_entries())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_geometry_has_the_sizes_of_the_specification() {
        let g = Geometry::new(16, 4, false, 1 << 40).unwrap();
        assert_eq!(g.l2_entries(), 8192);
        assert_eq!(g.bytes_per_l2_table(), 512 << 20);
        assert_eq!(g.l1_entries_for(1 << 40), 2048);
        assert_eq!(g.refblock_entries(), 32768);
        assert_eq!(g.refcount_max(), 65535);
        assert_eq!(
            g.refcount_place(HostCluster::new(32769)),
            (ReftableIndex::new(1), RefblockIndex::new(1))
        );
    }

    #[test]
    fn widths_at_the_ends_of_the_range_work() {
        let narrow = Geometry::new(21, 0, false, 0).unwrap();
        assert_eq!(narrow.refblock_entries(), 1 << 24);
        assert_eq!(narrow.refcount_max(), 1);
        let wide = Geometry::new(9, 6, false, 0).unwrap();
        assert_eq!(wide.refblock_entries(), 64);
        assert_eq!(wide.refcount_max(), u64::MAX);
    }

    #[test]
    fn a_range_of_bytes_touches_the_clusters_of_its_first_and_last_byte() {
        let g = Geometry::new(9, 4, false, 0).unwrap();
        assert_eq!(g.span(HostOffset::new(511), 2), (HostCluster::new(0), ClusterCount::new(2)));
        assert_eq!(g.span(HostOffset::new(512), 0).1, ClusterCount::new(0));
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(Geometry::new(8, 4, false, 0), Err(GeometryError::ClusterBits(8)));
        assert_eq!(Geometry::new(22, 4, false, 0), Err(GeometryError::ClusterBits(22)));
        assert_eq!(Geometry::new(16, 7, false, 0), Err(GeometryError::RefcountOrder(7)));
        assert_eq!(Geometry::new(13, 4, true, 0), Err(GeometryError::ExtendedL2(13)));
    }
}
