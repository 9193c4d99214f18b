//! What a comparison found.

use std::fmt;

use crate::error::Error;

/// The first difference of two disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The sector of 512 bytes at this guest offset has other bytes.
    Content(u64),
    /// From this guest offset on, the images record other things, such as zeroes in one and
    /// nothing in the other.
    Status(u64),
    /// The disks have other sizes.
    Size,
}

/// One of the two disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first one.
    First,
    /// The second one.
    Second,
}

/// What could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The metadata that maps the bytes could not be used.
    Mapping,
    /// The bytes could not be read.
    Reading,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    /// Of which disk.
    pub side: Side,
    /// What could not be done.
    pub phase: Phase,
    /// At which guest offset.
    pub offset: u64,
    /// Why.
    pub error: Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Failure {}
