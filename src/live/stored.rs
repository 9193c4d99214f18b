//! Refcounts as they stand at this moment, each read by itself.

use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::feature::incompatible;
use crate::format::header::{Header, V3_BYTES_WITH_COMPRESSION};
use crate::format::refcount::{ReftableEntry, get_refcount};
use crate::format::{Geometry, HostCluster};
use crate::storage::ReadAt;

/// The header's fields at this moment; `None` where it cannot be read.
pub fn header(source: &dyn ReadAt) -> Option<Header> {
    let mut bytes = [0; V3_BYTES_WITH_COMPRESSION];
    source.read_padded_at(0, &mut bytes).ok()?;
    Header::decode(&bytes).ok()
}

/// Whether refcounts may be stale: lazy refcounts are written when the image is closed.
pub const fn is_dirty(header: &Header) -> bool {
    header.incompatible & incompatible::DIRTY != 0
}

/// The refcount of a cluster, by the refcount table that this header points to. `None` where the
/// table does not point to a block.
pub fn refcount(
    source: &dyn ReadAt,
    header: &Header,
    geometry: &Geometry,
    cluster: HostCluster,
) -> Option<u64> {
    let (index, entry) = geometry.refcount_place(cluster);
    let at = index.get().checked_mul(TABLE_ENTRY_BYTES)?;
    if at >= u64::from(header.reftable_clusters).saturating_mul(geometry.cluster_bytes()) {
        return Some(0);
    }
    let mut pointer = [0; 8];
    source.read_padded_at(header.reftable.saturating_add(at).get(), &mut pointer).ok()?;
    let block = ReftableEntry(u64::from_be_bytes(pointer)).offset();
    if block.get() == 0 {
        return Some(0);
    }
    if !geometry.is_aligned(block) {
        return None;
    }
    let (order, number) = (geometry.refcount_order(), u64::from(entry.get()));
    let first_bit = number << order;
    let mut count = [0; 8];
    let count = &mut count[..(1usize << order).div_ceil(8)];
    source.read_padded_at(block.saturating_add(first_bit / 8).get(), count).ok()?;
    let in_byte = usize::try_from((first_bit % 8) >> order).ok()?;
    Some(get_refcount(count, order, in_byte))
}
