//! Refcounts as an image has them.

use std::cell::RefCell;

use crate::check::Survey;
use crate::error::{Error, Result};
use crate::format::refcount::get_refcount;
use crate::format::{HostCluster, ReftableIndex};
use crate::storage::ReadAt;

/// Stored refcounts that are requested in any order, mostly of clusters that are near each other.
pub struct Counts<'a> {
    source: &'a dyn ReadAt,
    survey: &'a Survey,
    /// The block that was read last.
    last: RefCell<Option<(ReftableIndex, Option<Vec<u8>>)>>,
}

impl<'a> Counts<'a> {
    /// Those of an image.
    pub const fn of(source: &'a dyn ReadAt, survey: &'a Survey) -> Self {
        Self { source, survey, last: RefCell::new(None) }
    }

    /// The stored refcount of a cluster; 0 where it has no valid block.
    pub fn get(&self, cluster: HostCluster) -> Result<u64> {
        let geometry = &self.survey.area.geometry;
        let (index, entry) = geometry.refcount_place(cluster);
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(of, _)| *of != index) {
            *last = Some((index, block(self.source, self.survey, index)?));
        }
        let block = last.as_ref().and_then(|(_, block)| block.as_ref());
        let order = geometry.refcount_order();
        Ok(block.map_or(0, |block| get_refcount(block, order, entry.get() as usize)))
    }
}

/// A valid block's content; `None` where the refcount table has no such block.
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
