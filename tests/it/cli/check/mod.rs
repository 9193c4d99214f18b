//! `qcheck check`: what it prints, and its exit codes.

mod dry_run;
mod fleet;
mod many;
mod monitoring;
mod one;
mod policy;
mod reports;
