//! Clusters that seem leaked while a reference to them may be hidden: they keep their counts when
//! the refcount structures are built anew, and nothing is placed into them.

use std::ops::Range;
use std::sync::Arc;

use super::RepairMode;
use crate::check::Survey;
use crate::check::refcount_map::RefcountMap;
use crate::error::{Error, Result};
use crate::format::refcount::get_refcount;
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, ReftableIndex};
use crate::storage::Storage;

/// The counts that a repair aims at: those that the references ask for, and where references may be
/// hidden, stored ones that are higher. Where those can't be read, everything in the file that holds
/// data counts.
pub fn target(
    storage: &dyn Storage,
    survey: &Survey,
    mode: RepairMode,
) -> Result<Arc<RefcountMap>> {
    let rebuilds = survey.refcounts.is_broken() || survey.missing_blocks;
    let hidden = survey.report.hides_references;
    // What nobody can own is released where losses were allowed.
    let claimed = mode != RepairMode::Lossy && survey.claims.last().is_some();
    if !claimed && (!mode.is_all() || !(hidden || rebuilds)) {
        return Ok(Arc::clone(&survey.map));
    }
    let target = RefcountMap::clone(&survey.map);
    if claimed {
        add_all(&target, &survey.claims);
    }
    if rebuilds && mode.is_all() {
        // Whatever is placed there would be read as what is lost.
        add_all(&target, &survey.beyond);
    }
    if hidden && mode.is_all() {
        for range in doubtful(storage, survey, rebuilds)? {
            hold_range(storage, survey, &target, range)?;
        }
    }
    Ok(Arc::new(target))
}

fn add_all(target: &RefcountMap, more: &RefcountMap) {
    for range in more.ranges() {
        more.for_each_run(range, |first, count, references| target.add(first, count, references));
    }
}

/// Clusters whose stored counts may know more than the references.
fn doubtful(
    storage: &dyn Storage,
    survey: &Survey,
    rebuilds: bool,
) -> Result<Vec<Range<HostCluster>>> {
    let mut ranges = differing(survey);
    if rebuilds {
        // In the file it is data that counts; past its end there is nothing but the counts.
        let end = HostCluster::new(survey.area.geometry.clusters_for(survey.file_bytes).get());
        for range in &mut ranges {
            range.start = range.start.max(end);
        }
        ranges.retain(|range| range.start < range.end && is_sound(survey, range.start));
        ranges.extend(data_clusters(storage, survey)?);
    }
    Ok(ranges)
}

/// Raises the counts of a range to those that are stored.
fn hold_range(
    storage: &dyn Storage,
    survey: &Survey,
    target: &RefcountMap,
    range: Range<HostCluster>,
) -> Result<()> {
    let geometry = &survey.area.geometry;
    let mut at = range.start;
    while at < range.end {
        let (index, _) = geometry.refcount_place(at);
        let entries = ClusterCount::new(geometry.refblock_entries());
        let stop = (geometry.first_cluster_of_block(index) + entries).min(range.end);
        let stored = stored(storage, survey, index)?;
        hold(geometry, target, at..stop, stored.as_deref());
        at = stop;
    }
    Ok(())
}

fn is_sound(survey: &Survey, cluster: HostCluster) -> bool {
    let (index, _) = survey.area.geometry.refcount_place(cluster);
    survey.refcounts.block(index).is_some_and(|block| block.sound)
}

/// What the blocks describe in which counts are wrong.
fn differing(survey: &Survey) -> Vec<Range<HostCluster>> {
    let geometry = &survey.area.geometry;
    let entries = ClusterCount::new(geometry.refblock_entries());
    let described = |&index: &ReftableIndex| {
        let first = geometry.first_cluster_of_block(index);
        first..first + entries
    };
    survey.differing.iter().map(described).collect()
}

/// The stored count of a cluster; 0 where it has no sound block.
pub fn stored_count(storage: &dyn Storage, survey: &Survey, cluster: HostCluster) -> Result<u64> {
    let (index, entry) = survey.area.geometry.refcount_place(cluster);
    let order = survey.area.geometry.refcount_order();
    let block = stored(storage, survey, index)?;
    Ok(block.map_or(0, |block| get_refcount(&block, order, entry.get() as usize)))
}

/// A sound block's content.
fn stored(storage: &dyn Storage, survey: &Survey, index: ReftableIndex) -> Result<Option<Vec<u8>>> {
    let Some(block) = survey.refcounts.block(index).filter(|b| b.sound) else { return Ok(None) };
    let mut bytes = vec![0; survey.area.geometry.cluster_len()];
    let failed = |e| Error::io("read a refcount block", block.offset.get(), e);
    storage.read_padded_at(block.offset.get(), &mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Raises the counts of a range of one block's clusters to the stored ones, or to 1 where those are
/// not known.
fn hold(
    geometry: &Geometry,
    target: &RefcountMap,
    range: Range<HostCluster>,
    stored: Option<&[u8]>,
) {
    let mut at = range.start;
    while at < range.end {
        let (_, entry) = geometry.refcount_place(at);
        let order = geometry.refcount_order();
        let count = stored.map_or(1, |block| get_refcount(block, order, entry.get() as usize));
        let referenced = target.get(at);
        if count > referenced {
            target.add(at, ClusterCount::new(1), count - referenced);
        }
        at = at.next();
    }
}

/// The clusters in which the file holds data, not holes.
fn data_clusters(storage: &dyn Storage, survey: &Survey) -> Result<Vec<Range<HostCluster>>> {
    let mut found = Vec::new();
    let mut from = 0;
    let failed = |offset| move |e| Error::io("look for data", offset, e);
    while let Some(range) = storage.next_data(from).map_err(failed(from))? {
        let bytes = range.end - range.start;
        let (first, count) = survey.area.geometry.span(HostOffset::new(range.start), bytes);
        found.push(first..first + count);
        from = range.end;
    }
    Ok(found)
}
