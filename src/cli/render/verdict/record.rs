//! The numbers of a check, and what is recorded of an image for later runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qcheck::check::CheckReport;
use serde::{Deserialize, Serialize};

use crate::cli::files::fingerprint::Fingerprint;

/// The numbers of one report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Summary {
    /// Errors in the image.
    pub corruptions: u64,
    /// Leaked clusters.
    pub leaks: u64,
    /// Parts that could not be checked.
    pub check_errors: u64,
    /// Findings by code, a number of clusters or entries each; those that are not kept one by one
    /// are missing.
    pub codes: BTreeMap<String, u64>,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Bytes of the virtual disk.
    pub virtual_size: u64,
    /// The end of the last cluster in use.
    pub image_end_offset: u64,
    /// Clusters of the virtual disk.
    pub total_clusters: u64,
    /// Those with a host cluster or compressed data.
    pub allocated_clusters: u64,
    /// Those that do not follow the one before in the file.
    pub fragmented_clusters: u64,
    /// Those that are compressed.
    pub compressed_clusters: u64,
    /// Snapshots.
    pub snapshot_count: u64,
}

impl From<&CheckReport> for Summary {
    fn from(report: &CheckReport) -> Self {
        let (tally, allocation) = (report.tally, report.allocation);
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        for finding in &report.findings {
            *codes.entry(finding.code().to_owned()).or_default() += finding.line_count().max(1);
        }
        Self {
            corruptions: tally.corruptions,
            leaks: tally.leaks,
            check_errors: tally.check_errors,
            codes,
            cluster_size: report.geometry.cluster_bytes(),
            virtual_size: report.geometry.virtual_size(),
            image_end_offset: report.image_end.get(),
            total_clusters: allocation.total,
            allocated_clusters: allocation.allocated,
            fragmented_clusters: allocation.fragmented,
            compressed_clusters: allocation.compressed,
            snapshot_count: report.snapshots.len() as u64,
        }
    }
}

impl Summary {
    /// Bytes of leaked clusters.
    pub const fn leaked_bytes(&self) -> u64 {
        self.leaks.saturating_mul(self.cluster_size)
    }

    /// Bytes of the virtual disk that have a place in the file.
    pub const fn allocated_bytes(&self) -> u64 {
        self.allocated_clusters.saturating_mul(self.cluster_size)
    }

    /// The part of the allocated clusters that do not follow the one before, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn fragmentation(&self) -> f64 {
        self.fragmented_clusters as f64 / self.allocated_clusters.max(1) as f64
    }
}

/// What a run recorded of an image, a line of a file of `--since`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The image's name as it was given.
    pub filename: String,
    /// The word for its verdict.
    pub verdict: String,
    /// When it was checked, in the form of RFC 3339.
    pub checked_at: String,
    /// How long that took.
    pub seconds: f64,
    /// What has to be the same for the verdict to be the same: qcheck's version and arguments.
    pub options: String,
    /// What shows whether the image has changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Fingerprint>,
    /// The numbers of the report, where there was one.
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

impl Record {
    /// When the image was checked, in seconds since 1970.
    pub fn time(&self) -> Option<i64> {
        self.checked_at.parse::<Timestamp>().ok().map(Timestamp::as_second)
    }
}

/// A time in the form of RFC 3339, in seconds.
pub fn time_text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).map_or_else(|_| String::new(), |t| t.to_string())
}
