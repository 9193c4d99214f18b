//! The qcow2 engine behind the `qcheck` command line.
//!
//! The layers, each using only those below it (see `docs/design.md`):
//!
//! * operations: [`check`], [`repair`], [`create`], [`resize`], [`snapshot`], [`info`], [`undo`],
//!   [`policy`], [`layout`], [`dump`], [`convert`], [`compare`], [`measure`], [`verify`]
//! * [`disk`]: a disk that is read, raw or qcow2, with its backing chain
//! * [`image`]: an open image for reading and writing; [`tables`]: tolerant reading of structures
//! * [`chain`]: names stored in an image, followed
//! * [`format`](mod@format): bytes to values and back, without I/O; [`storage`]: bytes at offsets,
//!   without qcow2
//! * [`error`], [`progress`]: leaves
//!
//! The library never prints, never exits and never reads the environment.

#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![deny(clippy::unwrap_used, clippy::cast_possible_truncation)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::cast_possible_truncation))]

pub mod chain;
pub mod check;
pub mod codec;
pub mod compare;
pub mod convert;
pub mod create;
pub mod disk;
pub mod dump;
pub mod error;
pub mod file;
pub mod format;
pub mod front;
pub mod image;
pub mod info;
pub mod layout;
pub mod measure;
pub mod policy;
pub mod progress;
pub mod repair;
pub mod resize;
pub mod snapshot;
pub mod storage;
pub mod tables;
pub mod undo;
pub mod verify;

pub use disk::Disk;
pub use error::{Error, Result};
pub use front::{Checked, Checker, Class, Repair};
pub use repair::RepairMode;
