//! The integration tests: one crate, one file a subject.

mod builder;
mod oracle;
mod support;
