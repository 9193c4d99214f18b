//! Verdicts as JUnit XML: a test case for each image, what was found as its failure.

use std::io::Write;

use anyhow::{Context, Result};
use qcheck::check::{CheckReport, Verb};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::cli::render::text::digests;
use crate::cli::render::verdict::{Judged, Verdict};
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::escape;
use qcheck::Class;

/// The name of the suite, and the class of each test case.
const SUITE: &str = "qcheck check";

/// The test cases so far.
#[derive(Debug)]
pub struct Suite(TestSuite);

impl Default for Suite {
    fn default() -> Self {
        Self(TestSuite::new(SUITE))
    }
}

impl Suite {
    /// Adds an image.
    pub fn add(&mut self, judged: &Judged, max_findings: u64) {
        // A line break in an attribute is a space to whoever reads it.
        let name = escape(&judged.name).into_owned();
        let mut case = TestCase::new(name, status(judged, max_findings));
        case.set_classname(SUITE).set_time(judged.took);
        if let Some(digests) = digests::lines(&judged.digests) {
            case.set_system_out(digests);
        }
        if let Verdict::Unchanged(_) = &judged.verdict {
            case.set_system_out(judged.text());
        }
        self.0.add_test_case(case);
    }

    /// Writes the file.
    pub fn write(self, out: &mut dyn Write) -> Result<()> {
        let mut report = Report::new("qcheck");
        report.add_test_suite(self.0);
        let text = report.to_string().context("could not make the JUnit file")?;
        // The published schema has this attribute for a suite, and not for the root.
        let root_only = format!(" skipped=\"{}\"", report.skipped);
        // Two characters that no XML may have.
        let text = text.replacen(&root_only, "", 1).replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}");
        out.write_all(text.as_bytes()).context("could not write the result")
    }
}

fn status(judged: &Judged, max_findings: u64) -> TestCaseStatus {
    let mut status = match judged.class() {
        Class::Clean if !matches!(judged.verdict, Verdict::NoChecker(_)) => {
            return TestCaseStatus::success();
        }
        Class::Clean => TestCaseStatus::skipped(),
        Class::NoChecker => TestCaseStatus::skipped(),
        Class::NoVerdict => TestCaseStatus::non_success(NonSuccessKind::Error),
        _ => TestCaseStatus::non_success(NonSuccessKind::Failure),
    };
    status.set_message(judged.text()).set_type(judged.word());
    let description = description(judged, max_findings);
    if !description.is_empty() {
        status.set_description(description);
    }
    status
}

/// What was found, a line each.
fn description(judged: &Judged, max_findings: u64) -> String {
    let mut lines: Vec<String> = judged.violations.iter().map(ToString::to_string).collect();
    match &judged.verdict {
        Verdict::Failed(error) => lines.push(error.clone()),
        Verdict::NoChecker(_) | Verdict::Unchanged(_) => {}
        Verdict::Checked(outcome) => lines.extend(findings(outcome.report(), max_findings)),
    }
    lines.join("\n")
}

/// A line for each run of findings, with its code, as far as they are listed.
fn findings(report: &CheckReport, max_findings: u64) -> Vec<String> {
    let limit = match max_findings {
        0 => usize::MAX,
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .take(limit)
        .map(|finding| {
            let more = match finding.line_count() {
                0 | 1 => String::new(),
                lines => {
                    let more = counted(lines - 1, "more cluster", "more clusters");
                    format!(" (and {more} after it)")
                }
            };
            format!("{}: {}{more}", finding.code(), finding.line(0, Verb::Tell))
        })
        .collect();
    let omitted = (report.findings.len() - lines.len()) as u64 + report.unlisted;
    if omitted > 0 {
        lines.push(format!("... and {omitted} more"));
    }
    lines
}
