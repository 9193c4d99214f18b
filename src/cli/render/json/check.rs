//! A check's result as JSON: qemu-img's keys in its order, and the findings after them.

use super::document::Object;
use qcheck::check::affected::Owner;
use qcheck::check::{
    Affected, CheckReport, Finding, GuestRange, Kind, Remedy, Severity, Verb, place_text,
    region_text,
};
use qcheck::repair::Fixed;
use serde_json::{Value, json};

use crate::cli::render::findings;

/// A check's result.
pub struct CheckResult<'a> {
    /// The image's name as it was given.
    pub filename: &'a str,
    /// The verdict.
    pub report: &'a CheckReport,
    /// What the findings mean for guests.
    pub affected: &'a Affected,
    /// Whether to sum up the guest data at risk.
    pub explain: bool,
    /// What was repaired before.
    pub fixed: Fixed,
    /// Most findings to list; 0 means all.
    pub max_findings: u64,
}

/// qemu-img's object for a check, with the findings behind it.
pub fn check_result(result: &CheckResult<'_>) -> Value {
    let CheckResult { filename, report, affected, explain, fixed, max_findings } = *result;
    let (tally, allocation) = (report.tally, report.allocation);
    let mut object = Object::default();
    object
        .set_nonzero("image-end-offset", report.image_end.get())
        .set_nonzero("compressed-clusters", allocation.compressed)
        .set_nonzero("total-clusters", allocation.total)
        .set_nonzero("corruptions", tally.corruptions)
        .set_nonzero("corruptions-fixed", fixed.corruptions)
        .set("check-errors", tally.check_errors)
        .set_nonzero("leaks", tally.leaks)
        .set_nonzero("leaks-fixed", fixed.leaks)
        .set_nonzero("allocated-clusters", allocation.allocated)
        .set("filename", filename)
        .set("format", "qcow2")
        .set_nonzero("fragmented-clusters", allocation.fragmented);
    let limit = match max_findings {
        0 => usize::MAX,
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let listed = report.findings.iter().take(limit).enumerate();
    let listed: Vec<Value> =
        listed.map(|(number, f)| finding(report, f, affected.owners(number))).collect();
    let omitted = (report.findings.len() - listed.len()) as u64 + report.unlisted;
    if !listed.is_empty() {
        object.set("findings", listed);
    }
    object.set_nonzero("findings-omitted", omitted);
    if explain {
        object.set("guest-bytes-at-risk", affected.bytes_at_risk);
    }
    object.into_value()
}

fn finding(report: &CheckReport, finding: &Finding, owners: &[Owner]) -> Value {
    let (stored, referenced) = match finding.kind {
        Kind::Count { stored, referenced } => (Some(stored), Some(referenced)),
        _ => (None, None),
    };
    let (meaning, remedy) = findings::meaning(finding.row());
    let mut object = Object::default();
    object
        .set("code", finding.code())
        .set("severity", severity(finding.severity()))
        .set("place", place_text(finding.place))
        .set("message", finding.line(0, Verb::Tell))
        .set("meaning", meaning)
        .set("remedy", remedy);
    if let Some((first, count)) = report.clusters(finding) {
        object.set("clusters", json!({ "first": first, "count": count.get() }));
    }
    if let Some(range) = report.guest_range(finding) {
        object.set("guest", guest(report, &range));
    }
    if let Kind::OrphanTable(orphan) = &finding.kind {
        let ranges = report.orphan_ranges(orphan);
        let ranges: Vec<Value> = ranges.iter().map(|range| guest(report, range)).collect();
        object.set("candidates", ranges).set_nonzero("more-candidates", orphan.more_slots);
    }
    if !owners.is_empty() {
        let owners: Vec<Value> = owners.iter().map(|owner| owned(report, owner)).collect();
        object.set("owners", owners);
    }
    object
        .set_some("stored", stored)
        .set_some("referenced", referenced)
        .set("repair", repair_mode(finding));
    object.into_value()
}

fn owned(report: &CheckReport, owner: &Owner) -> Value {
    let mut object = Object::default();
    object.set("kind", owner.metadata.map_or("guest data", region_text));
    object.set_some("guest", owner.guest.map(|range| guest(report, &range)));
    object.into_value()
}

fn guest(report: &CheckReport, range: &GuestRange) -> Value {
    let mut guest = Object::default();
    guest.set("offset", range.offset.get()).set("length", range.bytes);
    guest.set_some("snapshot", findings::snapshot(report, range.source));
    guest.into_value()
}

/// How bad a finding is, in a word.
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "notice",
        Severity::Leak => "leak",
        Severity::CheckError => "check-error",
        Severity::Corruption => "corruption",
    }
}

/// Which repair corrects it.
fn repair_mode(finding: &Finding) -> &'static str {
    match finding.remedy() {
        Remedy::Leaks => "leaks",
        Remedy::All => "all",
        Remedy::DataLoss => "data-loss",
        Remedy::None => "none",
    }
}
