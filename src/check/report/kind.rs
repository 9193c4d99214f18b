//! What can be wrong with an image, with the numbers that describe it.

use super::orphan::Orphan;
use super::place::{Place, RegionKind};
use crate::format::HostOffset;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Notice,
    /// Space that nothing uses.
    Leak,
    /// The check could not see this part.
    CheckError,
    /// Data is lost or in danger.
    Corruption,
}

/// What is wrong, with the numbers that describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A header field or extension is out of range; the text names it.
    HeaderField(String),
    /// No QEMU opens a backing file of the recorded format; the text says why.
    BackingFormat(String),
    /// The external data file has no name in the image.
    DataFileUnnamed,
    /// The LUKS header is damaged; the text says how.
    EncryptionHeader(String),
    /// More snapshots than QEMU opens.
    TooManySnapshots(u32),
    /// The snapshot table from this entry on is over QEMU's limit.
    SnapshotTableTooBig {
        /// Entries from there to the end.
        overhanging: u32,
    },
    /// The snapshot table ends before its last entry, or does not begin at a cluster.
    SnapshotTableBroken(String),
    /// A snapshot's extra data is over QEMU's limit.
    SnapshotExtraTooLarge(u32),
    /// A version 3 snapshot without VM state size and disk size.
    SnapshotIncomplete,
    /// Another snapshot has the same id.
    SnapshotIdTwice(String),
    /// Snapshots beside an external data file.
    SnapshotsWithDataFile(u32),
    /// A snapshot's L1 table does not begin at a cluster.
    SnapshotL1Unaligned {
        /// The snapshot's id.
        id: String,
        /// The snapshot's name.
        name: String,
        /// Where the table is said to begin.
        offset: HostOffset,
    },
    /// A snapshot's L1 table is over QEMU's limit.
    SnapshotL1TooLarge {
        /// The snapshot's id.
        id: String,
        /// The snapshot's name.
        name: String,
        /// Its entries.
        entries: u32,
    },
    /// A snapshot's L1 table is too small for its disk size.
    SnapshotL1TooSmall {
        /// Its entries.
        entries: u32,
        /// The entries that its disk size needs.
        needed: u64,
    },
    /// L1 tables that lie over each other are longer than the file together; this one was not read.
    L1TablesOverlap,
    /// Reserved bits in an L1 entry.
    L1Reserved(u64),
    /// An L1 entry points into the middle of a cluster.
    L2TableUnaligned(HostOffset),
    /// Reserved bits in an L2 entry.
    L2Reserved(u64),
    /// The zero flag in an extended L2 entry, where it is reserved.
    L2ZeroReserved(u64),
    /// COPIED on a compressed cluster.
    CompressedCopied {
        /// The descriptor without its sector count.
        offset: HostOffset,
    },
    /// A compressed cluster in an image with an external data file.
    CompressedWithDataFile(u64),
    /// A compressed cluster with a subcluster bitmap.
    CompressedWithBitmap(u64),
    /// Two compressed extents overlap.
    CompressedOverlap {
        /// Where the second one begins.
        offset: HostOffset,
        /// Whether the refcount comparison tells of the same clusters.
        counted: bool,
    },
    /// Subclusters both allocated and zero.
    SubclusterConflict(HostOffset),
    /// Allocated subclusters without a cluster.
    SubclustersWithoutCluster,
    /// A data cluster in the middle of a cluster.
    DataUnaligned(HostOffset),
    /// A preallocated zero cluster in the middle of a cluster.
    PreallocatedUnaligned(HostOffset),
    /// In an external data file host and guest offset must be the same.
    DataFileOffset(HostOffset),
    /// Something lies past the end of the file by a cluster or more.
    BeyondEnd {
        /// Where it begins.
        offset: HostOffset,
        /// Its length in bytes.
        bytes: u64,
    },
    /// The file ends within a table, or less than a cluster before one.
    CutOff {
        /// Whose bytes are missing.
        owner: RegionKind,
        /// How many of its bytes.
        bytes: u64,
    },
    /// Clusters past the end of the file are counted as used, by a block that counts clusters of the file too.
    CountedBeyondEnd,
    /// More references than the refcount width can count.
    Overflow {
        /// References over the greatest count.
        excess: u64,
        /// Bytes of a cluster.
        cluster_bytes: u64,
    },
    /// Reserved bits in a refcount table entry.
    ReftableReserved,
    /// A refcount block in the middle of a cluster.
    RefblockUnaligned,
    /// A refcount block outside the file.
    RefblockOutside,
    /// A refcount block's cluster that something else uses too.
    RefblockShared {
        /// References to the cluster when this one is counted.
        references: u64,
    },
    /// Counts that differ from the references found, alike over a run of clusters.
    Count {
        /// In the refcount block.
        stored: u64,
        /// Found in the image.
        referenced: u64,
    },
    /// COPIED of an L1 entry disagrees with the count of its L2 table.
    L2TableCopied {
        /// The entry.
        entry: u64,
        /// The count.
        count: u64,
    },
    /// COPIED of an L2 entry disagrees with the count of its cluster.
    DataCopied {
        /// The entry.
        entry: u64,
        /// The count.
        count: u64,
    },
    /// A metadata cluster that something else uses too.
    Overlap {
        /// What the cluster is.
        owner: RegionKind,
        /// Other metadata there, if it is metadata.
        other: Option<RegionKind>,
        /// Whether the refcount comparison tells of the same clusters.
        counted: bool,
    },
    /// The same L2 table at several guest positions.
    L2TableTwice {
        /// Where it lies.
        table: HostOffset,
        /// Whether the refcount comparison tells of the same cluster.
        counted: bool,
    },
    /// Several guest positions, of the active disk or of a snapshot, use the same clusters.
    SharedData,
    /// The same, where it is known that one of the positions lost its own clusters.
    StillShared,
    /// An L2 table that no L1 entry points to: guest data that is lost but still there.
    OrphanTable(Orphan),
    /// A table without entries while leaked clusters hold data.
    BlankTable {
        /// What is blank.
        what: &'static str,
        /// How many leaked clusters hold data.
        clusters: u64,
    },
    /// A snapshot table entry whose id is empty or not text: the table was overwritten.
    SnapshotBlank,
    /// An entry follows the last one that the header counts, and its L1 table is leaked.
    SnapshotsUncounted(u32),
    /// Leaked clusters beside damage: a damaged entry may have pointed to them.
    Unaccounted {
        /// How many clusters.
        clusters: u64,
        /// The damaged places, the first ones.
        entries: Vec<Place>,
        /// How many more there are.
        more: u64,
    },
    /// The bitmap directory is damaged; the text says how.
    BitmapDirectory(String),
    /// A bitmap's directory entry is damaged; the text says how.
    BitmapEntry {
        /// The bitmap's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Entries of a bitmap table are damaged.
    BitmapTable {
        /// The bitmap's name.
        name: String,
        /// How many.
        entries: u64,
    },
    /// A structure could not be read.
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Where it lies.
        offset: HostOffset,
        /// What the operating system said.
        error: String,
    },
    /// A compressed cluster that cannot be unpacked.
    CompressedData {
        /// Where the compressed data begins.
        offset: HostOffset,
        /// What is wrong with it.
        problem: String,
    },
    /// Guest data that could not be read.
    DataUnreadable {
        /// Where it lies, in the image or in the external data file.
        offset: HostOffset,
        /// Whether that is the external data file.
        external: bool,
        /// What the operating system said.
        error: String,
    },
    /// Guest data past the end of the external data file.
    DataBeyondEnd(HostOffset),
    /// The external data file is not what the image needs.
    DataFile {
        /// What is wrong with it.
        problem: String,
        /// Whether it could not be looked at.
        unseen: bool,
    },
    /// A backing file is not what the image above it needs.
    BackingFile {
        /// What is wrong with it.
        problem: String,
        /// Whether it could not be looked at.
        unseen: bool,
    },
    /// A bitmap's data breaks the specification.
    BitmapData {
        /// The bitmap's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that the image names was not opened, since the caller does not want that.
    NotOpened(&'static str),
    /// A disk has no digest, since not all of it can be read.
    NoDigest {
        /// Why.
        reason: String,
        /// Whether the image is damaged there.
        damage: bool,
    },
    /// The dirty bit: counts may be stale.
    Dirty,
    /// The corrupt bit: QEMU found damage while it was writing.
    MarkedCorrupt,
}
