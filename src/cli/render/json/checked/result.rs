//! A check's result as JSON: qemu-img's keys in its order, and the findings after them.

use qcheck::check::affected;
use qcheck::check::{
    Affected, CheckReport, GuestRange, Kind, Remedy, Verb, place_text, region_text,
};
use qcheck::contents::Contents;
use qcheck::repair::Fixed;
use serde::Serialize;

use super::contents::Part;
use crate::cli::render::findings::{self, Ranges};
use crate::cli::render::json::absent::is_zero;
use crate::cli::render::verdict::record::Record;

/// A check's result.
pub struct CheckResult<'a> {
    /// The image's name as it was given.
    pub filename: &'a str,
    /// The verdict.
    pub report: &'a CheckReport,
    /// What the findings mean for guests.
    pub affected: &'a Affected,
    /// What the disk contains, where that is known.
    pub contents: Option<&'a Contents>,
    /// Whether to sum up the guest data at risk.
    pub explain: bool,
    /// What was repaired before.
    pub fixed: Fixed,
    /// Most findings to list; 0 means all.
    pub max_findings: u64,
}

/// qemu-img's object for a check, with the findings after its keys. Numbers that are 0 are left
/// out, as by qemu-img.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Check<'a> {
    /// The end of the last cluster in use, as an offset in the file in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    image_end_offset: u64,
    /// Compressed clusters of the virtual disk.
    #[serde(skip_serializing_if = "is_zero")]
    compressed_clusters: u64,
    /// Clusters of the virtual disk.
    #[serde(skip_serializing_if = "is_zero")]
    total_clusters: u64,
    /// Errors in the image.
    #[serde(skip_serializing_if = "is_zero")]
    corruptions: u64,
    /// Errors that were repaired.
    #[serde(skip_serializing_if = "is_zero")]
    corruptions_fixed: u64,
    /// Parts that could not be checked.
    check_errors: u64,
    /// Leaked clusters.
    #[serde(skip_serializing_if = "is_zero")]
    leaks: u64,
    /// Leaked clusters that were released.
    #[serde(skip_serializing_if = "is_zero")]
    leaks_fixed: u64,
    /// Clusters of the virtual disk with a host cluster or compressed data.
    #[serde(skip_serializing_if = "is_zero")]
    allocated_clusters: u64,
    /// The image's name as it was given.
    filename: &'a str,
    /// The image's format, `qcow2`.
    format: &'static str,
    /// Allocated clusters that do not follow the one before in the file.
    #[serde(skip_serializing_if = "is_zero")]
    fragmented_clusters: u64,
    /// The findings, each of a run of equal ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
    /// Findings that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    findings_omitted: u64,
    /// Bytes of all virtual disks in the ranges that something is wrong with.
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_bytes_at_risk: Option<u64>,
}

/// What is wrong in one place.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct Finding {
    /// Its kind; `docs/findings.md` has an entry for each.
    code: &'static str,
    severity: Severity,
    /// Where it was found, in words.
    place: String,
    /// What was found, as printed for people.
    message: String,
    /// What this kind means.
    meaning: String,
    /// What to do about it.
    remedy: String,
    /// The clusters of the file that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    clusters: Option<Clusters>,
    /// The guest range that it affects.
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<Guest>,
    /// Of a lost L2 table: the guest ranges that it may map.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<Guest>>,
    /// Of a lost L2 table: further ranges that it may map.
    #[serde(skip_serializing_if = "is_zero")]
    more_candidates: u64,
    /// What refers to the clusters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    referrers: Vec<Referrer>,
    /// The refcount in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    /// The references that were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    referenced: Option<u64>,
    repair: Repair,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A remark that is not an error.
    Notice,
    /// Space that is lost to the file system.
    Leak,
    /// A part that could not be checked.
    CheckError,
    /// Data is in danger.
    Corruption,
}

impl From<qcheck::check::Severity> for Severity {
    fn from(severity: qcheck::check::Severity) -> Self {
        match severity {
            qcheck::check::Severity::Notice => Self::Notice,
            qcheck::check::Severity::Leak => Self::Leak,
            qcheck::check::Severity::CheckError => Self::CheckError,
            qcheck::check::Severity::Corruption => Self::Corruption,
        }
    }
}

/// Which repair corrects a finding.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum Repair {
    /// `-r leaks` and `-r all`.
    Leaks,
    /// `-r all`.
    All,
    /// `-r all --allow-data-loss`.
    DataLoss,
    /// None.
    None,
}

/// Consecutive clusters of the file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Clusters {
    /// The first one.
    first: u64,
    /// How many.
    count: u64,
}

/// A range of a virtual disk.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Guest {
    /// The guest offset in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
    /// The ID of the snapshot whose disk it is; none for the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    /// With `--explain`: the partitions and file systems of the active disk that it touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contents: Vec<Part>,
}

/// What refers to a cluster.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Referrer {
    /// Guest data, or the metadata that it is.
    kind: &'static str,
    /// The guest range that is read through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    guest: Option<Guest>,
}

impl<'a> From<&CheckResult<'a>> for Check<'a> {
    fn from(result: &CheckResult<'a>) -> Self {
        let CheckResult { filename, report, affected, contents, explain, fixed, max_findings } =
            *result;
        let ranges = Ranges::new(report, contents);
        let (tally, allocation) = (report.tally, report.allocation);
        let limit = match max_findings {
            0 => usize::MAX,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        let listed = report.findings.iter().take(limit).enumerate();
        let listed: Vec<Finding> =
            listed.map(|(number, f)| Finding::new(&ranges, f, affected.owners(number))).collect();
        Self {
            image_end_offset: report.image_end.get(),
            compressed_clusters: allocation.compressed,
            total_clusters: allocation.total,
            corruptions: tally.corruptions,
            corruptions_fixed: fixed.corruptions,
            check_errors: tally.check_errors,
            leaks: tally.leaks,
            leaks_fixed: fixed.leaks,
            allocated_clusters: allocation.allocated,
            filename,
            format: "qcow2",
            fragmented_clusters: allocation.fragmented,
            findings_omitted: (report.findings.len() - listed.len()) as u64 + report.unlisted,
            findings: listed,
            guest_bytes_at_risk: explain.then_some(affected.bytes_at_risk),
        }
    }
}

impl<'a> From<&'a Record> for Check<'a> {
    /// Of a clean image that has not changed since.
    fn from(record: &'a Record) -> Self {
        let numbers = record.summary.clone().unwrap_or_default();
        Self {
            image_end_offset: numbers.image_end_offset,
            compressed_clusters: numbers.compressed_clusters,
            total_clusters: numbers.total_clusters,
            corruptions: 0,
            corruptions_fixed: 0,
            check_errors: 0,
            leaks: 0,
            leaks_fixed: 0,
            allocated_clusters: numbers.allocated_clusters,
            filename: &record.filename,
            format: "qcow2",
            fragmented_clusters: numbers.fragmented_clusters,
            findings: Vec::new(),
            findings_omitted: 0,
            guest_bytes_at_risk: None,
        }
    }
}

impl Finding {
    fn new(
        ranges: &Ranges<'_>,
        finding: &qcheck::check::Finding,
        referrers: &[affected::Owner],
    ) -> Self {
        let report = ranges.report;
        let (stored, referenced) = match finding.kind {
            Kind::Count { stored, referenced } => (Some(stored), Some(referenced)),
            _ => (None, None),
        };
        let (candidates, more_candidates) = match &finding.kind {
            Kind::OrphanTable(orphan) => {
                let found = report.orphan_ranges(orphan);
                let found = found.iter().map(|range| Guest::new(ranges, range)).collect();
                (Some(found), orphan.more_slots)
            }
            _ => (None, 0),
        };
        let (meaning, remedy) = findings::meaning(finding.row());
        let clusters = report.clusters(finding);
        Self {
            code: finding.code(),
            severity: finding.severity().into(),
            place: place_text(finding.place),
            message: finding.line(0, Verb::Tell),
            meaning,
            remedy,
            clusters: clusters.map(|(first, count)| Clusters { first, count: count.get() }),
            guest: report.guest_range(finding).map(|range| Guest::new(ranges, &range)),
            candidates,
            more_candidates,
            referrers: referrers.iter().map(|owner| Referrer::new(ranges, owner)).collect(),
            stored,
            referenced,
            repair: match finding.remedy() {
                Remedy::Leaks => Repair::Leaks,
                Remedy::All => Repair::All,
                Remedy::DataLoss => Repair::DataLoss,
                Remedy::None => Repair::None,
            },
        }
    }
}

impl Referrer {
    fn new(ranges: &Ranges<'_>, owner: &affected::Owner) -> Self {
        let guest = owner.guest.map(|range| Guest::new(ranges, &range));
        Self { kind: owner.metadata.map_or("guest data", region_text), guest }
    }
}

impl Guest {
    fn new(ranges: &Ranges<'_>, range: &GuestRange) -> Self {
        Self {
            offset: range.offset.get(),
            length: range.bytes,
            snapshot: findings::snapshot(ranges.report, range.source),
            contents: ranges.parts(range).into_iter().map(Part::from).collect(),
        }
    }
}
