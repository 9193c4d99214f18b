//! The check of an image that another program is writing.
//!
//! A check reads an image in some time, and what it compares was not there at one time: what it
//! finds is only suspected. QEMU orders its writes so that refcounts are raised before an entry
//! refers to a cluster, and lowered after none does; at one moment the file is consistent. So a
//! finding is an error where all of it was there at one moment, which is shown by reading twice:
//! what is the same before and after was the same meanwhile.
//!
//! 1. A check. If nothing is suspected, that is all.
//! 2. The entries that findings are about are read in rounds, with pauses that double. If all of
//!    them have changed, that is all.
//! 3. A second check, which notes each entry that refers to a suspected cluster.
//! 4. Of what both checks found: entries, then refcounts, then the same entries again.
//!
//! What an image without errors can show at one moment is not decided (`rules`): a refcount that is
//! too high, since the table with the reference may still be in the writer's memory; with lazy
//! refcounts, any refcount; a COPIED flag that a snapshot operation has yet to change.

mod evidence;
mod matching;
mod proof;
mod referrers;
mod rules;
mod stored;

use std::time::{Duration, Instant};

use crate::check::{CheckOptions, CheckReport, Finding, Kind, Survey, Tally, survey};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::setters::setters;
use crate::storage::{ReadAt, is_open_for_writing};

use evidence::Evidence;
use matching::Suspects;
use proof::Proofs;
use referrers::Noted;
use rules::Rules;

/// The pause before the first round; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A pause ends so soon after the check is cancelled.
const PAUSE_STEP: Duration = Duration::from_millis(20);

/// Clusters in all whose referrers are noted, and of a remote image.
const WANTED: usize = 1 << 17;
const WANTED_REMOTE: usize = 1 << 10;

/// How to check an image that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveOptions {
    /// How often what is suspected is read between the two checks: at least once, after pauses of
    /// 5 ms and then twice as long each, up to 2 s. The default of 8 takes 1.3 s.
    pub rounds: u32,
}

setters!(LiveOptions { rounds: u32 });

impl Default for LiveOptions {
    fn default() -> Self {
        Self { rounds: 8 }
    }
}

/// How an image that is being written was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct View {
    /// How long before its completion the reading for the report began: what was written since
    /// then may not be in it.
    pub age: Duration,
    /// How often what was suspected was read again between two checks; 0 where nothing was.
    pub rounds: u32,
    /// Findings that are not decided, each a notice of the kind `in-flux`.
    pub in_flux: u64,
    /// Whether another program has the image open for writing, as its locks show. `None` where
    /// that cannot be found out: the file is remote, or on a file system without locks.
    pub is_open_for_writing: Option<bool>,
}

/// Checks an image that another program may be writing; the survey has the report.
///
/// Errors are those of [`check`](crate::check::check), and [`Error::Cancelled`].
pub(crate) fn check(
    source: &dyn ReadAt,
    options: &CheckOptions,
    live: LiveOptions,
    progress: &dyn Progress,
) -> Result<(Survey, View)> {
    let mut view = View {
        age: Duration::ZERO,
        rounds: 0,
        in_flux: 0,
        is_open_for_writing: is_open_for_writing(source),
    };
    let begun = Instant::now();
    let mut first = survey(source, options, progress)?;
    let suspects = Suspects::of(&first, if source.is_remote() { WANTED_REMOTE } else { WANTED });
    if suspects.is_empty() {
        view.age = begun.elapsed();
        return Ok((first, view));
    }
    let mut evidence = Evidence::gather(source, &first);
    let mut next = FIRST_PAUSE;
    while view.rounds < live.rounds.max(1) && !evidence.is_refuted() {
        pause(next, progress)?;
        next = (next * 2).min(LONGEST_PAUSE);
        evidence.look_again();
        view.rounds += 1;
    }
    view.is_open_for_writing = also(view.is_open_for_writing, is_open_for_writing(source));
    if evidence.is_refuted() {
        let kept = std::mem::take(&mut first.report.findings);
        settle(&mut first.report, kept.into_iter().filter(|f| !matching::is_suspect(f)).collect());
        view.age = begun.elapsed();
        return Ok((first, view));
    }
    let seen = rules::Seen::of(&first);
    drop(first);
    let begun = Instant::now();
    let noted = Noted::new(source, &suspects, seen.geometry, seen.data_file);
    let mut last = survey(&noted, options, progress)?;
    let referrers = noted.into_referrers(&last);
    evidence.look_again();
    let proofs = Proofs::new(source, &last, &referrers);
    view.is_open_for_writing = also(view.is_open_for_writing, is_open_for_writing(source));
    let rules = Rules {
        survey: &last,
        seen: &seen,
        suspects: &suspects,
        evidence: &evidence,
        proofs: &proofs,
        is_dirty_now: stored::header(source).as_ref().is_none_or(stored::is_dirty),
        file_bytes: source.len().map_err(|e| Error::file("read the file's length", e))?,
        may_be_cached: view.is_open_for_writing != Some(false),
    };
    let judged = rules.judge();
    view.in_flux = judged.iter().filter(|f| matches!(f.kind, Kind::InFlux(_))).count() as u64;
    settle(&mut last.report, judged);
    source.require_reachable()?;
    view.age = begun.elapsed();
    Ok((last, view))
}

/// Whether either answer is that a program writes the image, or both that none does.
fn also(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// Waits, unless the check is cancelled.
fn pause(length: Duration, progress: &dyn Progress) -> Result<()> {
    let end = Instant::now() + length;
    loop {
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(PAUSE_STEP));
    }
}

/// Gives a report other findings, and what follows from them. What was not kept one by one is not
/// decided, so that it counts for nothing.
fn settle(report: &mut CheckReport, findings: Vec<Finding>) {
    let mut tally = Tally::default();
    findings.iter().for_each(|finding| tally.add(finding));
    tally.notices = tally.notices.saturating_add(report.unlisted);
    report.tally = tally;
    report.hides_references = findings.iter().any(Finding::may_hide_references);
    report.findings = findings;
}
