//! The rest of metadata clusters, in which nothing is stored.

use std::ops::Range;

use crate::format::header::{V2_BYTES, V3_BYTES};
use crate::storage::{RangeSet, ReadAt};
use crate::tables::HeaderArea;

/// Bytes of the mark after the last header extension.
const END_MARK: u64 = 8;

/// The rest of the header's cluster; `None` where the header does not show what it has.
pub fn of_header(source: &dyn ReadAt) -> Option<Range<u64>> {
    let area = HeaderArea::load(source).ok()?;
    let fields = u64::from(area.header.header_length);
    let least = if area.header.version == 2 { V2_BYTES } else { V3_BYTES };
    if area.extension_defect.is_some() || fields < least as u64 {
        return None;
    }
    let name = area
        .backing_name
        .as_ref()
        .map_or(0, |name| area.header.backing_name_offset.saturating_add(name.len() as u64));
    let used = fields.max(area.extensions_end().saturating_add(END_MARK)).max(name);
    let end = area.geometry.cluster_bytes();
    (used < end).then_some(used..end)
}

/// The ranges without one.
pub fn without(ranges: &[Range<u64>], slack: &Range<u64>) -> Vec<Range<u64>> {
    let around = |range: &Range<u64>| {
        [range.start..range.end.min(slack.start), range.start.max(slack.end)..range.end]
    };
    ranges.iter().flat_map(around).filter(|range| range.start < range.end).collect()
}

/// The ranges, each up to the end of its last cluster.
pub fn whole_clusters(ranges: &[Range<u64>], source: &dyn ReadAt, end: u64) -> Vec<Range<u64>> {
    let Ok(area) = HeaderArea::load(source) else { return ranges.to_vec() };
    let cluster = area.geometry.cluster_bytes();
    let mut whole = RangeSet::default();
    for range in ranges {
        let to = range.end.checked_next_multiple_of(cluster).unwrap_or(end).min(end);
        whole.insert(range.start..to.max(range.end));
    }
    whole.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_taken_out_of_others() {
        let ranges = [0..100, 150..200, 250..300];
        assert_eq!(without(&ranges, &(50..260)), [0..50, 260..300]);
        assert_eq!(without(&ranges, &(20..30)), [0..20, 30..100, 150..200, 250..300]);
    }
}
