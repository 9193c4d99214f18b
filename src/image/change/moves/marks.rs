//! Refcounts while clusters are on the move.
//!
//! A crash may leave such a cluster without any reference, and a check reads a cluster with a
//! refcount of 2 or more that nothing refers to as lost data: no other program leaves it so. So its
//! refcount is marked meanwhile: higher than references to it could be.

use crate::error::Result;
use crate::format::{ClusterCount, HostCluster};

use crate::image::meta::Meta;
use crate::image::run::ClusterRun;

/// How refcounts change with a step: raised before any pointer changes, lowered after all have.
#[derive(Debug, Default)]
pub(super) struct Changes {
    raised: Vec<(HostCluster, u64)>,
    lowered: Vec<(HostCluster, u64)>,
}

impl Changes {
    /// A cluster gets `added` references, beside those that it has.
    pub(super) fn add(&mut self, meta: &Meta, cluster: HostCluster, had: u64, added: u64) {
        let mark = meta.mark(had.saturating_add(added));
        self.raised.push((cluster, added + mark));
        self.lowered.push((cluster, mark));
    }

    /// A cluster loses `taken` of the references that it has.
    pub(super) fn take(&mut self, meta: &Meta, cluster: HostCluster, had: u64, taken: u64) {
        let mark = meta.mark(had);
        self.raised.push((cluster, mark));
        self.lowered.push((cluster, taken + mark));
    }
}

impl Meta {
    /// How much a refcount gets higher meanwhile: by nothing where it is 1, or where it would not
    /// fit.
    fn mark(&self, count: u64) -> u64 {
        let disks = self.snapshots.len() as u64 + 1;
        let fits = count.checked_add(disks).is_some_and(|sum| sum <= self.geometry.refcount_max());
        if count > 1 && fits { disks } else { 0 }
    }

    /// Raises refcounts, all or none.
    pub(super) fn raise_for(&mut self, changes: &Changes) -> Result<()> {
        self.all_or_none(
            &runs(&changes.raised),
            |meta, &(run, count)| meta.raise(run, count),
            |meta, &(run, count)| meta.lower_unreferenced(run, count),
        )
    }

    /// Lowers refcounts, once no pointer to these references is on disk.
    pub(super) fn lower_for(&mut self, changes: &Changes) -> Result<()> {
        for (run, count) in runs(&changes.lowered) {
            self.lower(run, count)?;
        }
        self.flush(true)
    }
}

/// Neighbours with the same number, together; those with 0 are left out.
fn runs(clusters: &[(HostCluster, u64)]) -> Vec<(ClusterRun, u64)> {
    let mut sorted: Vec<_> = clusters.iter().copied().filter(|&(_, count)| count > 0).collect();
    sorted.sort_unstable_by_key(|&(cluster, _)| cluster);
    let mut runs: Vec<(ClusterRun, u64)> = Vec::new();
    for (cluster, count) in sorted {
        match runs.last_mut() {
            Some((run, n)) if *n == count && run.end() == cluster => {
                run.count += ClusterCount::new(1);
            }
            _ => runs.push((ClusterRun::one(cluster), count)),
        }
    }
    runs
}
