//! What the process ends with.

use anstyle::Style;
use qcheck::Class;

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
}

impl From<Class> for ExitCode {
    fn from(class: Class) -> Self {
        match class {
            Class::Clean => Self::Success,
            Class::Errors => Self::Corruption,
            Class::Leaks => Self::Leaks,
            Class::Denied => Self::Denied,
            Class::NoChecker => Self::NoChecker,
            _ => Self::Failure,
        }
    }
}

/// The colour of a verdict.
pub const fn style(class: Class) -> Style {
    match class {
        Class::Clean => GOOD,
        Class::Leaks => WARNING,
        Class::NoChecker => FAINT,
        _ => BAD,
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
    fn the_exit_codes_of_checks_are_those_of_their_classes() {
        for class in [
            Class::Clean,
            Class::NoChecker,
            Class::Leaks,
            Class::Errors,
            Class::NoVerdict,
            Class::Denied,
        ] {
            assert_eq!(ExitCode::from(class) as u8, class.exit_code(), "{class:?}");
        }
    }
}
