//! Verdicts as SARIF 2.1.0: a result for each finding and each violation, for views of code
//! scanners.

use std::collections::BTreeMap;
use std::ops::Range;

use qcheck::check::{Affected, CheckReport, Finding, Severity, Verb, place_text};
use serde_json::{Value, json};

use super::verdict::{Judged, Verdict};
use crate::cli::render::text::digests;

/// Where a rule is explained.
const FINDINGS: &str = "docs/findings.md";

/// The results so far.
#[derive(Debug, Default)]
pub struct Log {
    results: Vec<Value>,
    rules: BTreeMap<String, Value>,
    notifications: Vec<Value>,
}

impl Log {
    /// Adds an image.
    pub fn add(&mut self, judged: &Judged, max_findings: u64) {
        let artifact = json!({ "uri": uri(&judged.name) });
        for violation in &judged.violations {
            let id = format!("policy/{}", violation.word);
            let about = format!("The policy denies: {}", violation.word);
            let result = json!({
                "ruleId": id,
                "level": "error",
                "message": { "text": violation.to_string() },
                "locations": [{ "physicalLocation": { "artifactLocation": artifact } }],
            });
            self.push(id, &about, "README.md", result);
        }
        match &judged.verdict {
            Verdict::Checked(outcome) => {
                self.add_findings(outcome.report(), outcome.affected(), &artifact, max_findings);
            }
            Verdict::NoChecker(_) => self.notify("note", &judged.text(), &artifact),
            Verdict::Failed(error) => self.notify("error", error, &artifact),
        }
        if let Some(digests) = digests::lines(&judged.digests) {
            self.notify("note", &digests, &artifact);
        }
    }

    /// The finished log.
    pub fn into_value(self) -> Value {
        let executed = !self.notifications.iter().any(|n| n["level"] == "error");
        let rules: Vec<Value> = self.rules.into_values().collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "qcheck",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                } },
                "invocations": [{
                    "executionSuccessful": executed,
                    "toolExecutionNotifications": self.notifications,
                }],
                "results": self.results,
            }],
        })
    }

    fn push(&mut self, id: String, about: &str, document: &str, result: Value) {
        self.results.push(result);
        self.rules.entry(id).or_insert_with_key(|id| {
            json!({
                "id": id,
                "shortDescription": { "text": about },
                "help": { "text": format!("See {document} of qcheck.") },
            })
        });
    }

    fn add_findings(
        &mut self,
        report: &CheckReport,
        affected: &Affected,
        artifact: &Value,
        max_findings: u64,
    ) {
        let limit = match max_findings {
            0 => usize::MAX,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        for (number, finding) in report.findings.iter().enumerate().take(limit) {
            let about = format!("qcow2: {}", finding.code());
            let result = result(finding, affected.bytes(number), artifact);
            self.push(finding.code().to_owned(), &about, FINDINGS, result);
        }
        let omitted = report.findings.len().saturating_sub(limit) as u64 + report.unlisted;
        if omitted > 0 {
            self.notify("note", &format!("{omitted} more findings are not listed"), artifact);
        }
    }

    fn notify(&mut self, level: &str, text: &str, artifact: &Value) {
        self.notifications.push(json!({
            "level": level,
            "message": { "text": text },
            "locations": [{ "physicalLocation": { "artifactLocation": artifact } }],
        }));
    }
}

fn result(finding: &Finding, bytes: Option<Range<u64>>, artifact: &Value) -> Value {
    let level = match finding.severity() {
        Severity::Notice => "note",
        Severity::Leak => "warning",
        Severity::CheckError | Severity::Corruption => "error",
    };
    let place = place_text(finding.place);
    let mut physical = json!({ "artifactLocation": artifact });
    if let Some(bytes) = bytes {
        let (offset, length) = (bytes.start, bytes.end - bytes.start);
        physical["region"] = json!({ "byteOffset": offset, "byteLength": length });
    }
    json!({
        "ruleId": finding.code(),
        "level": level,
        "message": { "text": finding.line(0, Verb::Tell) },
        "locations": [{
            "physicalLocation": physical,
            "logicalLocations": [{ "fullyQualifiedName": place }],
        }],
        // A finding is the same one in the next run if it is of the same kind at the same place.
        "partialFingerprints": { "codeAndPlace/v1": format!("{}@{place}", finding.code()) },
    })
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
