//! One finding: what is wrong, and where.

use super::kind::{Kind, Remedy, Row, Severity};
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
        self.kind.severity()
    }

    /// What is known of its kind.
    pub fn row(&self) -> &'static Row {
        self.kind.row()
    }

    /// The stable name of its kind, for JSON and scripts.
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// What repairs it, where it can be repaired.
    pub fn remedy(&self) -> Remedy {
        match (&self.kind, self.place) {
            (Kind::OrphanTable(orphan), _) if orphan.proven_owner().is_some() => Remedy::All,
            // Guest data gets a copy elsewhere, another structure does not.
            (Kind::Overlap { other: Some(_), .. }, _) => Remedy::DataLoss,
            // A lost table is put back, and a length that was too large is corrected.
            (Kind::BeyondEnd { .. }, Place::L1(..) | Place::Reftable) => Remedy::All,
            _ => self.row().remedy,
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
        let exempt = match &self.kind {
            Kind::HeaderField(_) => self.is_about_no_mapping(),
            // Pointers to refcount structures refer to nothing else.
            Kind::Overlap { owner, other, .. } => {
                let counts = [RegionKind::Reftable, RegionKind::Refblock];
                let of_counts = |kind: &RegionKind| counts.contains(kind);
                of_counts(owner) && other.as_ref().is_some_and(of_counts)
            }
            _ => false,
        };
        self.row().hides_references && !exempt
    }

    /// Whether an L1 or L2 entry is damaged in a way that may leave one right value.
    pub(crate) fn is_damaged_entry(&self) -> bool {
        self.row().is_entry && self.row().remedy == Remedy::All
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

    /// Whether a header field is wrong that no reference depends on: the offset of the refcount
    /// table, or which parts of the header are up to date.
    fn is_about_no_mapping(&self) -> bool {
        self.is_about_the_reftable()
            || self.place == Place::Header(HeaderField::Autoclear.place().0)
    }

    /// Whether the header field with the offset of the refcount table is wrong.
    pub(crate) fn is_about_the_reftable(&self) -> bool {
        let fields = [HeaderField::ReftableOffset, HeaderField::ReftableClusters];
        let is_here = |field: &HeaderField| self.place == Place::Header(field.place().0);
        matches!(self.kind, Kind::HeaderField(_)) && fields.iter().any(is_here)
    }
}
