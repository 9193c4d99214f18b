//! Free clusters whose counts lie in blocks that exist.

use crate::check::Survey;
use crate::check::refcount_map::RefcountMap;
use crate::format::{ClusterCount, HostCluster};
use crate::storage::Capacity;

use super::placement::end_of_room;
use super::plan::{CountChange, Step};

/// A run of free clusters that existing blocks describe, so that it can be taken by raising counts
/// alone; `None` where there is none.
pub fn covered_run(
    survey: &Survey,
    counts: &RefcountMap,
    capacity: Capacity,
    clusters: ClusterCount,
) -> Option<HostCluster> {
    let geometry = &survey.area.geometry;
    let end = end_of_room(geometry, capacity);
    let covered = |cluster| {
        let block = survey.refcounts.block(geometry.refcount_place(cluster).0);
        block.is_some_and(|b| b.sound)
    };
    let mut at = HostCluster::new(0);
    loop {
        at = counts.next_free(at);
        let behind = at + clusters;
        let last = HostCluster::new(behind.get() - 1);
        if behind > end || !covered(at) || !covered(last) {
            return None;
        }
        match counts.last_used_in(at..behind) {
            None => return Some(at),
            Some(used) => at = used.next(),
        }
    }
}

/// The steps that bring the counts of a run to the plan's.
pub fn raise(survey: &Survey, first: HostCluster, clusters: ClusterCount) -> Vec<Step> {
    let geometry = &survey.area.geometry;
    let (low, _) = geometry.refcount_place(first);
    let (high, _) = geometry.refcount_place(HostCluster::new((first + clusters).get() - 1));
    let touched = survey.refcounts.blocks.iter().filter(|b| (low..=high).contains(&b.index));
    let raise = CountChange::Raise;
    touched.map(|b| Step::Counts { index: b.index, block: b.offset, change: raise }).collect()
}
