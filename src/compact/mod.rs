//! An image file made shorter in place: what it holds stays, the space that it does not need goes
//! back to the file system.
//!
//! * `options`: what is requested; `outcome`: what became of it
//! * [`compact`], [`plan`]: the work, and what it would do; `job`: what its parts share
//! * `rounds`: clusters from the end of the file into free ones, until none can move
//! * `pairs`, `packer`: which cluster goes where; `steps`: which can
//! * `compress`: guest data stored compressed
//! * `defragment`: data in the order of the guest
//! * `zeroes`: guest data that reads as zeroes, given up; `punch`: free space made holes
//!
//! The engine moves (`image/change/moves`); here is decided what moves where. A plan is the work
//! itself on a copy of the metadata in memory, so that its numbers are those of the work.

mod compress;
mod defragment;
mod job;
mod options;
mod outcome;
mod packer;
mod pairs;
mod punch;
mod rounds;
mod run;
mod steps;
mod zeroes;

pub use options::CompactOptions;
pub use outcome::Outcome;
pub use run::{compact, plan};
