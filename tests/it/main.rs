//! The integration tests: one crate, one file a subject.

mod cli_check;
mod crash_support;
mod docs;
mod layers;
mod locks;
mod storage;
mod support;
