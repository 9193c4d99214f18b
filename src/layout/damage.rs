//! Which clusters of a file an error is about.

use std::ops::Range;

use crate::check::affected::spots::Spots;
use crate::check::{Finding, Place, Severity, Survey};
use crate::format::{HostCluster, HostOffset};
use crate::storage::ReadAt;

/// The clusters of all errors that are kept, in order, none twice.
pub fn ranges(source: &dyn ReadAt, survey: &Survey) -> Vec<Range<HostCluster>> {
    let spots = Spots::new(source, survey);
    let end = HostCluster::new(survey.area.geometry.clusters_for(survey.file_bytes).get());
    let errors = survey.report.findings.iter().filter(|finding| {
        matches!(finding.severity(), Severity::Corruption | Severity::CheckError)
    });
    joined(errors.map(|finding| range(survey, &spots, finding, end)).collect(), end)
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

/// What a finding is about, or else where it was made; the header where neither is in the file.
fn range(
    survey: &Survey,
    spots: &Spots,
    finding: &Finding,
    end: HostCluster,
) -> Range<HostCluster> {
    if let Some((first, count)) = survey.report.clusters(finding) {
        let first = HostCluster::new(first);
        if first < end {
            return first..HostCluster::new(first.get().saturating_add(count.get()));
        }
    }
    let place = match finding.place {
        Place::Disk(source) => Place::L1Table(source),
        place => place,
    };
    let start = spots.entry(place).map_or(0, |bytes| bytes.start);
    let cluster = survey.area.geometry.cluster_floor(HostOffset::new(start));
    let cluster = if cluster < end { cluster } else { HostCluster::new(0) };
    cluster..cluster.next()
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
