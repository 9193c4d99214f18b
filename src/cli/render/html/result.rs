//! A result as the page shows it: what `check --output json` or `ndjson` prints of an image, or
//! what a file of `--since` records, read back.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use qcheck::Class;
use serde::Deserialize;
use serde_json::Value;

/// The classes by their words.
const CLASSES: [Class; 6] =
    [Class::Clean, Class::NoChecker, Class::Leaks, Class::Errors, Class::NoVerdict, Class::Denied];

/// The word in place of a verdict where a digest alone was made.
const DIGEST: &str = "digest";

/// A result for one image. What a form of output does not have is empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Line {
    pub filename: String,
    pub format: String,
    pub verdict: String,
    pub error: String,
    pub violations: Vec<Violation>,
    pub corruptions: u64,
    pub leaks: u64,
    pub check_errors: u64,
    pub cluster_size: u64,
    pub virtual_size: u64,
    pub image_end_offset: u64,
    pub total_clusters: u64,
    pub allocated_clusters: u64,
    pub fragmented_clusters: u64,
    pub compressed_clusters: u64,
    pub snapshot_count: u64,
    pub findings: Vec<Finding>,
    pub findings_omitted: u64,
    /// Findings by code, of a record.
    pub codes: BTreeMap<String, u64>,
    /// When it was checked, in the form of RFC 3339.
    pub checked_at: String,
    /// It was not checked again since.
    pub unchanged_since: String,
}

/// What a policy denied.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Violation {
    pub message: String,
}

/// A finding.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Finding {
    pub code: String,
    pub severity: String,
    pub place: String,
    pub message: String,
    pub meaning: String,
    pub remedy: String,
    pub guest: Option<Guest>,
    pub candidates: Vec<Guest>,
    pub referrers: Vec<Referrer>,
}

/// What refers to a cluster of a finding.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Referrer {
    pub kind: String,
    pub guest: Option<Guest>,
}

/// A range of a virtual disk.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Guest {
    pub offset: u64,
    pub length: u64,
    pub snapshot: Option<String>,
    pub contents: Vec<Part>,
}

/// What is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Part {
    pub text: String,
}

impl Line {
    /// Reads a JSON object of a result.
    pub fn from_json(value: Value) -> Result<Self> {
        let (is_checked, has_digest) =
            ["check-errors", "digest"].map(|key| value.get(key).is_some()).into();
        let mut line: Self = serde_json::from_value(value).context("this is not a result")?;
        if line.filename.is_empty() {
            bail!("this is not a result of a check: it has no file name");
        }
        if line.verdict.is_empty() {
            // qemu-img's object has none, and that of one image neither.
            line.verdict = match (line.check_errors, line.corruptions, line.leaks) {
                _ if !line.violations.is_empty() => Class::Denied.word(),
                _ if !is_checked && has_digest => DIGEST,
                _ if !is_checked => bail!("this is not a result of a check: it has no verdict"),
                (1.., ..) => Class::NoVerdict.word(),
                (_, 1.., _) => Class::Errors.word(),
                (_, _, 1..) => Class::Leaks.word(),
                _ => Class::Clean.word(),
            }
            .into();
        }
        if !line.unchanged_since.is_empty() {
            line.checked_at = line.unchanged_since.clone();
        }
        Ok(line)
    }

    /// What it comes to. A digest is of an image in which nothing is wrong; a word that is not
    /// known may be of a later version, and is not passed off as clean.
    pub fn class(&self) -> Class {
        if self.verdict == DIGEST {
            return Class::Clean;
        }
        let known = CLASSES.into_iter().find(|class| class.word() == self.verdict);
        known.unwrap_or(Class::NoVerdict)
    }

    /// Bytes of leaked clusters.
    pub const fn leaked_bytes(&self) -> u64 {
        self.leaks.saturating_mul(self.cluster_size)
    }

    /// Bytes of the virtual disk that are stored.
    pub const fn allocated_bytes(&self) -> u64 {
        self.allocated_clusters.saturating_mul(self.cluster_size)
    }

    /// Fragmented clusters in a hundred allocated ones.
    pub const fn fragmentation(&self) -> u64 {
        let allocated = if self.allocated_clusters == 0 { 1 } else { self.allocated_clusters };
        self.fragmented_clusters.saturating_mul(100) / allocated
    }

    /// Whether there is more to show than numbers.
    pub fn has_details(&self) -> bool {
        self.class() > Class::NoChecker || !self.findings.is_empty()
    }
}

impl Guest {
    /// The range in words, with what is there.
    pub fn text(&self) -> String {
        let last = self.offset.saturating_add(self.length.saturating_sub(1));
        let mut text = format!("guest offset {:#x} to {last:#x}", self.offset);
        if let Some(id) = &self.snapshot {
            text.push_str(&format!(" of snapshot {id}"));
        }
        let parts: Vec<&str> = self.contents.iter().map(|part| part.text.as_str()).collect();
        if !parts.is_empty() {
            text.push_str(&format!(" ({})", parts.join("; ")));
        }
        text
    }
}

impl Finding {
    /// All ranges that it touches.
    pub fn ranges(&self) -> impl Iterator<Item = &Guest> {
        let referrers = self.referrers.iter().filter_map(|referrer| referrer.guest.as_ref());
        self.guest.iter().chain(&self.candidates).chain(referrers)
    }
}
