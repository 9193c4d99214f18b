//! What came out for an image: its line, its exit code.

pub mod record;
pub mod summary;

use std::time::Duration;

use jiff::Timestamp;
use qcheck::Class;
use qcheck::ImageFormat;
use qcheck::check::Tally;
use qcheck::contents::Contents;
use qcheck::front::Unchecked;
use qcheck::live::View;
use qcheck::policy::Violation;
use qcheck::verify::Digests;

use crate::cli::files::fingerprint::Fingerprint;
use crate::cli::render::outcome::Outcome;
use crate::cli::terminal::count::counted;
use record::Record;

/// How a check ended.
#[derive(Debug)]
pub enum Verdict {
    /// With a report.
    Checked(Outcome),
    /// There is no checker for the format.
    NoChecker(Unchecked),
    /// Without a verdict, for this reason.
    Failed(String),
    /// It was clean and has not changed since; it was not checked.
    Unchanged(Box<Record>),
}

/// An image with its verdict.
#[derive(Debug)]
pub struct Judged {
    /// Its name, as given or as another image names it.
    pub name: String,
    /// How the check ended.
    pub verdict: Verdict,
    /// Whether it is here only as a backing file of another image, and not by name.
    pub is_below: bool,
    /// Its digests, where they were requested.
    pub digests: Digests,
    /// What it has that is denied.
    pub violations: Vec<Violation>,
    /// How an image was seen that another program may be writing.
    pub view: Option<View>,
    /// What the disk contains, where that is to be explained and there are errors.
    pub contents: Option<Contents>,
    /// When the check began.
    pub begun: Timestamp,
    /// How long that took.
    pub took: Duration,
    /// What shows later whether the image has changed, where that is recorded.
    pub file: Option<Fingerprint>,
}

impl Judged {
    /// An image of which nothing is known yet.
    pub fn new(name: String, is_below: bool) -> Self {
        Self {
            name,
            verdict: Verdict::Failed(String::new()),
            is_below,
            digests: Digests::default(),
            violations: Vec::new(),
            view: None,
            contents: None,
            begun: Timestamp::now(),
            took: Duration::ZERO,
            file: None,
        }
    }

    /// What it comes to.
    pub fn class(&self) -> Class {
        if !self.violations.is_empty() {
            return Class::Denied;
        }
        match &self.verdict {
            Verdict::Checked(outcome) => Class::from(&outcome.report().tally),
            Verdict::NoChecker(_) if self.is_digest() || self.is_raw_below() => Class::Clean,
            Verdict::NoChecker(_) => Class::NoChecker,
            Verdict::Failed(_) => Class::NoVerdict,
            Verdict::Unchanged(_) => Class::Clean,
        }
    }

    /// One word for that.
    pub fn word(&self) -> &'static str {
        match self.class() {
            Class::Clean if self.is_digest() => "digest",
            Class::Clean if self.is_raw_below() => Class::NoChecker.word(),
            class => class.word(),
        }
    }

    /// Whether it is here only as a backing file, and there is nothing to check in it.
    fn is_raw_below(&self) -> bool {
        let is_raw =
            matches!(&self.verdict, Verdict::NoChecker(image) if image.format == ImageFormat::Raw);
        self.is_below && is_raw
    }

    /// Whether there is a digest, which was requested, and nothing that could be checked.
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
                parts.push(format!("digest of {}", image.format.name()));
            }
            Verdict::NoChecker(image) => {
                parts.push(format!("no checker for {}", image.format.name()));
            }
            Verdict::Checked(outcome) => parts.extend(tally_text(outcome.report().tally)),
            Verdict::Unchanged(record) => {
                parts.push(format!("no errors, unchanged since {}", record.checked_at));
            }
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

/// How many images there were, and how many of each verdict.
#[derive(Debug, Default)]
pub struct Totals {
    images: u64,
    words: Vec<(&'static str, u64)>,
    worst: Class,
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
        self.worst = self.worst.max(judged.class());
    }

    /// The worst of all.
    pub const fn class(&self) -> Class {
        self.worst
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

    fn unchecked(format: ImageFormat) -> Verdict {
        Verdict::NoChecker(Unchecked::image(format, None))
    }

    fn judged(verdict: Verdict, words: &[&'static str]) -> Judged {
        let violation = |&word| Violation { word, message: "it has".into() };
        let violations = words.iter().map(violation).collect();
        Judged { verdict, violations, ..Judged::new("a".into(), false) }
    }

    #[test]
    fn a_violation_outranks_everything_and_keeps_the_rest_in_sight() {
        let both = judged(Verdict::Failed("why".into()), &["backing", "dirty"]);
        assert_eq!((both.class(), both.word()), (Class::Denied, "denied"));
        assert_eq!(both.text(), "denied: backing, dirty, no verdict");
    }

    #[test]
    fn the_summary_counts_each_verdict_once() {
        let mut totals = Totals::default();
        assert_eq!((totals.text().as_str(), totals.class()), ("0 images", Class::Clean));
        totals.add(&judged(unchecked(ImageFormat::Raw), &[]));
        totals.add(&judged(Verdict::Failed("why".into()), &[]));
        totals.add(&judged(unchecked(ImageFormat::Other("vdi")), &[]));
        assert_eq!(totals.text(), "3 images: 1 no-verdict, 2 no-checker");
        assert_eq!(totals.class(), Class::NoVerdict);
    }
}
