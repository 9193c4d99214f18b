//! The integration tests: one crate, one file a subject.

mod builder;
mod crash_support;
mod damage;
mod golden;
mod hostile;
mod locks;
mod oracle;
mod storage;
mod support;
