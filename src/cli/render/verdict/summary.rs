//! What is recorded of an image that was checked.

use super::record::{Record, Summary, time_text};
use super::{Judged, Verdict};

/// The record of an image that was checked with these options.
pub fn record(judged: &Judged, options: &str) -> Record {
    if let Verdict::Unchanged(record) = &judged.verdict {
        return (**record).clone();
    }
    Record {
        filename: judged.name.clone(),
        verdict: judged.word().to_owned(),
        checked_at: time_text(judged.begun),
        seconds: judged.took.as_secs_f64(),
        options: options.to_owned(),
        file: judged.file.clone(),
        summary: summary(judged),
    }
}

/// The numbers of an image, where it has a report or had one.
pub fn summary(judged: &Judged) -> Option<Summary> {
    match &judged.verdict {
        Verdict::Checked(outcome) => Some(Summary::from(outcome.report())),
        Verdict::Unchanged(record) => record.summary.clone(),
        Verdict::NoChecker(_) | Verdict::Failed(_) => None,
    }
}
