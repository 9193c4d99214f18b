//! Undo files.

mod command;
mod crash;
mod fail;
mod log;
