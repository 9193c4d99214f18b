//! What a check found: data. Severity, code, text and tally are derived from it, in one place each
//! (`severity` and `code` here, text in [`super::describe`]).

use super::orphan::{Orphan, Slot};
use crate::format::header::HeaderField;
use crate::format::{
    ClusterCount, GuestOffset, HostCluster, HostOffset, L1Index, L2Index, ReftableIndex,
};

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

/// What owns a metadata cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// One finding, or a run of equal ones over neighbouring clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// Where.
    pub place: Place,
}

impl Finding {
    /// A finding from its parts.
    pub const fn new(kind: Kind, place: Place) -> Self {
        Self { kind, place }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match &self.kind {
            Kind::Count { stored, referenced } if stored > referenced => Severity::Leak,
            Kind::Unreadable { .. }
            | Kind::DataUnreadable { .. }
            | Kind::DataFile { unseen: true, .. }
            | Kind::BackingFile { unseen: true, .. }
            | Kind::NoDigest { damage: false, .. } => Severity::CheckError,
            Kind::Dirty
            | Kind::MarkedCorrupt
            | Kind::SharedData
            | Kind::CountedBeyondEnd
            | Kind::OrphanTable(_)
            | Kind::BlankTable { .. }
            | Kind::SnapshotBlank
            | Kind::SnapshotsUncounted(_)
            | Kind::Unaccounted { .. }
            | Kind::DataFileUnnamed
            | Kind::NotOpened(_) => Severity::Notice,
            Kind::Overlap { counted: true, .. }
            | Kind::L2TableTwice { counted: true, .. }
            | Kind::CompressedOverlap { counted: true, .. } => Severity::Notice,
            _ => Severity::Corruption,
        }
    }

    /// How many errors or leaked clusters it stands for.
    pub fn weight(&self) -> u64 {
        match (&self.kind, self.place) {
            (Kind::Count { .. }, Place::Clusters(_, count)) => count.get(),
            (Kind::Overflow { excess, .. }, Place::Clusters(_, count)) => excess * count.get(),
            (Kind::TooManySnapshots(count), _) => {
                u64::from(count - crate::format::snapshot::MAX_SNAPSHOTS)
            }
            (Kind::SnapshotTableTooBig { overhanging }, _) => u64::from(*overhanging),
            (Kind::BitmapTable { entries, .. }, _) => *entries,
            _ => 1,
        }
    }

    /// Whether clusters that seem leaked may be what a damaged or missing pointer refers to.
    pub fn may_hide_references(&self) -> bool {
        match &self.kind {
            Kind::HeaderField(_) => !self.is_about_no_mapping(),
            // Wrong refcounts and flags, refcount structures, and entries that say where their data is.
            Kind::Count { .. }
            | Kind::DataCopied { .. }
            | Kind::L2TableCopied { .. }
            | Kind::Overflow { .. }
            | Kind::ReftableReserved
            | Kind::RefblockUnaligned
            | Kind::RefblockOutside
            | Kind::RefblockShared { .. }
            | Kind::SnapshotExtraTooLarge(_)
            | Kind::SnapshotIncomplete
            | Kind::SnapshotIdTwice(_)
            | Kind::SubclusterConflict(_)
            | Kind::CountedBeyondEnd
            | Kind::DataFileUnnamed
            | Kind::Dirty
            | Kind::MarkedCorrupt
            // What is read after the check says nothing of pointers.
            | Kind::CompressedData { .. }
            | Kind::DataUnreadable { .. }
            | Kind::DataBeyondEnd(_)
            | Kind::DataFile { .. }
            | Kind::BackingFile { .. }
            | Kind::BitmapData { .. }
            | Kind::NotOpened(_)
            | Kind::NoDigest { .. } => false,
            // Pointers to refcount structures refer to nothing else.
            Kind::Overlap { owner, other, .. } => {
                let counts = [RegionKind::Reftable, RegionKind::Refblock];
                let of_counts = |kind: &RegionKind| counts.contains(kind);
                !(of_counts(owner) && other.as_ref().is_some_and(of_counts))
            }
            _ => true,
        }
    }

    /// Whether an L1 or L2 entry is damaged in a way that may leave one right value.
    pub(crate) const fn is_damaged_entry(&self) -> bool {
        matches!(
            self.kind,
            Kind::L1Reserved(_)
                | Kind::L2Reserved(_)
                | Kind::L2ZeroReserved(_)
                | Kind::CompressedCopied { .. }
                | Kind::CompressedWithBitmap(_)
                | Kind::DataUnaligned(_)
                | Kind::PreallocatedUnaligned(_)
        )
    }

    /// The L1 entry that points nowhere by this finding.
    pub(crate) const fn entry_to_nowhere(&self) -> Option<Slot> {
        match (&self.kind, self.place) {
            (
                Kind::L1Reserved(_) | Kind::L2TableUnaligned(_) | Kind::BeyondEnd { .. },
                Place::L1(source, index),
            ) => Some((source, index)),
            _ => None,
        }
    }

    /// Whether a header field is wrong that no reference depends on: it says where the refcount table lies, or which parts
    /// of the header are up to date.
    fn is_about_no_mapping(&self) -> bool {
        self.is_about_the_reftable()
            || self.place == Place::Header(HeaderField::Autoclear.place().0)
    }

    /// Whether a header field is wrong that says where the refcount table lies.
    pub(crate) fn is_about_the_reftable(&self) -> bool {
        let fields = [HeaderField::ReftableOffset, HeaderField::ReftableClusters];
        let is_here = |field: &HeaderField| self.place == Place::Header(field.place().0);
        matches!(self.kind, Kind::HeaderField(_)) && fields.iter().any(is_here)
    }

    /// The stable name of this kind of finding, for JSON and scripts.
    pub fn code(&self) -> &'static str {
        match &self.kind {
            Kind::HeaderField(_) => "header-field",
            Kind::BackingFormat(_) => "backing-format",
            Kind::DataFileUnnamed => "data-file-unnamed",
            Kind::EncryptionHeader(_) => "encryption-header",
            Kind::TooManySnapshots(_) => "too-many-snapshots",
            Kind::SnapshotTableTooBig { .. } => "snapshot-table-too-big",
            Kind::SnapshotTableBroken(_) => "snapshot-table-broken",
            Kind::SnapshotExtraTooLarge(_) => "snapshot-extra-too-large",
            Kind::SnapshotIncomplete => "snapshot-incomplete",
            Kind::SnapshotIdTwice(_) => "snapshot-id-twice",
            Kind::SnapshotsWithDataFile(_) => "snapshots-with-data-file",
            Kind::SnapshotL1Unaligned { .. } => "snapshot-l1-unaligned",
            Kind::SnapshotL1TooLarge { .. } => "snapshot-l1-too-large",
            Kind::SnapshotL1TooSmall { .. } => "snapshot-l1-too-small",
            Kind::L1TablesOverlap => "l1-tables-overlap",
            Kind::L1Reserved(_) => "l1-reserved-bits",
            Kind::L2TableUnaligned(_) => "l2-table-unaligned",
            Kind::L2Reserved(_) => "l2-reserved-bits",
            Kind::L2ZeroReserved(_) => "l2-zero-flag-reserved",
            Kind::CompressedCopied { .. } => "compressed-copied",
            Kind::CompressedWithDataFile(_) => "compressed-with-data-file",
            Kind::CompressedWithBitmap(_) => "compressed-with-subclusters",
            Kind::CompressedOverlap { .. } => "compressed-overlap",
            Kind::SubclusterConflict(_) => "subcluster-conflict",
            Kind::SubclustersWithoutCluster => "subclusters-without-cluster",
            Kind::DataUnaligned(_) => "data-unaligned",
            Kind::PreallocatedUnaligned(_) => "preallocated-unaligned",
            Kind::DataFileOffset(_) => "data-file-offset",
            Kind::BeyondEnd { .. } => "beyond-end",
            Kind::Overflow { .. } => "refcount-overflow",
            Kind::ReftableReserved => "reftable-reserved-bits",
            Kind::RefblockUnaligned => "refblock-unaligned",
            Kind::RefblockOutside => "refblock-outside",
            Kind::RefblockShared { .. } => "refblock-shared",
            Kind::Count { stored, referenced } if stored > referenced => "leak",
            Kind::Count { .. } => "refcount-too-low",
            Kind::L2TableCopied { .. } => "copied-l2-table",
            Kind::DataCopied { .. } => "copied-data",
            Kind::Overlap { .. } => "overlap",
            Kind::L2TableTwice { .. } => "l2-table-twice",
            Kind::SharedData => "shared-data",
            Kind::StillShared => "cross-linked-data",
            Kind::CutOff { .. } => "cut-off",
            Kind::CountedBeyondEnd => "counted-beyond-end",
            Kind::OrphanTable(_) => "orphan-l2-table",
            Kind::BlankTable { .. } => "blank-table",
            Kind::SnapshotBlank => "snapshot-blank",
            Kind::SnapshotsUncounted(_) => "snapshots-uncounted",
            Kind::Unaccounted { .. } => "unaccounted-clusters",
            Kind::BitmapDirectory(_) => "bitmap-directory",
            Kind::BitmapEntry { .. } => "bitmap-entry",
            Kind::BitmapTable { .. } => "bitmap-table",
            Kind::Unreadable { .. } => "unreadable",
            Kind::CompressedData { .. } => "compressed-data",
            Kind::DataUnreadable { .. } => "data-unreadable",
            Kind::DataBeyondEnd(_) => "data-beyond-end",
            Kind::DataFile { .. } => "data-file",
            Kind::BackingFile { .. } => "backing-file",
            Kind::BitmapData { .. } => "bitmap-data",
            Kind::NotOpened(_) => "not-opened",
            Kind::NoDigest { .. } => "no-digest",
            Kind::Dirty => "dirty",
            Kind::MarkedCorrupt => "marked-corrupt",
        }
    }
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
