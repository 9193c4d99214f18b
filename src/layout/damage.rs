//! Which clusters of a file an error is about.

use std::ops::Range;

use crate::check::{Finding, Place, RegionKind, Severity, Source, Survey};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::{HostCluster, HostOffset, L1Index};

/// The clusters of all errors that are kept, in order, none twice.
pub fn ranges(survey: &Survey) -> Vec<Range<HostCluster>> {
    let end = HostCluster::new(survey.area.geometry.clusters_for(survey.file_bytes).get());
    let errors = survey.report.findings.iter().filter(|finding| {
        matches!(finding.severity(), Severity::Corruption | Severity::CheckError)
    });
    joined(errors.map(|finding| range(survey, finding, end)).collect(), end)
}

/// Ranges in order, those that touch each other as one, up to `end`.
pub fn joined(mut ranges: Vec<Range<HostCluster>>, end: HostCluster) -> Vec<Range<HostCluster>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<HostCluster>> = Vec::new();
    for range in ranges {
        let range = range.start..range.end.min(end);
        match joined.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What a finding is about, or else where it was made.
fn range(survey: &Survey, finding: &Finding, end: HostCluster) -> Range<HostCluster> {
    if let Some((first, count)) = survey.report.clusters(finding) {
        let first = HostCluster::new(first);
        if first < end {
            return first..HostCluster::new(first.get().saturating_add(count.get()));
        }
    }
    let cluster = survey.area.geometry.cluster_floor(place(survey, finding.place));
    cluster..cluster.next()
}

/// The bytes that say what is wrong.
fn place(survey: &Survey, place: Place) -> HostOffset {
    let header = &survey.area.header;
    let entry = |table: HostOffset, index: u64| {
        table.saturating_add(index.saturating_mul(TABLE_ENTRY_BYTES))
    };
    match place {
        Place::Header(_) | Place::CryptoHeader => HostOffset::new(0),
        Place::SnapshotTable | Place::Snapshot(_) => first_of(survey, RegionKind::SnapshotTable),
        Place::L1Table(source) | Place::Disk(source) => l1_table(survey, source),
        Place::L1(source, index) => entry(l1_table(survey, source), index.get().into()),
        Place::L2(source, l1, l2) => {
            let bytes = survey.area.geometry.l2_entry_bytes() as u64;
            let at = u64::from(l2.get()) * bytes;
            l2_table(survey, source, l1)
                .map_or(HostOffset::new(0), |table| table.saturating_add(at))
        }
        Place::Reftable => header.reftable,
        Place::Refblock(index) => entry(header.reftable, index.get()),
        Place::Clusters(first, _) => survey.area.geometry.offset_of(first),
        Place::BitmapDirectory | Place::Bitmap(_) => first_of(survey, RegionKind::BitmapDirectory),
    }
}

/// Where a structure begins that an image has once, or the header that leads to it.
fn first_of(survey: &Survey, kind: RegionKind) -> HostOffset {
    let region = survey.regions.iter().find(|region| region.kind == kind);
    let first = region.map_or(HostCluster::new(0), |region| region.first);
    survey.area.geometry.offset_of(first)
}

fn l1_table(survey: &Survey, source: Source) -> HostOffset {
    let entry = |index: u32| survey.snapshots.entries.get(index as usize);
    match source {
        Source::Active => survey.area.header.l1_table,
        Source::Snapshot(index) => {
            entry(index).map_or(HostOffset::new(0), |entry| entry.header.l1_table)
        }
    }
}

/// Where an L1 entry leads to.
fn l2_table(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    let at = survey.visits.binary_search_by_key(&(source, index), |v| (v.source, v.index)).ok()?;
    Some(survey.visits[at].entry.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range<HostCluster> {
        HostCluster::new(start)..HostCluster::new(end)
    }

    #[test]
    fn ranges_that_touch_are_one_and_end_with_the_file() {
        let ranges = vec![range(7, 20), range(1, 2), range(2, 4), range(30, 31)];
        assert_eq!(joined(ranges, HostCluster::new(9)), [range(1, 4), range(7, 9)]);
    }
}
