//! How much was found.

use super::finding::Finding;
use super::kind::Severity;

/// How much was found, by severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Errors in the image.
    pub corruptions: u64,
    /// Clusters with a refcount that is too high.
    pub leaks: u64,
    /// Parts that could not be checked.
    pub check_errors: u64,
    /// Remarks that are not errors.
    pub notices: u64,
}

impl Tally {
    /// Adds one finding.
    pub fn add(&mut self, finding: &Finding) {
        let sum = match finding.severity() {
            Severity::Corruption => &mut self.corruptions,
            Severity::Leak => &mut self.leaks,
            Severity::CheckError => &mut self.check_errors,
            Severity::Notice => &mut self.notices,
        };
        *sum = sum.saturating_add(finding.weight());
    }

    /// Whether nothing is wrong.
    pub const fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0 && self.check_errors == 0
    }
}
