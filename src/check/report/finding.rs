//! One finding: what is wrong, and where.

use super::kind::{Kind, Severity};
use super::orphan::Slot;
use super::place::{Place, RegionKind};
use crate::format::header::HeaderField;

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
