//! What the process ends with.

use qcheck::check::CheckReport;

/// The exit codes, the same as qemu-img's.
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
    /// There is no checker for the image's format.
    NoChecker = 63,
}

impl ExitCode {
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
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
