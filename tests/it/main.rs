//! The integration tests: one crate, one file a subject.

mod crash_support;
mod image_crash;
mod image_invariants;
mod image_open;
mod image_read;
mod image_shadow;
mod image_states;
mod image_threads;
mod image_tools;
mod locks;
mod storage;
mod support;
