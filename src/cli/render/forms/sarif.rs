//! Verdicts as SARIF 2.1.0: a result for each finding and each violation, for views of code
//! scanners.

use std::collections::BTreeMap;
use std::ops::Range;

use qcheck::check::{Affected, CheckReport, Severity, Verb, place_text};

use crate::cli::render::json::sarif::{
    Artifact, Driver, Finding, Fingerprints, Invocation, Level, Location, Log, Logical,
    Notification, Region, Rule, Run, SCHEMA, Text, Tool,
};
use crate::cli::render::text::digests;
use crate::cli::render::verdict::{Judged, Verdict};

/// Where a rule is explained.
const FINDINGS: &str = "docs/findings.md";

/// The results so far.
#[derive(Debug, Default)]
pub struct Gathered {
    results: Vec<Finding>,
    rules: BTreeMap<String, Rule>,
    notifications: Vec<Notification>,
}

impl Gathered {
    /// Adds an image.
    pub fn add(&mut self, judged: &Judged, max_findings: u64) {
        let artifact = Artifact { uri: uri(&judged.name) };
        for violation in &judged.violations {
            let id = format!("policy/{}", violation.word);
            let about = format!("The policy denies: {}", violation.word);
            let result = Finding {
                rule_id: id.clone(),
                level: Level::Error,
                message: Text::of(violation.to_string()),
                locations: [Location::file(&artifact)],
                partial_fingerprints: None,
            };
            self.push(id, about, "README.md", result);
        }
        match &judged.verdict {
            Verdict::Checked(outcome) => {
                self.add_findings(outcome.report(), outcome.affected(), &artifact, max_findings);
            }
            Verdict::NoChecker(_) | Verdict::Unchanged(_) => {
                self.notify(Level::Note, judged.text(), &artifact)
            }
            Verdict::Failed(error) => self.notify(Level::Error, error.clone(), &artifact),
        }
        if let Some(digests) = digests::lines(&judged.digests) {
            self.notify(Level::Note, digests, &artifact);
        }
    }

    /// The finished log.
    pub fn into_log(self) -> Log {
        let failed = self.notifications.iter().any(|n| n.level == Level::Error);
        let rules = self.rules.into_values().collect();
        let driver = Driver { name: "qcheck", version: env!("CARGO_PKG_VERSION"), rules };
        let invocation = Invocation {
            execution_successful: !failed,
            tool_execution_notifications: self.notifications,
        };
        let tool = Tool { driver };
        let run = Run { tool, invocations: [invocation], results: self.results };
        Log { schema: SCHEMA, version: "2.1.0", runs: [run] }
    }

    fn push(&mut self, id: String, about: String, document: &str, result: Finding) {
        self.results.push(result);
        self.rules.entry(id).or_insert_with_key(|id| Rule {
            id: id.clone(),
            short_description: Text::of(about),
            help: Text::of(format!("See {document} of qcheck.")),
        });
    }

    fn add_findings(
        &mut self,
        report: &CheckReport,
        affected: &Affected,
        artifact: &Artifact,
        max_findings: u64,
    ) {
        let limit = match max_findings {
            0 => usize::MAX,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        for (number, finding) in report.findings.iter().enumerate().take(limit) {
            let about = format!("qcow2: {}", finding.code());
            let result = result(finding, affected.bytes(number), artifact);
            self.push(finding.code().to_owned(), about, FINDINGS, result);
        }
        let omitted = report.findings.len().saturating_sub(limit) as u64 + report.unlisted;
        if omitted > 0 {
            self.notify(Level::Note, format!("{omitted} more findings are not listed"), artifact);
        }
    }

    fn notify(&mut self, level: Level, text: String, artifact: &Artifact) {
        let locations = [Location::file(artifact)];
        self.notifications.push(Notification { level, message: Text::of(text), locations });
    }
}

fn result(
    finding: &qcheck::check::Finding,
    bytes: Option<Range<u64>>,
    artifact: &Artifact,
) -> Finding {
    let level = match finding.severity() {
        Severity::Notice => Level::Note,
        Severity::Leak => Level::Warning,
        Severity::CheckError | Severity::Corruption => Level::Error,
    };
    let place = place_text(finding.place);
    let mut location = Location::file(artifact);
    location.physical_location.region = bytes
        .map(|bytes| Region { byte_offset: bytes.start, byte_length: bytes.end - bytes.start });
    let code_and_place = format!("{}@{place}", finding.code());
    location.logical_locations = vec![Logical { fully_qualified_name: place }];
    Finding {
        rule_id: finding.code().to_owned(),
        level,
        message: Text::of(finding.line(0, Verb::Tell)),
        locations: [location],
        partial_fingerprints: Some(Fingerprints { code_and_place }),
    }
}

/// A file name as a relative or absolute URI reference.
fn uri(name: &str) -> String {
    let mut out = String::new();
    if name.starts_with('/') {
        out.push_str("file://");
    }
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_uris_whatever_they_hold() {
        assert_eq!(uri("vm/a b:ü.qcow2"), "vm/a%20b%3A%C3%BC.qcow2");
        assert_eq!(uri("/vm/a"), "file:///vm/a");
    }
}
