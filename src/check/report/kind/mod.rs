//! What can be wrong with an image, with the numbers that describe it.

pub(crate) mod bitmaps;
mod data;
pub(crate) mod header;
mod reading;
mod refcounts;
mod row;
mod snapshots;
pub(crate) mod tables;

use super::orphan::Orphan;
use super::place::{Place, RegionKind};
use crate::format::HostOffset;

pub use row::{Remedy, Row, Section, Severity};

/// Every kind of finding, in the order of `docs/findings.md`.
pub static SECTIONS: [&Section; 7] = [
    &header::SECTION,
    &snapshots::SECTION,
    &tables::SECTION,
    &refcounts::SECTION,
    &bitmaps::SECTION,
    &data::SECTION,
    &reading::SECTION,
];

/// What is wrong, with the numbers that describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A header field or extension is out of range; the text names it.
    HeaderField(String),
    /// No QEMU opens a backing file of the recorded format; the text gives the reason.
    BackingFormat(String),
    /// The external data file has no name in the image.
    DataFileUnnamed,
    /// The LUKS header is damaged; the text gives the reason.
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
        /// The table's offset by its pointer.
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
    /// L1 tables that overlap each other are longer than the file together; this one was not read.
    L1TablesOverlap,
    /// Reserved bits in an L1 entry.
    L1Reserved(u64),
    /// An L1 entry points into the middle of a cluster.
    L2TableUnaligned(HostOffset),
    /// Reserved bits in an L2 entry.
    L2Reserved(u64),
    /// The zero flag in an extended L2 entry, where it is reserved.
    L2ZeroReserved(u64),
    /// The zero flag in an L2 entry of a version 2 image.
    L2ZeroInVersion2(u64),
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
        /// Whether the refcount comparison reports the same clusters.
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
    /// Something is past the end of the file by a cluster or more.
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
    /// Clusters past the end of the file are counted as used, by a block that counts clusters of
    /// the file too.
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
    /// COPIED of an L1 entry disagrees with the refcount of its L2 table.
    L2TableCopied {
        /// The entry.
        entry: u64,
        /// The refcount.
        count: u64,
    },
    /// COPIED of an L2 entry disagrees with the refcount of its cluster.
    DataCopied {
        /// The entry.
        entry: u64,
        /// The refcount.
        count: u64,
    },
    /// A metadata cluster that something else uses too.
    Overlap {
        /// What the cluster is.
        owner: RegionKind,
        /// Other metadata there, if it is metadata.
        other: Option<RegionKind>,
        /// Whether the refcount comparison reports the same clusters.
        counted: bool,
    },
    /// The same L2 table at several guest positions.
    L2TableTwice {
        /// Its offset.
        table: HostOffset,
        /// Whether the refcount comparison reports the same cluster.
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
    /// The bitmap directory is damaged; the text gives the reason.
    BitmapDirectory(String),
    /// A bitmap's directory entry is damaged; the text gives the reason.
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
    /// A bitmap was not stored by its last writer.
    BitmapInUse {
        /// The bitmap's name.
        name: String,
    },
    /// A structure could not be read.
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Its offset.
        offset: HostOffset,
        /// The error of the operating system.
        error: String,
    },
    /// A compressed cluster that cannot be decompressed.
    CompressedData {
        /// Where the compressed data begins.
        offset: HostOffset,
        /// What is wrong with it.
        problem: String,
    },
    /// Guest data that could not be read.
    DataUnreadable {
        /// Its offset, in the image or in the external data file.
        offset: HostOffset,
        /// Whether that is the external data file.
        external: bool,
        /// The error of the operating system.
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
    /// A file that the image names was not opened, since the caller has excluded that.
    NotOpened(&'static str),
    /// A disk has no digest, since not all of it can be read.
    NoDigest {
        /// Why.
        reason: String,
        /// Whether the image is damaged there.
        damage: bool,
    },
    /// A finding of this kind that is not decided: the image changed while it was read.
    InFlux(&'static str),
    /// The dirty bit: counts may be stale.
    Dirty,
    /// The corrupt bit: QEMU found damage while it was writing.
    MarkedCorrupt,
}

impl Kind {
    /// What is known of the kind whatever the numbers.
    pub fn row(&self) -> &'static Row {
        match self {
            Self::HeaderField(_) => &header::HEADER_FIELD,
            Self::BackingFormat(_) => &header::BACKING_FORMAT,
            Self::DataFileUnnamed => &header::DATA_FILE_UNNAMED,
            Self::EncryptionHeader(_) => &header::ENCRYPTION_HEADER,
            Self::TooManySnapshots(_) => &snapshots::TOO_MANY_SNAPSHOTS,
            Self::SnapshotTableTooBig { .. } => &snapshots::SNAPSHOT_TABLE_TOO_BIG,
            Self::SnapshotTableBroken(_) => &snapshots::SNAPSHOT_TABLE_BROKEN,
            Self::SnapshotExtraTooLarge(_) => &snapshots::SNAPSHOT_EXTRA_TOO_LARGE,
            Self::SnapshotIncomplete => &snapshots::SNAPSHOT_INCOMPLETE,
            Self::SnapshotIdTwice(_) => &snapshots::SNAPSHOT_ID_TWICE,
            Self::SnapshotsWithDataFile(_) => &snapshots::SNAPSHOTS_WITH_DATA_FILE,
            Self::SnapshotL1Unaligned { .. } => &snapshots::SNAPSHOT_L1_UNALIGNED,
            Self::SnapshotL1TooLarge { .. } => &snapshots::SNAPSHOT_L1_TOO_LARGE,
            Self::SnapshotL1TooSmall { .. } => &snapshots::SNAPSHOT_L1_TOO_SMALL,
            Self::L1TablesOverlap => &tables::L1_TABLES_OVERLAP,
            Self::L1Reserved(_) => &tables::L1_RESERVED_BITS,
            Self::L2TableUnaligned(_) => &tables::L2_TABLE_UNALIGNED,
            Self::L2Reserved(_) => &tables::L2_RESERVED_BITS,
            Self::L2ZeroReserved(_) => &tables::L2_ZERO_FLAG_RESERVED,
            Self::L2ZeroInVersion2(_) => &tables::L2_ZERO_FLAG_VERSION_2,
            Self::CompressedCopied { .. } => &tables::COMPRESSED_COPIED,
            Self::CompressedWithDataFile(_) => &tables::COMPRESSED_WITH_DATA_FILE,
            Self::CompressedWithBitmap(_) => &tables::COMPRESSED_WITH_SUBCLUSTERS,
            Self::CompressedOverlap { .. } => &tables::COMPRESSED_OVERLAP,
            Self::SubclusterConflict(_) => &tables::SUBCLUSTER_CONFLICT,
            Self::SubclustersWithoutCluster => &tables::SUBCLUSTERS_WITHOUT_CLUSTER,
            Self::DataUnaligned(_) => &tables::DATA_UNALIGNED,
            Self::PreallocatedUnaligned(_) => &tables::PREALLOCATED_UNALIGNED,
            Self::DataFileOffset(_) => &tables::DATA_FILE_OFFSET,
            Self::BeyondEnd { .. } => &tables::BEYOND_END,
            Self::Overflow { .. } => &refcounts::REFCOUNT_OVERFLOW,
            Self::ReftableReserved => &refcounts::REFTABLE_RESERVED_BITS,
            Self::RefblockUnaligned => &refcounts::REFBLOCK_UNALIGNED,
            Self::RefblockOutside => &refcounts::REFBLOCK_OUTSIDE,
            Self::RefblockShared { .. } => &refcounts::REFBLOCK_SHARED,
            Self::Count { stored, referenced } if stored > referenced => &refcounts::LEAK,
            Self::Count { .. } => &refcounts::REFCOUNT_TOO_LOW,
            Self::L2TableCopied { .. } => &tables::COPIED_L2_TABLE,
            Self::DataCopied { .. } => &tables::COPIED_DATA,
            Self::Overlap { .. } => &tables::OVERLAP,
            Self::L2TableTwice { .. } => &tables::L2_TABLE_TWICE,
            Self::SharedData => &tables::SHARED_DATA,
            Self::StillShared => &tables::CROSS_LINKED_DATA,
            Self::CutOff { .. } => &tables::CUT_OFF,
            Self::CountedBeyondEnd => &tables::COUNTED_BEYOND_END,
            Self::OrphanTable(_) => &tables::ORPHAN_L2_TABLE,
            Self::BlankTable { .. } => &tables::BLANK_TABLE,
            Self::SnapshotBlank => &snapshots::SNAPSHOT_BLANK,
            Self::SnapshotsUncounted(_) => &snapshots::SNAPSHOTS_UNCOUNTED,
            Self::Unaccounted { .. } => &tables::UNACCOUNTED_CLUSTERS,
            Self::BitmapDirectory(_) => &bitmaps::BITMAP_DIRECTORY,
            Self::BitmapEntry { .. } => &bitmaps::BITMAP_ENTRY,
            Self::BitmapTable { .. } => &bitmaps::BITMAP_TABLE,
            Self::BitmapInUse { .. } => &bitmaps::BITMAP_IN_USE,
            Self::Unreadable { .. } => &reading::UNREADABLE,
            Self::CompressedData { .. } => &data::COMPRESSED_DATA,
            Self::DataUnreadable { .. } => &data::DATA_UNREADABLE,
            Self::DataBeyondEnd(_) => &data::DATA_BEYOND_END,
            Self::DataFile { .. } => &data::DATA_FILE,
            Self::BackingFile { .. } => &data::BACKING_FILE,
            Self::BitmapData { .. } => &bitmaps::BITMAP_DATA,
            Self::NotOpened(_) => &data::NOT_OPENED,
            Self::NoDigest { .. } => &data::NO_DIGEST,
            Self::InFlux(_) => &reading::IN_FLUX,
            Self::Dirty => &header::DIRTY,
            Self::MarkedCorrupt => &header::MARKED_CORRUPT,
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        let row = self.row();
        row.lesser.filter(|_| self.is_lesser()).unwrap_or(row.severity)
    }

    /// Whether an entry of the refcount table is damaged.
    pub(crate) const fn is_reftable_entry(&self) -> bool {
        matches!(
            self,
            Self::ReftableReserved
                | Self::RefblockUnaligned
                | Self::RefblockOutside
                | Self::RefblockShared { .. }
        )
    }

    /// Whether what a bitmap refers to is unknown, in whole or in part.
    pub(crate) const fn is_of_bitmap(&self) -> bool {
        matches!(
            self,
            Self::BitmapDirectory(_) | Self::BitmapEntry { .. } | Self::BitmapTable { .. }
        )
    }

    /// Whether [`Row::lesser`] applies.
    const fn is_lesser(&self) -> bool {
        matches!(
            self,
            Self::Overlap { counted: true, .. }
                | Self::L2TableTwice { counted: true, .. }
                | Self::CompressedOverlap { counted: true, .. }
                | Self::DataFile { unseen: true, .. }
                | Self::BackingFile { unseen: true, .. }
                | Self::NoDigest { damage: false, .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_that_a_kind_has_is_listed() {
        let arm = ["=>", "&"].join(" ");
        let arms = include_str!("mod.rs").matches(&arm).count();
        assert_eq!(SECTIONS.iter().map(|section| section.rows.len()).sum::<usize>(), arms);
    }
}
