//! What a check comes to, in one word.

use crate::check::Tally;

/// What a check comes to. The order of the variants is that of severity, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Class {
    /// Nothing is wrong.
    #[default]
    Clean,
    /// There is no checker for the image's format.
    NoChecker,
    /// Leaked clusters and nothing worse.
    Leaks,
    /// Errors in the image.
    Errors,
    /// No verdict: the image, or a part of it, could not be checked.
    NoVerdict,
    /// The image has what the policy denies.
    Denied,
}

impl Class {
    /// The word for it, as in JSON output.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::NoChecker => "no-checker",
            Self::Leaks => "leaks",
            Self::Errors => "errors",
            Self::NoVerdict => "no-verdict",
            Self::Denied => "denied",
        }
    }

    /// The exit code of a program that reports it: `qemu-img check`'s, and 4 for [`Self::Denied`].
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::NoVerdict => 1,
            Self::Errors => 2,
            Self::Leaks => 3,
            Self::Denied => 4,
            Self::NoChecker => 63,
        }
    }
}

impl From<&Tally> for Class {
    fn from(tally: &Tally) -> Self {
        match tally {
            Tally { check_errors: 1.., .. } => Self::NoVerdict,
            Tally { corruptions: 1.., .. } => Self::Errors,
            Tally { leaks: 1.., .. } => Self::Leaks,
            _ => Self::Clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_is_not_complete_has_no_verdict_whatever_else_it_found() {
        let tally = |corruptions, leaks, check_errors| Tally {
            corruptions,
            leaks,
            check_errors,
            notices: 7,
        };
        assert_eq!(Class::from(&tally(1, 1, 1)), Class::NoVerdict);
        assert_eq!(Class::from(&tally(1, 1, 0)), Class::Errors);
        assert_eq!(Class::from(&tally(0, 1, 0)), Class::Leaks);
        assert_eq!(Class::from(&tally(0, 0, 0)), Class::Clean);
    }

    #[test]
    fn the_worse_of_two_is_the_greater() {
        let order = [
            Class::Clean,
            Class::NoChecker,
            Class::Leaks,
            Class::Errors,
            Class::NoVerdict,
            Class::Denied,
        ];
        assert!(order.is_sorted());
        assert_eq!(order.map(Class::exit_code), [0, 63, 3, 2, 1, 4]);
    }
}
