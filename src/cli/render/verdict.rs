//! What came out for an image: its line, its exit code.

use std::time::Duration;

use qcheck::check::Tally;
use qcheck::policy::Violation;
use qcheck::verify::Digests;

use super::exit::ExitCode;
use super::outcome::Outcome;
use crate::cli::terminal::count::counted;

/// How a check ended.
#[derive(Debug)]
pub enum Verdict {
    /// With a report.
    Checked(Outcome),
    /// There is no checker for the format.
    NoChecker(Unchecked),
    /// Without a verdict, for this reason.
    Failed(String),
}

/// An image of another format than qcow2.
#[derive(Debug)]
pub struct Unchecked {
    /// The name of its format.
    pub format: &'static str,
    /// Whether it is a device that is no disk, and was not opened.
    pub is_device: bool,
    /// What a raw image of which nobody says so seems to be instead.
    pub seems: Option<String>,
}

impl Unchecked {
    /// A device that is no disk, which QEMU takes for a raw image.
    pub const fn device() -> Self {
        Self { format: "raw", is_device: true, seems: None }
    }
}

/// An image with its verdict.
#[derive(Debug)]
pub struct Judged {
    /// Its name, as given or as another image leads to it.
    pub name: String,
    /// How the check ended.
    pub verdict: Verdict,
    /// Whether another image led to it, and nobody asked for a check of it by name.
    pub is_below: bool,
    /// Its digests, where they were asked for.
    pub digests: Digests,
    /// What it has that is denied.
    pub violations: Vec<Violation>,
    /// How long that took.
    pub took: Duration,
}

impl Judged {
    /// The exit code for this image alone.
    pub fn code(&self) -> ExitCode {
        if !self.violations.is_empty() {
            return ExitCode::Denied;
        }
        match &self.verdict {
            Verdict::Checked(outcome) => ExitCode::of(outcome.report()),
            Verdict::NoChecker(_) if self.is_digest() => ExitCode::Success,
            Verdict::NoChecker(image) if self.is_below && image.format == "raw" => {
                ExitCode::Success
            }
            Verdict::NoChecker(_) => ExitCode::NoChecker,
            Verdict::Failed(_) => ExitCode::Failure,
        }
    }

    /// One word for the exit code.
    pub fn word(&self) -> &'static str {
        match self.code() {
            ExitCode::Success if self.is_digest() => "digest",
            ExitCode::Success if matches!(self.verdict, Verdict::NoChecker(_)) => "no-checker",
            code => word(code),
        }
    }

    /// Whether there is a digest, which was asked for, and nothing that could be checked.
    fn is_digest(&self) -> bool {
        matches!(self.verdict, Verdict::NoChecker(_)) && self.digests.active.is_some()
    }

    /// The verdict on one line, without the name.
    pub fn text(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if !self.violations.is_empty() {
            let mut words: Vec<&str> = self.violations.iter().map(|v| v.word).collect();
            words.dedup();
            parts.push(format!("denied: {}", words.join(", ")));
        }
        match &self.verdict {
            Verdict::Failed(_) => parts.push("no verdict".into()),
            Verdict::NoChecker(image) if self.is_digest() => {
                parts.push(format!("digest of {}", image.format));
            }
            Verdict::NoChecker(image) => parts.push(format!("no checker for {}", image.format)),
            Verdict::Checked(outcome) => parts.extend(tally_text(outcome.report().tally)),
        }
        parts.join(", ")
    }
}

/// What a check found, in words.
pub fn tally_text(tally: Tally) -> Vec<String> {
    if tally.is_clean() {
        return vec!["no errors".into()];
    }
    [
        (tally.corruptions, "error", "errors"),
        (tally.leaks, "leaked cluster", "leaked clusters"),
        (tally.check_errors, "internal error", "internal errors"),
    ]
    .iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, one, many)| counted(*count, one, many))
    .collect()
}

const fn word(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Success => "clean",
        ExitCode::Leaks => "leaks",
        ExitCode::Corruption => "errors",
        ExitCode::Denied => "denied",
        ExitCode::Failure => "no-verdict",
        ExitCode::NoChecker => "no-checker",
    }
}

/// How many images there were, and how many of each verdict.
#[derive(Debug, Default)]
pub struct Totals {
    images: u64,
    words: Vec<(&'static str, u64)>,
    worst: Option<ExitCode>,
}

impl Totals {
    /// Adds an image.
    pub fn add(&mut self, judged: &Judged) {
        self.images += 1;
        let word = judged.word();
        match self.words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => self.words.push((word, 1)),
        }
        self.worst = Some(self.code().worse(judged.code()));
    }

    /// The worst exit code of all.
    pub fn code(&self) -> ExitCode {
        self.worst.unwrap_or(ExitCode::Success)
    }

    /// All on one line.
    pub fn text(&self) -> String {
        let order = ["clean", "digest", "leaks", "errors", "denied", "no-verdict", "no-checker"];
        let mut text = counted(self.images, "image", "images");
        let mut sign = ": ";
        for word in order {
            if let Some((_, count)) = self.words.iter().find(|(known, _)| *known == word) {
                // Of images there are so many, not of leaks or errors.
                let with = if matches!(word, "leaks" | "errors") { "with " } else { "" };
                text.push_str(&format!("{sign}{count} {with}{word}"));
                sign = ", ";
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unchecked(format: &'static str) -> Verdict {
        Verdict::NoChecker(Unchecked { format, is_device: false, seems: None })
    }

    fn judged(verdict: Verdict, words: &[&'static str]) -> Judged {
        let violation = |&word| Violation { word, message: "it has".into() };
        let violations = words.iter().map(violation).collect();
        let digests = Digests::default();
        Judged {
            name: "a".into(),
            verdict,
            is_below: false,
            digests,
            violations,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_violation_outranks_everything_and_keeps_the_rest_in_sight() {
        let both = judged(Verdict::Failed("why".into()), &["backing", "dirty"]);
        assert_eq!((both.code(), both.word()), (ExitCode::Denied, "denied"));
        assert_eq!(both.text(), "denied: backing, dirty, no verdict");
    }

    #[test]
    fn the_summary_counts_each_verdict_once() {
        let mut totals = Totals::default();
        assert_eq!((totals.text().as_str(), totals.code()), ("0 images", ExitCode::Success));
        totals.add(&judged(unchecked("raw"), &[]));
        totals.add(&judged(Verdict::Failed("why".into()), &[]));
        totals.add(&judged(unchecked("vdi"), &[]));
        assert_eq!(totals.text(), "3 images: 1 no-verdict, 2 no-checker");
        assert_eq!(totals.code(), ExitCode::Failure);
    }
}
