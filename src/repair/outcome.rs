//! What a repair did.

use std::collections::HashSet;

use super::search::RebuiltHeader;
use crate::check::{Affected, CheckReport, Finding, Kind, Place, Severity};
use crate::format::{ClusterCount, HostCluster};

/// How many findings were repaired, by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fixed {
    /// Leaked clusters.
    pub leaks: u64,
    /// Errors.
    pub corruptions: u64,
}

/// What a repair did.
#[derive(Debug)]
pub struct RepairOutcome {
    /// The header that was written in place of a damaged one, before anything else.
    pub rebuilt_header: Option<RebuiltHeader>,
    /// What was found before the first write, or through the header that was written first.
    pub before: CheckReport,
    /// Whether the refcount structures were rebuilt.
    pub rebuilt: bool,
    /// Leaked clusters that were not released, since references to them may be hidden.
    pub held: u64,
    /// Findings before minus findings after.
    pub fixed: Fixed,
    /// A fresh check's findings, where something was written.
    pub after: Option<CheckReport>,
    /// What the findings of the last check mean for guests.
    pub affected: Affected,
}

impl RepairOutcome {
    /// Nothing is done yet.
    pub(super) fn new(before: CheckReport) -> Self {
        Self {
            rebuilt_header: None,
            before,
            rebuilt: false,
            held: 0,
            fixed: Fixed::default(),
            after: None,
            affected: Affected::default(),
        }
    }

    /// The findings of the first check that the last one does not have any more; of a run of refcounts, the part that
    /// is right now.
    pub fn repaired(&self) -> Vec<Finding> {
        let Some(after) = &self.after else { return Vec::new() };
        let left: HashSet<(Place, &str)> =
            after.findings.iter().map(|finding| (finding.place, finding.code())).collect();
        let wrong = after.findings.iter().filter_map(refcounts);
        let mut wrong: Vec<_> = wrong.map(|(first, count)| first..first + count).collect();
        wrong.sort_unstable_by_key(|range| range.start);
        let mut repaired = Vec::new();
        let found = self.before.findings.iter().filter(|f| f.severity() != Severity::Notice);
        for finding in found {
            match refcounts(finding) {
                None if left.contains(&(finding.place, finding.code())) => {}
                None => repaired.push(finding.clone()),
                Some((first, count)) => {
                    let end = first + count;
                    let mut at = first;
                    let from = wrong.partition_point(|range| range.end <= first);
                    let wrong = wrong[from..].iter().take_while(|range| range.start < end);
                    for (start, stop) in wrong.map(|r| (r.start, r.end)).chain([(end, end)]) {
                        if at < start {
                            let place = Place::Clusters(at, start - at);
                            repaired.push(Finding::new(finding.kind.clone(), place));
                        }
                        at = at.max(stop);
                    }
                }
            }
        }
        repaired
    }
}

/// The clusters of a finding about refcounts.
fn refcounts(finding: &Finding) -> Option<(HostCluster, ClusterCount)> {
    match (&finding.kind, finding.place) {
        (Kind::Count { .. }, Place::Clusters(first, count)) => Some((first, count)),
        _ => None,
    }
}
