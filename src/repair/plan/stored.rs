//! Refcounts as an image has them.

use crate::check::Survey;
use crate::error::{Error, Result};
use crate::format::refcount::get_refcount;
use crate::format::{HostCluster, ReftableIndex};
use crate::storage::ReadAt;

/// The stored refcount of a cluster; 0 where it has no valid block.
pub fn count(source: &dyn ReadAt, survey: &Survey, cluster: HostCluster) -> Result<u64> {
    let (index, entry) = survey.area.geometry.refcount_place(cluster);
    let order = survey.area.geometry.refcount_order();
    let block = block(source, survey, index)?;
    Ok(block.map_or(0, |block| get_refcount(&block, order, entry.get() as usize)))
}

/// A valid block's content; `None` where there is none.
pub fn block(
    source: &dyn ReadAt,
    survey: &Survey,
    index: ReftableIndex,
) -> Result<Option<Vec<u8>>> {
    let Some(block) = survey.refcounts.block(index).filter(|b| b.sound) else { return Ok(None) };
    let mut bytes = vec![0; survey.area.geometry.cluster_len()];
    let failed = |e| Error::io("read a refcount block", block.offset.get(), e);
    source.read_padded_at(block.offset.get(), &mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}
