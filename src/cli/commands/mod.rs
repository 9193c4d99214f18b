//! The subcommands: one file or folder each.

pub mod check;
pub mod convert;
pub mod create;
pub mod dump;
pub mod info;
pub mod map;
pub mod resize;
pub mod snapshot;
pub mod undo;
