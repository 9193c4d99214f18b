//! The integration tests: one crate, one file a subject.

mod builder;
mod damage;
mod golden;
mod hostile;
mod oracle;
mod support;
