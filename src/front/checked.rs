//! What a [`Checker`](super::Checker) returns.

use super::class::Class;
use crate::check::{Affected, CheckReport};
use crate::error::Error;
use crate::format::probe::ImageFormat;
use crate::live::View;
use crate::policy::Violation;
use crate::verify::Digests;

/// An image that was checked.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checked {
    /// How the check ended.
    pub verdict: Verdict,
    /// What the image has that the policy denies; known even where there is no verdict.
    pub violations: Vec<Violation>,
    /// Digests of its disks, where they were requested and could be made.
    pub digests: Digests,
    /// How an image was seen that another program may be writing; only of a
    /// [live](super::Checker::live) check with a report.
    pub view: Option<View>,
}

/// How a check ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// With a report.
    Checked {
        /// The findings and what they add up to.
        report: Box<CheckReport>,
        /// The guest data that they affect.
        affected: Affected,
    },
    /// There is no checker for the format.
    NoChecker(Unchecked),
    /// Without a verdict, for this reason. Only with a violation of the policy; without one a
    /// checker returns the error.
    Failed(Error),
}

/// An image of another format than qcow2.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Unchecked {
    /// Its format.
    pub format: ImageFormat,
    /// Whether it is a character device, which QEMU takes for a raw image; it was not opened.
    pub is_device: bool,
    /// The format that an image, read as raw without an explicit format, seems to have.
    pub likeness: Option<String>,
}

impl Unchecked {
    /// A character device.
    pub const fn device() -> Self {
        Self { format: ImageFormat::Raw, is_device: true, likeness: None }
    }

    /// An image of this format.
    pub const fn image(format: ImageFormat, likeness: Option<String>) -> Self {
        Self { format, is_device: false, likeness }
    }
}

impl Checked {
    pub(super) const fn new(verdict: Verdict) -> Self {
        let digests = Digests { active: None, snapshots: Vec::new() };
        Self { verdict, violations: Vec::new(), digests, view: None }
    }

    pub(super) fn with(self, digests: Digests) -> Self {
        Self { digests, ..self }
    }

    /// The report, where there is one.
    pub fn report(&self) -> Option<&CheckReport> {
        match &self.verdict {
            Verdict::Checked { report, .. } => Some(report),
            Verdict::NoChecker(_) | Verdict::Failed(_) => None,
        }
    }

    /// What it comes to. A violation of the policy outranks everything; a raw image whose digest
    /// was requested is clean.
    pub fn class(&self) -> Class {
        if !self.violations.is_empty() {
            return Class::Denied;
        }
        match &self.verdict {
            Verdict::Checked { report, .. } => Class::from(&report.tally),
            Verdict::NoChecker(_) if self.digests.active.is_some() => Class::Clean,
            Verdict::NoChecker(_) => Class::NoChecker,
            Verdict::Failed(_) => Class::NoVerdict,
        }
    }
}
