//! What the process ends with.

use anstyle::Style;
use qcheck::check::CheckReport;

use crate::cli::terminal::color::{BAD, FAINT, GOOD, WARNING};

/// The exit codes: qemu-img's, and one for policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Done; for a check: nothing is wrong.
    Success = 0,
    /// Not done; for a check: no verdict.
    Failure = 1,
    /// The check found errors in the image.
    Corruption = 2,
    /// The check found leaked clusters and nothing worse.
    Leaks = 3,
    /// The image has what the policy denies.
    Denied = 4,
    /// There is no checker for the image's format.
    NoChecker = 63,
}

impl ExitCode {
    /// Of a comparison: an image could not be opened.
    pub const NOT_OPENED: Self = Self::Corruption;
    /// Of a comparison: where the data of an image is could not be found out.
    pub const NOT_MAPPED: Self = Self::Leaks;
    /// Of a comparison: data could not be read.
    pub const NOT_READ: Self = Self::Denied;

    /// What a check's result means.
    pub fn of(report: &CheckReport) -> Self {
        let tally = report.tally;
        if tally.check_errors > 0 {
            Self::Failure
        } else if tally.corruptions > 0 {
            Self::Corruption
        } else if tally.leaks > 0 {
            Self::Leaks
        } else {
            Self::Success
        }
    }

    /// The worse of two: what the policy denies, then what has no verdict, then errors, leaks, and
    /// formats without a checker.
    pub fn worse(self, other: Self) -> Self {
        if other.badness() > self.badness() { other } else { self }
    }

    /// The colour of a verdict that leads to it.
    pub const fn style(self) -> Style {
        match self {
            Self::Success => GOOD,
            Self::Leaks => WARNING,
            Self::NoChecker => FAINT,
            Self::Corruption | Self::Failure | Self::Denied => BAD,
        }
    }

    const fn badness(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::NoChecker => 1,
            Self::Leaks => 2,
            Self::Corruption => 3,
            Self::Failure => 4,
            Self::Denied => 5,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_found_whatever_comes_first() {
        let order = [
            ExitCode::Success,
            ExitCode::NoChecker,
            ExitCode::Leaks,
            ExitCode::Corruption,
            ExitCode::Failure,
            ExitCode::Denied,
        ];
        for (at, &code) in order.iter().enumerate() {
            for &other in &order[..=at] {
                assert_eq!((code.worse(other), other.worse(code)), (code, code));
            }
        }
    }
}
