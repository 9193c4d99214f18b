//! Snapshots over QEMU's limits.

use crate::check::{Finding, Kind, Survey};
use crate::format::HostOffset;
use crate::format::header::{HeaderField, encode_field};
use crate::format::snapshot::MAX_SNAPSHOTS;
use crate::repair::plan::step::{Step, codes};

/// The header's number of snapshots, cut to what QEMU opens.
pub fn plan(survey: &Survey) -> Vec<Step> {
    let mut count = survey.area.header.snapshot_count.min(MAX_SNAPSHOTS);
    let excess = |f: &Finding| {
        matches!(f.kind, Kind::TooManySnapshots(_) | Kind::SnapshotTableTooBig { .. })
    };
    let fixes = codes(&survey.report, excess);
    if fixes.is_empty() {
        return Vec::new();
    }
    for finding in survey.report.findings.iter().filter(|finding| excess(finding)) {
        if let Kind::SnapshotTableTooBig { overhanging } = finding.kind {
            count -= overhanging;
        }
    }
    let offset = HostOffset::new(HeaderField::SnapshotCount.place().0);
    let bytes = encode_field(HeaderField::SnapshotCount, u64::from(count));
    let what = "the number of snapshots in the header";
    vec![Step::bytes(offset, bytes, what, fixes).lossy()]
}
