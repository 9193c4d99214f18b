//! Whether a guest reads the same from two disks.
//!
//! * `content`: their bytes, on all cores, without those that both have as zeroes or share
//! * `strict`: what their images record of each range
//! * `outcome`: what was found, and what could not be looked at

mod content;
mod outcome;
mod run;
mod strict;

pub use outcome::{Difference, Failure, Phase, Side};
pub use run::{CompareOptions, compare};
