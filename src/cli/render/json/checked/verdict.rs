//! Everything about an image that was checked or repaired, as JSON.

use serde::Serialize;

use super::digests::Digests;
use super::header::RebuiltHeader;
use super::live::Live;
use super::plan::Plan;
use super::result::{Check, CheckResult};
use crate::cli::render::outcome::Outcome;
use crate::cli::render::verdict::record::Summary;
use crate::cli::render::verdict::summary::summary;
use crate::cli::render::verdict::{self, Judged};

/// How much of a verdict is listed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most findings; 0 means all.
    pub findings: u64,
    /// Most writes of a plan; 0 means all.
    pub writes: u64,
    /// Whether to sum up the guest data at risk.
    pub explain: bool,
}

/// One image that was checked alone.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Alone<'a> {
    #[serde(flatten)]
    check: Check<'a>,
    /// How the image was seen while another program may have been writing it; with `--live`.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
    /// The header that the repair wrote before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilt_header: Option<RebuiltHeader>,
    /// What the policy denies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation<'a>>,
    #[serde(flatten)]
    digests: Digests<'a>,
    /// What a repair would write.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan<'a>>,
}

impl<'a> Alone<'a> {
    /// The result for an image with a report.
    pub fn new(judged: &'a Judged, outcome: &'a Outcome, limits: Limits) -> Self {
        Self {
            check: Check::from(&result(judged, outcome, limits)),
            live: judged.view.as_ref().map(Live::from),
            rebuilt_header: outcome.rebuilt_header().map(RebuiltHeader::from),
            violations: violations(judged),
            digests: Digests::from(&judged.digests),
            plan: match outcome {
                Outcome::Planned(run) => Some(Plan::new(run, limits.writes)),
                Outcome::Checked { .. } | Outcome::Repaired(_) => None,
            },
        }
    }
}

/// One image without a checker whose digest was requested.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Digested<'a> {
    #[serde(flatten)]
    image: Unchecked<'a>,
    #[serde(flatten)]
    digests: Digests<'a>,
}

impl<'a> Digested<'a> {
    /// The result for an image of this format.
    pub fn new(judged: &'a Judged, format: &'static str) -> Self {
        let image = Unchecked { filename: &judged.name, format };
        Self { image, digests: Digests::from(&judged.digests) }
    }
}

/// One image among several.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum OneOfMany<'a> {
    /// It has a report.
    Checked(Judgement<'a, Check<'a>>),
    /// There is no checker for its format.
    NoChecker(Judgement<'a, Unchecked<'a>>),
    /// There is no verdict.
    Failed(Judgement<'a, Failed<'a>>),
}

/// What is known of an image, and the verdict on it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Judgement<'a, T> {
    #[serde(flatten)]
    image: T,
    /// How the image was seen while another program may have been writing it; with `--live`.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
    #[serde(flatten)]
    digests: Digests<'a>,
    /// What the policy denies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation<'a>>,
    /// `clean`, `digest`, `leaks`, `errors`, `denied`, `no-verdict` or `no-checker`.
    verdict: &'static str,
    /// The exit code that a check of this image alone would end with.
    exit_code: u8,
    /// The image was not checked: it was clean at this time, and has not changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged_since: Option<&'a str>,
    #[serde(flatten)]
    sizes: Option<Sizes>,
}

/// Sizes of an image with a report.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
struct Sizes {
    /// Bytes of a cluster.
    cluster_size: u64,
    /// Bytes of the virtual disk.
    virtual_size: u64,
    /// Snapshots in the image.
    snapshot_count: u64,
}

impl From<Summary> for Sizes {
    fn from(summary: Summary) -> Self {
        let Summary { cluster_size, virtual_size, snapshot_count, .. } = summary;
        Self { cluster_size, virtual_size, snapshot_count }
    }
}

/// An image without a checker.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unchecked<'a> {
    /// The image's name as it was given.
    filename: &'a str,
    /// Its format.
    format: &'static str,
}

/// An image without a verdict.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failed<'a> {
    /// The image's name as it was given.
    filename: &'a str,
    /// Why there is no verdict.
    error: &'a str,
}

/// Something that the policy denies.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Violation<'a> {
    /// The word that denies it.
    word: &'static str,
    /// What the image has.
    message: &'a str,
}

impl<'a> OneOfMany<'a> {
    /// The result for an image.
    pub fn new(judged: &'a Judged, limits: Limits) -> Self {
        let filename = judged.name.as_str();
        match &judged.verdict {
            verdict::Verdict::Checked(outcome) => {
                Self::Checked(judgement(judged, Check::from(&result(judged, outcome, limits))))
            }
            verdict::Verdict::NoChecker(image) => {
                let format = image.format.name();
                Self::NoChecker(judgement(judged, Unchecked { filename, format }))
            }
            verdict::Verdict::Failed(error) => {
                Self::Failed(judgement(judged, Failed { filename, error }))
            }
            verdict::Verdict::Unchanged(record) => {
                let since = Some(record.checked_at.as_str());
                let check = judgement(judged, Check::from(&**record));
                Self::Checked(Judgement { unchanged_since: since, ..check })
            }
        }
    }
}

fn judgement<T>(judged: &Judged, image: T) -> Judgement<'_, T> {
    Judgement {
        image,
        live: judged.view.as_ref().map(Live::from),
        digests: Digests::from(&judged.digests),
        violations: violations(judged),
        verdict: judged.word(),
        exit_code: judged.class().exit_code(),
        unchanged_since: None,
        sizes: summary(judged).map(Sizes::from),
    }
}

fn result<'a>(judged: &'a Judged, outcome: &'a Outcome, limits: Limits) -> CheckResult<'a> {
    CheckResult {
        filename: &judged.name,
        report: outcome.report(),
        affected: outcome.affected(),
        contents: judged.contents.as_ref(),
        explain: limits.explain,
        fixed: outcome.fixed(),
        max_findings: limits.findings,
    }
}

fn violations(judged: &Judged) -> Vec<Violation<'_>> {
    let violations = judged.violations.iter();
    violations.map(|v| Violation { word: v.word, message: &v.message }).collect()
}

#[cfg(test)]
mod tests {
    use qcheck::policy;

    use super::*;

    #[test]
    fn a_violation_keeps_the_rest_in_sight() {
        let violation = |word| policy::Violation { word, message: "it has".into() };
        let both = Judged {
            verdict: verdict::Verdict::Failed("why".into()),
            violations: vec![violation("backing"), violation("dirty")],
            ..Judged::new("a".into(), false)
        };
        let limits = Limits { findings: 0, writes: 0, explain: false };
        let value = serde_json::to_value(OneOfMany::new(&both, limits)).unwrap();
        assert_eq!(value["error"], "why");
        assert_eq!(value["violations"][1]["word"], "dirty");
    }
}
