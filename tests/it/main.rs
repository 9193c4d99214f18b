//! The integration tests: one crate, one file a subject.

mod builder;
mod damage;
mod oracle;
mod support;
