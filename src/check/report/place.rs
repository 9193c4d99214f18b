//! Where in an image something is: structures, their entries, clusters, ranges of a guest's disk.

use crate::format::{ClusterCount, GuestOffset, HostCluster, L1Index, L2Index, ReftableIndex};

/// Which L1 table a mapping belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The disk as the guest sees it now.
    Active,
    /// A snapshot, by its position in the snapshot table.
    Snapshot(u32),
}

/// Where in the image a finding was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The header, at this byte of the file.
    Header(u64),
    /// The snapshot table as a whole.
    SnapshotTable,
    /// An entry of the snapshot table.
    Snapshot(u32),
    /// An L1 table as a whole.
    L1Table(Source),
    /// An entry of an L1 table.
    L1(Source, L1Index),
    /// An entry of the L2 table that this L1 entry points to.
    L2(Source, L1Index, L2Index),
    /// The refcount table as a whole.
    Reftable,
    /// An entry of the refcount table, or the block it points to.
    Refblock(ReftableIndex),
    /// Clusters of the file.
    Clusters(HostCluster, ClusterCount),
    /// The encryption header.
    CryptoHeader,
    /// The bitmap directory as a whole.
    BitmapDirectory,
    /// A bitmap, by its position in the directory.
    Bitmap(u32),
    /// A whole disk.
    Disk(Source),
}

/// What owns a metadata cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RegionKind {
    /// The image's header.
    Header,
    /// The active L1 table, or a snapshot's.
    L1Table(Source),
    /// An L2 table.
    L2Table,
    /// The snapshot table.
    SnapshotTable,
    /// The refcount table.
    Reftable,
    /// A refcount block.
    Refblock,
    /// The encryption header.
    CryptoHeader,
    /// The bitmap directory.
    BitmapDirectory,
    /// A bitmap table.
    BitmapTable(u32),
    /// A cluster of bitmap data.
    BitmapData(u32),
}

/// A range of a guest disk that a finding touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestRange {
    /// Where it begins.
    pub offset: GuestOffset,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whose disk.
    pub source: Source,
}
