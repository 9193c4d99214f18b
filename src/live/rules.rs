//! What of two checks is an error, and what is not decided.

use std::ops::Range;

use super::evidence::Evidence;
use super::matching::{Key, Suspects, is_only_counted, is_suspect};
use super::proof::{Proof, Proofs};
use super::stored;
use crate::check::{Finding, Kind, Place, Survey};
use crate::format::l1::COPIED;
use crate::format::{ClusterCount, Geometry, HostCluster};

/// What is kept of the first check.
pub struct Seen {
    pub geometry: Geometry,
    pub data_file: bool,
    pub file_bytes: u64,
    pub is_dirty: bool,
}

impl Seen {
    /// Of the check with this survey.
    pub fn of(survey: &Survey) -> Self {
        let header = &survey.area.header;
        Self {
            geometry: survey.area.geometry,
            data_file: header.has_data_file(),
            file_bytes: survey.file_bytes,
            is_dirty: stored::is_dirty(header),
        }
    }
}

/// What a verdict on the findings of the second check depends on.
pub struct Rules<'a> {
    /// The second check.
    pub survey: &'a Survey,
    /// The first check.
    pub seen: &'a Seen,
    /// What the first check found.
    pub suspects: &'a Suspects,
    /// What those findings are about.
    pub evidence: &'a Evidence<'a>,
    /// What is true of suspected clusters at one moment.
    pub proofs: &'a Proofs<'a>,
    /// Whether refcounts may be stale now.
    pub is_dirty_now: bool,
    /// The file's length now.
    pub file_bytes: u64,
    /// Whether a program may have tables in memory that the file does not have yet.
    pub may_be_cached: bool,
}

impl Rules<'_> {
    /// The findings: those that are proven, and a notice for each that is not decided.
    pub fn judge(&self) -> Vec<Finding> {
        let mut judged = Vec::new();
        for finding in &self.survey.report.findings {
            match finding.place {
                _ if !is_suspect(finding) => judged.push(finding.clone()),
                Place::Clusters(first, count) => {
                    self.judge_run(finding, first..first + count, &mut judged);
                }
                _ if self.is_proven(finding) => judged.push(self.proven(finding)),
                place => judged.push(in_flux(finding, place)),
            }
        }
        judged
    }

    /// Decides on a finding about clusters, one after the other where each can be another case.
    fn judge_run(&self, finding: &Finding, run: Range<HostCluster>, judged: &mut Vec<Finding>) {
        for (part, is_known) in self.suspects.split(finding.code(), run) {
            let whole = place(&part);
            if !is_known {
                judged.push(in_flux(finding, whole));
            } else if is_only_counted(&finding.kind) || is_about_length(&finding.kind) {
                let is_decided = if is_about_length(&finding.kind) {
                    self.has_same_length()
                } else {
                    self.has_decided_counts()
                };
                judged.push(if is_decided {
                    Finding::new(finding.kind.clone(), whole)
                } else {
                    in_flux(finding, whole)
                });
            } else {
                self.judge_clusters(finding, part, judged);
            }
        }
    }

    fn judge_clusters(&self, finding: &Finding, part: Range<HostCluster>, to: &mut Vec<Finding>) {
        let mut from = part.start;
        let mut verdict = None;
        let mut cluster = part.start;
        while cluster < part.end {
            let now = self.is_proven_of(&finding.kind, cluster);
            if verdict.is_some_and(|before| before != now) {
                to.push(self.decided(finding, from..cluster, !now));
                from = cluster;
            }
            verdict = Some(now);
            cluster = cluster.next();
        }
        to.push(self.decided(finding, from..part.end, verdict.unwrap_or(false)));
    }

    fn decided(&self, finding: &Finding, part: Range<HostCluster>, is_proven: bool) -> Finding {
        let place = place(&part);
        match is_proven {
            true => self.proven(&Finding::new(finding.kind.clone(), place)),
            false => in_flux(finding, place),
        }
    }

    /// Whether a finding about a cluster was true at one moment.
    fn is_proven_of(&self, kind: &Kind, cluster: HostCluster) -> bool {
        if !self.suspects.wanted().contains(&cluster) {
            return false;
        }
        let proof = self.proofs.of(cluster);
        match kind {
            Kind::Count { .. } => self.is_too_low(&proof),
            Kind::Overflow { .. } => proof.references > self.seen.geometry.refcount_max(),
            _ => proof.is_complete && proof.references > 1,
        }
    }

    /// Whether a refcount was lower than the references at one moment. With lazy refcounts it may
    /// be, unless two entries refer to the cluster that cannot both.
    fn is_too_low(&self, proof: &Proof) -> bool {
        proof.exclusive > 1 || !self.is_dirty() && proof.is_too_low
    }

    /// Whether a finding about an entry or a structure was true at one moment.
    fn is_proven(&self, finding: &Finding) -> bool {
        let key = Key::of(&self.survey.report, finding);
        if !self.suspects.has(&key) || !self.evidence.is_unchanged(&key) {
            return false;
        }
        match &finding.kind {
            Kind::BeyondEnd { offset, bytes } => {
                let past = offset.get().saturating_add(*bytes).saturating_sub(self.file_bytes);
                past >= self.seen.geometry.cluster_bytes()
            }
            kind if is_about_length(kind) => self.has_same_length(),
            kind if is_only_counted(kind) => self.has_decided_counts(),
            Kind::DataCopied { entry, .. } | Kind::L2TableCopied { entry, .. } => {
                self.is_wrong_flag(finding, *entry)
            }
            Kind::L2TableTwice { .. } | Kind::CompressedOverlap { .. } | Kind::Overlap { .. } => {
                self.cluster(finding).is_some_and(|at| self.proofs.of(at).is_complete)
            }
            _ => true,
        }
    }

    /// Whether a COPIED flag is wrong, and not only late. One that is set though there are several
    /// references is: they are made after the flag is cleared. One that is set beside a refcount
    /// that is too high can be of a snapshot that is being made, and one that is clear of a
    /// snapshot that is being deleted; both do no harm.
    fn is_wrong_flag(&self, finding: &Finding, entry: u64) -> bool {
        let Some(cluster) = self.cluster(finding) else { return false };
        let proof = self.proofs.of(cluster);
        let is_harmful = entry & COPIED != 0 && proof.references > 1;
        let is_unused = proof.is_free && !self.is_dirty();
        proof.is_complete && (is_harmful || is_unused || self.has_decided_counts())
    }

    /// The first cluster that a finding is about.
    fn cluster(&self, finding: &Finding) -> Option<HostCluster> {
        self.survey.report.clusters(finding).map(|(first, _)| HostCluster::new(first))
    }

    fn is_dirty(&self) -> bool {
        self.seen.is_dirty || self.is_dirty_now || stored::is_dirty(&self.survey.area.header)
    }

    /// Whether a refcount that is too high shows something: the reference to the cluster may be in
    /// a table that is only in memory.
    fn has_decided_counts(&self) -> bool {
        !self.may_be_cached && !self.is_dirty()
    }

    fn has_same_length(&self) -> bool {
        self.seen.file_bytes == self.survey.file_bytes && self.survey.file_bytes == self.file_bytes
    }

    /// A finding that is proven. Where another one was to count the same clusters and is not
    /// decided, it counts itself.
    fn proven(&self, finding: &Finding) -> Finding {
        let mut finding = finding.clone();
        if self.is_dirty() {
            if let Kind::Overlap { counted, .. }
            | Kind::L2TableTwice { counted, .. }
            | Kind::CompressedOverlap { counted, .. } = &mut finding.kind
            {
                *counted = false;
            }
        }
        finding
    }
}

/// Whether a finding depends on where the file ends.
const fn is_about_length(kind: &Kind) -> bool {
    matches!(kind, Kind::CutOff { .. } | Kind::RefblockOutside)
}

const fn count(part: &Range<HostCluster>) -> ClusterCount {
    ClusterCount::new(part.end.get() - part.start.get())
}

const fn place(part: &Range<HostCluster>) -> Place {
    Place::Clusters(part.start, count(part))
}

fn in_flux(finding: &Finding, place: Place) -> Finding {
    Finding::new(Kind::InFlux(finding.code()), place)
}
