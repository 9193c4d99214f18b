//! Which findings a plan mends: not those in structures that something else lies in, too.

use std::collections::HashSet;
use std::ops::Range;

use super::plan::{BACK_IN_PLACE, RepairPlan};
use super::pointers;
use crate::check::orphans::Slot;
use crate::check::{Finding, Kind, Place, Survey};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};

/// What is wrong and may not be written.
#[derive(Debug)]
pub struct Disputed {
    /// Whether the active L1 table is.
    pub l1_table: bool,
    /// L2 tables with wrong flags, by the L1 entries that lead to them.
    tables: HashSet<Slot>,
    /// Refcount blocks with wrong counts.
    blocks: HashSet<ReftableIndex>,
}

impl Disputed {
    /// What of an image is.
    pub fn of(survey: &Survey) -> Self {
        let disputed = |table: &HostOffset| !pointers::is_undisputed(survey, *table);
        let tables: HashSet<HostOffset> =
            survey.wrong_l2_flags.iter().copied().filter(disputed).collect();
        let visits = survey.visits.iter().filter(|_| !tables.is_empty());
        let visits = visits.filter(|visit| tables.contains(&visit.entry.offset()));
        let block = |&index: &ReftableIndex| {
            let block = survey.refcounts.block(index);
            block.is_some_and(|b| !b.sound || disputed(&b.offset))
        };
        Self {
            l1_table: !pointers::is_undisputed_l1(survey),
            tables: visits.map(|visit| (visit.source, visit.index)).collect(),
            blocks: survey.differing.iter().copied().filter(block).collect(),
        }
    }

    fn is_table(&self, place: Place) -> bool {
        matches!(place, Place::L2(source, l1, _) if self.tables.contains(&(source, l1)))
    }
}

impl RepairPlan {
    /// The part of a finding that this plan mends: of a run of leaks, clusters that something may
    /// still claim are not released.
    pub fn mended(&self, finding: &Finding) -> Vec<Finding> {
        if !self.mends(finding) {
            return Vec::new();
        }
        let (Kind::Count { stored, referenced }, Place::Clusters(first, count)) =
            (&finding.kind, finding.place)
        else {
            return vec![finding.clone()];
        };
        let mut parts = Vec::new();
        for range in self.written(first..first + count) {
            self.target.for_each_run(range, |first, count, wanted| {
                if stored < referenced || wanted < *stored {
                    parts.push(Finding::new(finding.kind.clone(), Place::Clusters(first, count)));
                }
            });
        }
        parts
    }

    /// The clusters whose counts lie in blocks that are written.
    fn written(&self, clusters: Range<HostCluster>) -> Vec<Range<HostCluster>> {
        if self.rebuilds || self.disputed.blocks.is_empty() {
            return vec![clusters];
        }
        let entries = ClusterCount::new(self.geometry.refblock_entries());
        let (mut written, mut at) = (Vec::new(), clusters.start);
        while at < clusters.end {
            let (index, _) = self.geometry.refcount_place(at);
            let end = (self.geometry.first_cluster_of_block(index) + entries).min(clusters.end);
            if !self.disputed.blocks.contains(&index) {
                written.push(at..end);
            }
            at = end;
        }
        written
    }

    /// Whether this plan mends a finding.
    fn mends(&self, finding: &Finding) -> bool {
        let all = self.mode.is_all();
        let header = self.stages.iter().any(|stage| stage.what == "header fields");
        match &finding.kind {
            Kind::HeaderField(_) => header,
            Kind::Count { stored, referenced } if stored > referenced => !self.held,
            Kind::Count { .. } => all,
            Kind::DataCopied { .. } => self.flags && !self.disputed.is_table(finding.place),
            Kind::L2TableCopied { .. } => self.flags && !self.disputed.l1_table,
            // Below an entry into the middle of a table they are no entries at all.
            Kind::PreallocatedUnaligned(_) => {
                all && !self.stages.iter().any(|stage| stage.what == BACK_IN_PLACE)
            }
            Kind::L2TableTwice { .. }
            | Kind::Overlap { other: None, .. }
            | Kind::TooManySnapshots(_)
            | Kind::SnapshotTableTooBig { .. }
            | Kind::SnapshotExtraTooLarge(_)
            | Kind::SnapshotIncomplete
            | Kind::SnapshotIdTwice(_) => all,
            Kind::ReftableReserved
            | Kind::RefblockUnaligned
            | Kind::RefblockOutside
            | Kind::RefblockShared { .. } => self.rebuilds,
            _ => false,
        }
    }
}
