//! Clusters that nothing references and that hold something.

use std::io;
use std::ops::Range;

use super::refcount_map::RefcountMap;
use crate::format::{Geometry, HostCluster, HostOffset};
use crate::storage::ReadAt;

/// Those of a range, in runs, without the holes of the file. An error ends the run that it is in, and
/// comes with the offset at which it happened.
pub fn with_data<'a, S: ReadAt + ?Sized>(
    source: &'a S,
    geometry: &'a Geometry,
    map: &RefcountMap,
    range: Range<HostCluster>,
) -> impl Iterator<Item = Result<Range<HostCluster>, (HostOffset, io::Error)>> + use<'a, S> {
    map.unreferenced(range).into_iter().flat_map(move |run| {
        let mut at = run.start;
        std::iter::from_fn(move || {
            if at >= run.end {
                return None;
            }
            let from = std::mem::replace(&mut at, run.end);
            let offset = geometry.offset_of(from);
            match source.next_data(offset.get()) {
                Err(error) => Some(Err((offset, error))),
                Ok(None) => None,
                Ok(Some(data)) => {
                    let start = from.max(geometry.cluster_floor(HostOffset::new(data.start)));
                    let last = HostOffset::new(data.end.saturating_sub(1));
                    at = geometry.cluster_floor(last).next().min(run.end);
                    (start < run.end).then_some(Ok(start..at))
                }
            }
        })
    })
}
