//! The integration tests: one crate, one file a subject.

mod builder;
mod cli_check;
mod cli_create;
mod cli_info;
mod crash_support;
mod damage;
mod docs;
mod golden;
mod hostile;
mod layers;
mod locks;
mod oracle;
mod storage;
mod support;
