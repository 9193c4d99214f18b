//! Free clusters whose refcounts are in existing blocks.

use std::ops::Range;

use super::placement::Free;
use super::quarantine::Quarantine;
use super::step::{CountChange, Step, Write};
use crate::check::Survey;
use crate::check::survey::refcount_map::RefcountMap;
use crate::error::Result;
use crate::format::{ClusterCount, HostCluster};
use crate::storage::{Capacity, Storage};

/// What is needed to look for free clusters.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    /// The image.
    pub storage: &'a dyn Storage,
    /// What its check found.
    pub survey: &'a Survey,
    /// What may be overwritten.
    pub quarantine: &'a Quarantine,
    /// How far the file may grow.
    pub capacity: Capacity,
}

impl Space<'_> {
    /// A run of free clusters that existing blocks describe, so that it can be taken by raising
    /// refcounts alone; `None` where there is none.
    pub fn covered_run(
        &self,
        counts: &RefcountMap,
        clusters: ClusterCount,
    ) -> Result<Option<HostCluster>> {
        let (survey, geometry) = (self.survey, &self.survey.area.geometry);
        let is_free = |cluster| self.quarantine.is_free(self.storage, survey, cluster);
        let free =
            Free { capacity: self.capacity, file_bytes: survey.file_bytes, is_free: &is_free };
        let end = free.end(geometry);
        let covered = |cluster| {
            let block = survey.refcounts.block(geometry.refcount_place(cluster).0);
            block.is_some_and(|b| b.sound)
        };
        let is_past = |run: &Range<HostCluster>| {
            let last = HostCluster::new(run.end.get() - 1);
            run.end > end || !covered(run.start) || !covered(last)
        };
        let from = (HostCluster::new(0), clusters);
        free.first_run((geometry, counts), from, &mut 0, is_past, |_| None)
    }

    /// The steps that bring the refcounts of a run to the plan's.
    pub fn raise(
        &self,
        first: HostCluster,
        clusters: ClusterCount,
        fixes: &[&'static str],
    ) -> Vec<Step> {
        let geometry = &self.survey.area.geometry;
        let (low, _) = geometry.refcount_place(first);
        let (high, _) = geometry.refcount_place(HostCluster::new((first + clusters).get() - 1));
        let blocks = self.survey.refcounts.blocks.iter();
        let touched = blocks.filter(|b| (low..=high).contains(&b.index));
        let change = CountChange::Raise;
        let write = touched.map(|b| Write::Counts { index: b.index, block: b.offset, change });
        write.map(|write| Step::new(write, fixes.to_vec())).collect()
    }
}
