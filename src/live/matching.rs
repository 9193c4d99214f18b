//! Which findings of two checks are the same.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::check::{CheckReport, Finding, Kind, Place, Source, Survey};
use crate::format::{ClusterCount, HostCluster};

/// Whether a finding can come from reading while the image changes. What the header records of
/// itself cannot.
pub fn is_suspect(finding: &Finding) -> bool {
    !matches!(
        finding.kind,
        Kind::Dirty
            | Kind::MarkedCorrupt
            | Kind::BitmapInUse { .. }
            | Kind::DataFileUnnamed
            | Kind::NotOpened(_)
    )
}

/// What is the same of a finding in another check: a snapshot keeps its id, and not its position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    code: &'static str,
    place: Place,
    snapshot: Option<String>,
}

impl Key {
    /// Of a finding that is not about clusters.
    pub fn of(report: &CheckReport, finding: &Finding) -> Self {
        let first = Source::Snapshot(0);
        let (place, index) = match finding.place {
            Place::Snapshot(index) => (Place::Snapshot(0), Some(index)),
            Place::L1Table(Source::Snapshot(index)) => (Place::L1Table(first), Some(index)),
            Place::L1(Source::Snapshot(index), l1) => (Place::L1(first, l1), Some(index)),
            Place::L2(Source::Snapshot(index), l1, l2) => (Place::L2(first, l1, l2), Some(index)),
            Place::Disk(Source::Snapshot(index)) => (Place::Disk(first), Some(index)),
            place => (place, None),
        };
        let name = |index: u32| report.snapshots.get(usize::try_from(index).ok()?);
        let snapshot = index.map(|index| name(index).map(|s| s.id.clone()).unwrap_or_default());
        Self { code: finding.code(), place, snapshot }
    }
}

/// What the first check found.
#[derive(Debug, Default)]
pub struct Suspects {
    /// The clusters that findings are about, by kind, in order.
    clusters: HashMap<&'static str, Vec<Range<HostCluster>>>,
    /// Findings about other places.
    keys: HashSet<Key>,
    /// Clusters whose referrers decide.
    wanted: HashSet<HostCluster>,
}

impl Suspects {
    /// The findings that may come from changes; the referrers of at most so many clusters are to
    /// decide.
    pub fn of(survey: &Survey, most: usize) -> Self {
        let report = &survey.report;
        let mut suspects = Self::default();
        for finding in report.findings.iter().filter(|finding| is_suspect(finding)) {
            if let Place::Clusters(first, count) = finding.place {
                suspects.clusters.entry(finding.code()).or_default().push(first..first + count);
            } else {
                suspects.keys.insert(Key::of(report, finding));
            }
            if !is_only_counted(&finding.kind) {
                suspects.want(report, finding, most);
            }
        }
        for ranges in suspects.clusters.values_mut() {
            ranges.sort_unstable_by_key(|range| range.start);
        }
        suspects
    }

    fn want(&mut self, report: &CheckReport, finding: &Finding, most: usize) {
        let Some((first, count)) = report.clusters(finding) else { return };
        let room = most.saturating_sub(self.wanted.len()) as u64;
        for n in 0..count.get().min(room) {
            self.wanted.insert(HostCluster::new(first) + ClusterCount::new(n));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.keys.is_empty()
    }

    /// The clusters whose referrers decide.
    pub const fn wanted(&self) -> &HashSet<HostCluster> {
        &self.wanted
    }

    /// Whether the first check found the same there.
    pub fn has(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// A run of clusters in parts, each with whether the first check found the same kind there.
    pub fn split(
        &self,
        code: &'static str,
        run: Range<HostCluster>,
    ) -> Vec<(Range<HostCluster>, bool)> {
        let ranges = self.clusters.get(code).map_or(&[][..], Vec::as_slice);
        let mut parts = Vec::new();
        let mut from = run.start;
        let before = ranges.partition_point(|range| range.end <= run.start);
        for range in ranges[before..].iter().take_while(|range| range.start < run.end) {
            let (start, end) = (range.start.max(from), range.end.min(run.end));
            if from < start {
                parts.push((from..start, false));
            }
            if start < end {
                parts.push((start..end, true));
                from = end;
            }
        }
        if from < run.end {
            parts.push((from..run.end, false));
        }
        parts
    }
}

/// Whether a finding means that refcounts are too high and nothing else: whoever refers to such a
/// cluster is not to be found.
pub const fn is_only_counted(kind: &Kind) -> bool {
    match kind {
        Kind::Count { stored, referenced } => *stored > *referenced,
        Kind::OrphanTable(_)
        | Kind::BlankTable { .. }
        | Kind::Unaccounted { .. }
        | Kind::SnapshotsUncounted(_)
        | Kind::CountedBeyondEnd => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(range: Range<u64>) -> Range<HostCluster> {
        HostCluster::new(range.start)..HostCluster::new(range.end)
    }

    #[test]
    fn a_run_is_split_where_the_first_check_found_something_else() {
        let mut suspects = Suspects::default();
        suspects.clusters.insert("leak", vec![clusters(2..4), clusters(6..7), clusters(9..20)]);
        let split = |range| suspects.split("leak", clusters(range));
        let part = |range, same| (clusters(range), same);
        assert_eq!(
            split(0..10),
            [part(0..2, false), part(2..4, true), part(4..6, false)]
                .into_iter()
                .chain([part(6..7, true), part(7..9, false), part(9..10, true)])
                .collect::<Vec<_>>()
        );
        assert_eq!(split(3..4), [part(3..4, true)]);
        assert_eq!(split(20..21), [part(20..21, false)]);
        assert_eq!(suspects.split("other", clusters(3..4)), [part(3..4, false)]);
    }
}
