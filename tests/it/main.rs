//! The integration tests: one crate, one file a subject.

mod builder;
mod cli_check;
mod cli_create;
mod cli_info;
mod crash_repair;
mod crash_support;
mod damage;
mod device;
mod docs;
mod fail_repair;
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
mod repair_keeps;
mod storage;
mod support;
