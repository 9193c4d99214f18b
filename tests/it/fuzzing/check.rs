//! Any bytes as an image: a verdict or an error, and every word about it.

use qcheck::check::{Affected, Verb, place_text, survey};
use qcheck::format::probe::{PROBE_BYTES, probe};
use qcheck::info::qcow2_info;
use qcheck::policy::Policy;
use qcheck::progress::Silent;
use qcheck::storage::MemoryStorage;

/// Findings of which every word is made.
const MOST_TOLD: usize = 200;

/// Checks the image, applies a policy, reads its metadata, and reports all that was found.
pub fn run(input: &[u8]) {
    let image = MemoryStorage::new(input.to_vec());
    probe(&input[..input.len().min(PROBE_BYTES)]);
    let _ = qcow2_info(&image).map(|info| format!("{info:?}"));
    let policy =
        Policy { max_virtual_bytes: Some(1 << 30), max_ratio: Some(50), ..Policy::untrusted() };
    let _ = policy.inspect(&image).map(|found| format!("{found:?}"));
    let Ok(survey) = survey(&image, &super::options(), &Silent) else { return };
    let report = &survey.report;
    policy.judge(report, input.len() as u64);
    let affected = Affected::find(&image, &survey);
    for (number, finding) in report.findings.iter().enumerate().take(MOST_TOLD) {
        let lines = finding.line_count();
        for line in [0, lines.saturating_sub(1)] {
            assert!(!finding.line(line, Verb::Tell).is_empty() && !finding.code().is_empty());
            assert!(!finding.line(line, Verb::Repair).is_empty());
        }
        place_text(finding.place);
        report.guest_range(finding);
        report.clusters(finding);
        affected.owners(number);
    }
    assert_eq!(input, image.to_vec(), "a check wrote");
}
