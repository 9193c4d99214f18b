//! What is known while clusters are on the move.

use crate::format::HostCluster;
use crate::format::extension::COMPACTING;
use crate::tables::HeaderArea;

/// What holds while clusters are on the move.
pub(in crate::image) struct Moves {
    /// Refcounts are not deferred, also where the image has lazy refcounts.
    pub(in crate::image) is_eager: bool,
    /// Whether the header records that clusters are on the move.
    pub(in crate::image) is_announced: bool,
    /// Free space before this cluster is used again soon: it stays with the image.
    pub(in crate::image) kept_before: HostCluster,
}

impl Moves {
    /// Nothing is on the move yet; an earlier work may have been broken off.
    pub(in crate::image) fn of(area: &HeaderArea) -> Self {
        let is_announced = area.extension(COMPACTING).is_some();
        Self { is_eager: false, is_announced, kept_before: HostCluster::default() }
    }
}
