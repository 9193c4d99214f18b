//! The subcommands: one file or folder each.

pub mod amend;
pub mod bitmap;
pub mod check;
pub mod commit;
pub mod compact;
pub mod compare;
pub mod convert;
pub mod create;
pub mod dd;
pub mod dump;
pub mod info;
pub mod map;
pub mod measure;
pub mod rebase;
pub mod report;
pub mod resize;
pub mod snapshot;
pub mod undo;
