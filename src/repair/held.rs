//! Clusters that seem leaked while a reference to them may be hidden: they keep their counts when
//! the refcount structures are built anew, and nothing is placed into them.

use super::RepairMode;
use crate::check::Survey;
use crate::error::{Error, Result};
use crate::format::refcount::get_refcount;
use crate::format::{ClusterCount, HostCluster, HostOffset};
use crate::storage::Storage;

/// Adds to the counts what must be held: counts that are too high where they can be read, and where
/// they can't, everything in the file that holds data.
pub fn keep(storage: &dyn Storage, survey: &Survey, mode: RepairMode) -> Result<()> {
    let rebuilds = survey.refcounts.is_broken() || survey.missing_blocks;
    if mode != RepairMode::All || !survey.report.hides_references || !rebuilds {
        return Ok(());
    }
    let data = data_clusters(storage, survey)?;
    let geometry = &survey.area.geometry;
    let mut stored = vec![0; geometry.cluster_len()];
    for (first, count) in data {
        let mut at = first;
        let end = first + count;
        while at < end {
            let (index, _) = geometry.refcount_place(at);
            let block_end = geometry.first_cluster_of_block(index)
                + ClusterCount::new(geometry.refblock_entries());
            let stop = block_end.min(end);
            let block = survey.refcounts.block(index).filter(|b| b.sound);
            let readable = match block {
                Some(block) => storage.read_padded_at(block.offset.get(), &mut stored).is_ok(),
                None => false,
            };
            hold(survey, at..stop, readable.then_some(&stored));
            at = stop;
        }
    }
    Ok(())
}

/// Raises the counts of a range of one block's clusters to the stored ones, or to 1 where those are
/// not known.
fn hold(survey: &Survey, range: std::ops::Range<HostCluster>, stored: Option<&Vec<u8>>) {
    let geometry = &survey.area.geometry;
    let one = ClusterCount::new(1);
    let mut at = range.start;
    while at < range.end {
        let (_, entry) = geometry.refcount_place(at);
        let order = geometry.refcount_order();
        let count = stored.map_or(1, |block| get_refcount(block, order, entry.get() as usize));
        let referenced = survey.map.get(at);
        if count > referenced {
            survey.map.add(at, one, count - referenced);
        }
        at = at.next();
    }
}

/// The clusters in which the file holds data, not holes.
fn data_clusters(
    storage: &dyn Storage,
    survey: &Survey,
) -> Result<Vec<(HostCluster, ClusterCount)>> {
    let mut found = Vec::new();
    let mut from = 0;
    let failed = |offset| move |e| Error::io("look for data", offset, e);
    while let Some(range) = storage.next_data(from).map_err(failed(from))? {
        let bytes = range.end - range.start;
        found.push(survey.area.geometry.span(HostOffset::new(range.start), bytes));
        from = range.end;
    }
    Ok(found)
}
