//! `qcheck check`: what it prints, and its exit codes.

mod dry_run;
mod many;
mod one;
mod policy;
mod reports;
