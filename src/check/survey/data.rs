//! Clusters that hold something: those in the file, without its holes.

use std::io;
use std::ops::Range;

use super::refcount_map::RefcountMap;
use crate::format::{Geometry, HostCluster, HostOffset};
use crate::storage::ReadAt;

/// What could be found out of a run of clusters: an error comes with the offset at which it
/// happened, and nothing comes after it.
type Found = Result<Range<HostCluster>, (HostOffset, io::Error)>;

/// Those of a range, in runs.
pub fn runs<'a, S: ReadAt + ?Sized>(
    source: &'a S,
    geometry: &'a Geometry,
    range: Range<HostCluster>,
) -> impl Iterator<Item = Found> + use<'a, S> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let from = std::mem::replace(&mut at, range.end);
        let offset = geometry.offset_of(from);
        match source.next_data(offset.get()) {
            Err(error) => Some(Err((offset, error))),
            Ok(None) => None,
            Ok(Some(data)) => {
                let start = from.max(geometry.cluster_floor(HostOffset::new(data.start)));
                let last = HostOffset::new(data.end.saturating_sub(1));
                at = geometry.cluster_floor(last).next().min(range.end);
                (start < range.end).then_some(Ok(start..at))
            }
        }
    })
}

/// Those of a range that nothing references, in runs.
pub fn unreferenced<'a, S: ReadAt + ?Sized>(
    source: &'a S,
    geometry: &'a Geometry,
    map: &RefcountMap,
    range: Range<HostCluster>,
) -> impl Iterator<Item = Found> + use<'a, S> {
    map.unreferenced(range).into_iter().flat_map(move |run| runs(source, geometry, run))
}
