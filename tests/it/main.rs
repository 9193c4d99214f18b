//! The integration tests: one crate, one file a subject.

mod crash_support;
mod locks;
mod storage;
mod support;
