//! The command line as a whole, and what its commands have in common.

mod all_or_nothing;
mod check;
mod commands;
mod described;
pub mod encryption;
mod logging;
mod process;
mod qemu;
mod report;
