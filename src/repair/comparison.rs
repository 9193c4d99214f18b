//! What two checks have in common, and what only the first one found.

use std::collections::HashSet;

use crate::check::{CheckReport, Finding, Kind, Place, Severity};
use crate::format::{ClusterCount, HostCluster};

/// What a finding is recognised by in another check.
type Key = (Place, &'static str);

fn key(finding: &Finding) -> Key {
    (finding.place, finding.code())
}

/// What was found before a repair, compared with what was found after it.
#[derive(Debug)]
pub struct Comparison {
    repaired: Vec<Finding>,
    keys: HashSet<Key>,
    left: Option<HashSet<Key>>,
}

impl Comparison {
    /// Compares two checks; without a second one nothing is repaired.
    pub(super) fn new(before: &CheckReport, after: Option<&CheckReport>) -> Self {
        let Some(after) = after else {
            return Self { repaired: Vec::new(), keys: HashSet::new(), left: None };
        };
        let left = after.findings.iter().map(key).collect();
        let repaired = repaired(before, after, &left);
        Self { keys: repaired.iter().map(key).collect(), repaired, left: Some(left) }
    }

    /// The findings of the first check that the second one does not have, notices left out; of a
    /// run of refcounts, the part that is right now.
    pub fn repaired(&self) -> &[Finding] {
        &self.repaired
    }

    /// Whether a finding of the first check is repaired, all of it.
    pub fn is_repaired(&self, finding: &Finding) -> bool {
        self.keys.contains(&key(finding))
    }

    /// Whether the second check has the finding too; without a second check, all are left.
    pub fn is_left(&self, finding: &Finding) -> bool {
        self.left.as_ref().is_none_or(|left| left.contains(&key(finding)))
    }
}

fn repaired(before: &CheckReport, after: &CheckReport, left: &HashSet<Key>) -> Vec<Finding> {
    let wrong = after.findings.iter().filter_map(refcounts);
    let mut wrong: Vec<_> = wrong.map(|(first, count)| first..first + count).collect();
    wrong.sort_unstable_by_key(|range| range.start);
    let mut repaired = Vec::new();
    for finding in before.findings.iter().filter(|f| f.severity() != Severity::Notice) {
        match refcounts(finding) {
            None if left.contains(&key(finding)) => {}
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

/// The clusters of a finding about refcounts.
fn refcounts(finding: &Finding) -> Option<(HostCluster, ClusterCount)> {
    match (&finding.kind, finding.place) {
        (Kind::Count { .. }, Place::Clusters(first, count)) => Some((first, count)),
        _ => None,
    }
}
