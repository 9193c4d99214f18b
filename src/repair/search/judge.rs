//! Which header explains most of a file: a real check of the image as it would be.

use super::candidate::Candidate;
use super::overlay::Overlay;
use super::remains::Remains;
use crate::check::{self, CheckOptions, Survey};
use crate::error::{Error, Result};
use crate::format::ClusterCount;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::MAX_L1_BYTES;
use crate::progress::Silent;
use crate::storage::ReadAt;

/// Checks of images with short L1 tables that are made at most: each reads all tables that a
/// candidate points to.
const MAX_CHECKS: u64 = 96;
/// An L1 table of so many bytes costs as much as another check.
const L1_BYTES_OF_A_CHECK: u64 = 512 << 10;
/// Findings that are kept of a candidate.
const KEPT_FINDINGS: usize = 1000;

/// Evaluates candidates, and keeps the best one so far.
pub struct Judge<'a> {
    source: &'a dyn ReadAt,
    remains: &'a Remains,
    options: CheckOptions,
    checks: u64,
    best: Option<(Worth, Candidate)>,
}

/// How much of a file a header explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// Whether its L1 table can be one: any that can is worth more.
    usable: bool,
    /// Bytes of clusters that are used.
    used: i128,
    /// Bytes of clusters of which something is wrong.
    wrong: i128,
}

impl Worth {
    /// What counts for comparing headers: to explain less is better than to explain wrongly.
    const fn value(self) -> i128 {
        self.used - 2 * self.wrong
    }

    /// Whether this explains more than another.
    pub const fn is_over(self, other: Self) -> bool {
        if self.usable != other.usable {
            return self.usable;
        }
        self.value() > other.value()
    }

    /// Whether this explains at least half as much of the file as another.
    pub const fn explains_half_of(self, other: Self) -> bool {
        2 * self.used >= other.used
    }

    /// Whether nothing is wrong.
    pub const fn is_flawless(self) -> bool {
        self.wrong == 0
    }

    /// Whether what is wrong is little beside what is right.
    pub const fn is_convincing(self) -> bool {
        self.usable && self.wrong * 4 <= self.used
    }
}

impl<'a> Judge<'a> {
    /// An evaluator of headers for this file.
    pub fn new(source: &'a dyn ReadAt, remains: &'a Remains, options: &CheckOptions) -> Self {
        let options = CheckOptions { keep: KEPT_FINDINGS, ..*options };
        Self { source, remains, options, checks: 0, best: None }
    }

    /// Tries a candidate. Of those that are worth the same the first one stays.
    pub fn try_one(&mut self, candidate: &Candidate) -> Result<()> {
        self.try_at_least(candidate, |_| true)
    }

    /// Tries a candidate that something speaks against: it must explain the file convincingly.
    pub fn try_doubtful(&mut self, candidate: &Candidate) -> Result<()> {
        self.try_at_least(candidate, Worth::is_convincing)
    }

    fn try_at_least(
        &mut self,
        candidate: &Candidate,
        suffices: impl Fn(Worth) -> bool,
    ) -> Result<()> {
        if self.checks >= MAX_CHECKS {
            return Ok(());
        }
        let l1_bytes = u64::from(candidate.header.l1_entries) * TABLE_ENTRY_BYTES;
        self.checks += 1 + l1_bytes / L1_BYTES_OF_A_CHECK;
        let head = candidate.head(self.remains);
        let overlay = Overlay::new(self.source, &head, candidate.least_bytes);
        let survey = match check::survey(&overlay, &self.options, &Silent) {
            Ok(survey) => survey,
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => return Ok(()),
        };
        let worth = worth(&survey);
        if suffices(worth) && self.best.as_ref().is_none_or(|(best, _)| worth.is_over(*best)) {
            self.best = Some((worth, candidate.clone()));
        }
        Ok(())
    }

    /// The best candidate and what it is worth.
    pub fn best(&self) -> Option<&(Worth, Candidate)> {
        self.best.as_ref()
    }
}

/// Whether errors are few beside what is used. Leaks prove nothing: what a damaged entry pointed to
/// is leaked.
pub fn has_few_errors(survey: &Survey) -> bool {
    let tally = survey.report.tally;
    (tally.corruptions + tally.check_errors).saturating_mul(4) <= survey.map.in_use().get()
}

/// What an image's header is worth. Where there are no counts, none of them can be wrong.
pub fn worth(survey: &Survey) -> Worth {
    let used = survey.map.in_use().get();
    let tally = survey.report.tally;
    let uncounted = if survey.refcounts.blocks.is_empty() { used } else { 0 };
    let wrong = tally.corruptions.saturating_sub(uncounted) + tally.leaks + tally.check_errors;
    let bytes = |clusters| i128::from(survey.area.geometry.bytes_of(ClusterCount::new(clusters)));
    let wrong = bytes(wrong.min(u64::MAX >> 24));
    Worth { usable: is_usable(survey), used: bytes(used), wrong }
}

/// Whether the L1 table that a header names can be one.
pub fn is_usable(survey: &Survey) -> bool {
    let header = &survey.area.header;
    let needed = survey.area.geometry.l1_entries_for(header.size);
    survey.area.geometry.is_aligned(header.l1_table)
        && u64::from(header.l1_entries) * 8 <= MAX_L1_BYTES
        && (needed == 0 || header.l1_entries > 0 && header.l1_table.get() < survey.file_bytes)
}
