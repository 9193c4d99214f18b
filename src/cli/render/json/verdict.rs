//! The verdict on one image among several, as JSON.

use serde_json::{Value, json};

use super::check::{CheckResult, check_result};
use super::digests;
use super::violations;
use crate::cli::render::verdict::{Judged, Verdict};

/// The object for programs: qemu-img's keys where there is a report.
pub fn value(judged: &Judged, max_findings: u64, explain: bool) -> Value {
    let mut value = match &judged.verdict {
        Verdict::Checked(outcome) => check_result(&CheckResult {
            filename: &judged.name,
            report: outcome.report(),
            affected: outcome.affected(),
            explain,
            fixed: outcome.fixed(),
            max_findings,
        }),
        Verdict::NoChecker(image) => {
            json!({ "filename": judged.name, "format": image.format.name() })
        }
        Verdict::Failed(error) => json!({ "filename": judged.name, "error": error }),
    };
    digests::add_to(&mut value, &judged.digests);
    violations::add_to(&mut value, &judged.violations);
    value["verdict"] = judged.word().into();
    value["exit-code"] = judged.class().exit_code().into();
    value
}

#[cfg(test)]
mod tests {
    use qcheck::policy::Violation;

    use super::*;

    #[test]
    fn a_violation_keeps_the_rest_in_sight() {
        let violation = |word| Violation { word, message: "it has".into() };
        let both = Judged {
            verdict: Verdict::Failed("why".into()),
            violations: vec![violation("backing"), violation("dirty")],
            ..Judged::new("a".into(), false)
        };
        assert_eq!(value(&both, 0, false)["error"], "why");
        assert_eq!(value(&both, 0, false)["violations"][1]["word"], "dirty");
    }
}
