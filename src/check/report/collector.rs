//! Takes findings in order, joins runs, and keeps what the report can hold.

use super::finding::Finding;
use super::kind::Kind;
use super::place::Place;
use super::tally::Tally;

/// Findings on their way into the report.
#[derive(Debug, Default)]
pub struct Collector {
    keep: usize,
    findings: Vec<Finding>,
    unlisted: u64,
    tally: Tally,
    hides_references: bool,
}

impl Collector {
    /// Keeps up to `keep` findings one by one.
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            findings: Vec::new(),
            unlisted: 0,
            tally: Tally::default(),
            hides_references: false,
        }
    }

    /// Whether further findings are counted only.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Takes one finding; a run that goes on from the last one becomes part of it.
    pub fn push(&mut self, finding: Finding) {
        self.tally.add(&finding);
        self.hides_references |= finding.may_hide_references();
        if let Some(last) = self.findings.last_mut() {
            if let Some(joined) = joined(last, &finding) {
                last.place = joined;
                return;
            }
        }
        if self.is_full() {
            self.unlisted += 1;
        } else {
            self.findings.push(finding);
        }
    }

    /// How many more findings can be kept one by one.
    pub fn room(&self) -> usize {
        self.keep.saturating_sub(self.findings.len())
    }

    /// Counts damaged entries that are not kept one by one.
    pub const fn count_corruptions(&mut self, count: u64) {
        self.count_flags(count);
        self.hides_references |= count > 0;
    }

    /// Counts wrong COPIED flags that are not kept one by one.
    pub const fn count_flags(&mut self, count: u64) {
        self.tally.corruptions = self.tally.corruptions.saturating_add(count);
        self.unlisted = self.unlisted.saturating_add(count);
    }

    /// The findings that are kept, up to now.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What was found up to now.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether a finding, kept or not, may hide references.
    pub const fn hides_references(&self) -> bool {
        self.hides_references
    }

    /// Everything: findings, how many were not kept, and the tally.
    pub fn into_parts(self) -> (Vec<Finding>, u64, Tally) {
        (self.findings, self.unlisted, self.tally)
    }
}

/// The place of two findings as one, where the second goes on where the first ends.
fn joined(last: &Finding, next: &Finding) -> Option<Place> {
    let (Place::Clusters(first, count), Place::Clusters(then, more)) = (last.place, next.place)
    else {
        return None;
    };
    let runs = matches!(last.kind, Kind::Count { .. } | Kind::Overflow { .. } | Kind::SharedData);
    (runs && last.kind == next.kind && first + count == then)
        .then(|| Place::Clusters(first, count + more))
}
