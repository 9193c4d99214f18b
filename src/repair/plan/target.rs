//! The refcounts that a repair aims at: those that the references require, and where something may
//! be lost, stored ones that are higher.

use std::ops::Range;
use std::sync::Arc;

use super::quarantine::Quarantine;
use super::stored;
use crate::check::Survey;
use crate::check::survey::refcount_map::RefcountMap;
use crate::error::Result;
use crate::format::refcount;
use crate::format::{ClusterCount, HostCluster, ReftableIndex};
use crate::repair::RepairMode;
use crate::storage::Storage;

/// The refcounts that a round aims at.
pub fn target(
    storage: &dyn Storage,
    survey: &Survey,
    quarantine: &Quarantine,
    mode: RepairMode,
) -> Result<Arc<RefcountMap>> {
    let rebuilds = mode.is_all() && quarantine.rebuilds(survey);
    let claimed = survey.claims.last().is_some();
    let uncounted = !survey.uncounted.is_empty() && !quarantine.is_given_up();
    if !claimed && !rebuilds && !quarantine.holds(survey) && !uncounted {
        return Ok(Arc::clone(&survey.map));
    }
    // Whatever is placed past the end where something refers to would be read as what is lost.
    let target = Arc::unwrap_or_clone(survey.claimed(rebuilds));
    if quarantine.holds(survey) {
        for range in differing(survey, rebuilds) {
            hold_range(storage, survey, quarantine, &target, range, false)?;
        }
    }
    if mode.is_all() {
        raise_to_one(&target, quarantine.uncounted());
    } else {
        // What is garbage as a refcount does not show what is in use, and stays for the repair that
        // rebuilds it.
        for range in &survey.uncounted {
            hold_range(storage, survey, quarantine, &target, range.clone(), true)?;
        }
    }
    for cluster in quarantine.reusable() {
        // What a repair that was interrupted wrote is nobody's data.
        let more = target.get(cluster).saturating_sub(survey.map.get(cluster));
        target.take(cluster, ClusterCount::new(1), more);
    }
    Ok(Arc::new(target))
}

/// Counts each of these clusters at least once.
fn raise_to_one(target: &RefcountMap, clusters: &RefcountMap) {
    for range in clusters.ranges() {
        clusters.for_each_run(range, |first, count, references| {
            for cluster in (0..count.get()).map(|n| first + ClusterCount::new(n)) {
                if references > 0 && target.get(cluster) == 0 {
                    target.add(cluster, ClusterCount::new(1), 1);
                }
            }
        });
    }
}

/// What the blocks describe in which refcounts are wrong: all that is valid, where they are
/// replaced.
fn differing(survey: &Survey, rebuilds: bool) -> Vec<Range<HostCluster>> {
    let geometry = &survey.area.geometry;
    let entries = ClusterCount::new(geometry.refblock_entries());
    let described = |index: ReftableIndex| {
        let first = geometry.first_cluster_of_block(index);
        first..first + entries
    };
    let differing = survey.differing.iter().copied();
    let sound = differing.filter(|&index| {
        let block = survey.refcounts.block(index);
        !rebuilds || block.is_some_and(|block| block.sound)
    });
    sound.map(described).collect()
}

/// Raises the refcounts of a range to those that are stored; with `all`, to what cannot be a
/// refcount too.
fn hold_range(
    storage: &dyn Storage,
    survey: &Survey,
    quarantine: &Quarantine,
    target: &RefcountMap,
    range: Range<HostCluster>,
    all: bool,
) -> Result<()> {
    let geometry = &survey.area.geometry;
    let mut at = range.start;
    while at < range.end {
        let (index, _) = geometry.refcount_place(at);
        let entries = ClusterCount::new(geometry.refblock_entries());
        let stop = (geometry.first_cluster_of_block(index) + entries).min(range.end);
        if let Some(block) = stored::block(storage, survey, index)? {
            hold(survey, quarantine, target, (at..stop, &block), all);
        }
        at = stop;
    }
    Ok(())
}

/// Raises the refcounts of a range of one block's clusters to the stored ones.
fn hold(
    survey: &Survey,
    quarantine: &Quarantine,
    target: &RefcountMap,
    (range, stored): (Range<HostCluster>, &[u8]),
    all: bool,
) {
    let geometry = &survey.area.geometry;
    let (index, first) = geometry.refcount_place(range.start);
    let first_of_block = geometry.first_cluster_of_block(index);
    let length = usize::try_from((range.end - range.start).get()).unwrap_or(usize::MAX);
    let mut entries = first.get() as usize..first.get() as usize + length;
    let in_file = geometry.refblock_entries_before(index, survey.file_bytes);
    // Most of the block may be no refcounts, and those past the end of the file prove nothing then.
    if entries.end > in_file && is_noise(survey, index, stored) {
        entries.end = in_file.max(entries.start);
    }
    for (entry, count) in refcount::counted(stored, geometry.refcount_order(), entries) {
        let at = first_of_block + ClusterCount::new(entry as u64);
        let referenced = target.get(at);
        // A value that cannot be a refcount, among others that are, does not show that the cluster
        // is free.
        let count = match survey.plausible.excludes(count, referenced) && !all {
            true if survey.is_uncounted(at) || !survey.has(at) => referenced,
            true => referenced.max(1),
            false => count,
        };
        // No image has a second reference to its header.
        let is_header = at == HostCluster::new(0);
        if count > referenced && !is_header && !quarantine.is_vacated(at) {
            target.add(at, ClusterCount::new(1), count - referenced);
        }
    }
}

/// Whether most refcounts that a block has for clusters of the file are higher than any can be:
/// then those for clusters past its end do not show that it was longer.
fn is_noise(survey: &Survey, index: ReftableIndex, stored: &[u8]) -> bool {
    let geometry = &survey.area.geometry;
    let first = geometry.first_cluster_of_block(index);
    let in_file = geometry.refblock_entries_before(index, survey.file_bytes);
    let (mut all, mut impossible) = (0u64, 0u64);
    for (entry, count) in refcount::counted(stored, geometry.refcount_order(), 0..in_file) {
        let referenced = survey.map.get(first + ClusterCount::new(entry as u64));
        all += 1;
        impossible += u64::from(!survey.plausible.allows(count, referenced));
    }
    2 * impossible > all
}
