//! The result of a check: findings in the order in which qemu-img prints them, and what they add up
//! to.

pub(crate) mod collector;
mod finding;
pub(crate) mod kind;
mod orphan;
mod place;
mod tally;
mod words;

pub use finding::Finding;
pub use kind::{Kind, Remedy, Row, SECTIONS, Section, Severity};
pub use orphan::{Orphan, Slot};
pub use place::{GuestRange, Place, RegionKind, Source};
pub use tally::Tally;
pub use words::{Verb, place_text, region_text};

use crate::format::{ClusterCount, Geometry, HostOffset, L2Index};

/// How the active disk is mapped, in clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocation {
    /// Clusters of the disk.
    pub total: u64,
    /// Clusters with a host cluster or compressed data.
    pub allocated: u64,
    /// Allocated clusters that do not follow the one before.
    pub fragmented: u64,
    /// Compressed clusters.
    pub compressed: u64,
}

/// A snapshot's names, which identify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotName {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The findings, in the order of the passes. Of a kind that comes in the hundreds of thousands
    /// only the first ones are kept one by one; `unlisted` is the number of the others.
    pub findings: Vec<Finding>,
    /// Findings (runs) that were counted but not kept.
    pub unlisted: u64,
    /// What all findings add up to, the unlisted ones included.
    pub tally: Tally,
    /// Whether a finding may hide a reference: clusters that seem leaked may be in use.
    pub hides_references: bool,
    /// How the active disk is mapped.
    pub allocation: Allocation,
    /// Where the last used cluster ends; 0 where it is not known.
    pub image_end: HostOffset,
    /// The image's sizes.
    pub geometry: Geometry,
    /// The snapshots by their position in the snapshot table.
    pub snapshots: Vec<SnapshotName>,
}

impl CheckReport {
    /// Takes a finding that was made after the check; only counted where `keep` are kept already.
    pub fn add(&mut self, finding: Finding, keep: usize) {
        self.tally.add(&finding);
        if self.findings.len() < keep {
            self.findings.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    /// Counts errors that were found after the check and are not kept one by one.
    pub const fn add_unlisted(&mut self, corruptions: u64) {
        self.tally.corruptions = self.tally.corruptions.saturating_add(corruptions);
        self.unlisted = self.unlisted.saturating_add(corruptions);
    }

    /// The guest range that a finding touches, where it touches one.
    pub fn guest_range(&self, finding: &Finding) -> Option<GuestRange> {
        let (source, l1, l2, bytes) = match finding.place {
            Place::L1(source, l1) => {
                (source, l1, L2Index::new(0), self.geometry.bytes_per_l2_table())
            }
            Place::L2(source, l1, l2) => (source, l1, l2, self.geometry.cluster_bytes()),
            _ => return None,
        };
        Some(GuestRange { offset: self.geometry.guest_offset(l1, l2), bytes, source })
    }

    /// The guest ranges that an orphan may map, by the L1 entries that can own it.
    pub fn orphan_ranges(&self, orphan: &Orphan) -> Vec<GuestRange> {
        let (first, last) = orphan.mapped;
        let range = |&(source, l1): &Slot| {
            let offset = self.geometry.guest_offset(l1, first);
            let end = self.geometry.guest_offset(l1, last).get() + self.geometry.cluster_bytes();
            GuestRange { offset, bytes: end - offset.get(), source }
        };
        orphan.slots.iter().map(range).collect()
    }

    /// The clusters of the file that a finding is about, where it is about some.
    pub fn clusters(&self, finding: &Finding) -> Option<(u64, ClusterCount)> {
        let g = &self.geometry;
        let at = |offset: HostOffset| Some((g.cluster_floor(offset).get(), ClusterCount::new(1)));
        match (&finding.kind, finding.place) {
            (_, Place::Clusters(first, count)) => Some((first.get(), count)),
            (Kind::BeyondEnd { offset, bytes }, _) => {
                let (first, count) = g.span(*offset, *bytes);
                Some((first.get(), count))
            }
            (
                Kind::L2TableUnaligned(o)
                | Kind::CompressedCopied { offset: o }
                | Kind::CompressedOverlap { offset: o, .. }
                | Kind::SubclusterConflict(o)
                | Kind::DataUnaligned(o)
                | Kind::PreallocatedUnaligned(o)
                | Kind::L2TableTwice { table: o, .. }
                | Kind::CompressedData { offset: o, .. }
                | Kind::DataUnreadable { offset: o, external: false, .. }
                | Kind::Unreadable { offset: o, .. },
                _,
            ) => at(*o),
            (Kind::DataCopied { entry, .. } | Kind::L2TableCopied { entry, .. }, _) => {
                at(HostOffset::new(entry & crate::format::l1::OFFSET_MASK))
            }
            _ => None,
        }
    }
}
