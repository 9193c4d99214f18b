//! The integration tests: one crate, one folder a subject.

mod builder;
mod check;
mod cli;
mod compact;
mod contents;
mod convert;
mod docs;
mod dump;
mod front;
mod fuzz_seeds;
mod fuzzing;
mod image;
mod layout;
mod remote;
mod repair;
mod storage;
mod support;
mod undo;
