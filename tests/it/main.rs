//! The integration tests: one crate, one file a subject.

mod builder;
mod cli_check;
mod cli_create;
mod cli_info;
mod cli_resize;
mod cli_snapshot;
mod crash_support;
mod damage;
mod docs;
mod golden;
mod hostile;
mod image_crash;
mod image_invariants;
mod image_open;
mod image_read;
mod image_shadow;
mod image_states;
mod image_threads;
mod image_tools;
mod layers;
mod locks;
mod oracle;
mod storage;
mod support;
