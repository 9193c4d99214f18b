//! Check, repair, read and write qcow2 disk images.
//!
//! What a program begins with:
//!
//! * [`Checker`] checks an image and reports what is wrong with it.
//! * [`Repair`] repairs it without guessing, and records what it overwrites.
//! * [`Disk`] reads what a guest reads, from a raw or qcow2 image with its backing chain, and
//!   returns where the bytes are.
//! * [`Image`] reads and writes a qcow2 image; no crash leaves worse than leaked clusters.
//!
//! ```
//! let checked = qcheck::Checker::new("tests/data/leaks.qcow2").check()?;
//! assert_eq!(checked.class(), qcheck::Class::Leaks);
//! # Ok::<(), qcheck::Error>(())
//! ```
//!
//! An image by its name is opened with QEMU's locks: one that a virtual machine uses is refused.
//! Long operations report to a [`Progress`] and are cancelled through it. `examples/` has whole
//! programs.
//!
//! Further operations are modules: [`create`], [`edit`], [`convert`], [`commit`], [`compact`],
//! [`compare`], [`measure`], [`rebase`], [`undo`], [`info`], [`dump`], [`verify`], [`policy`]. Each
//! works on any [`storage::Storage`], so that images need not be files: [`check::check`] and
//! [`repair::repair`] are [`Checker`] and [`Repair`] without a name.
//!
//! A problem *in* an image is a [`check::Finding`]; a problem doing the work is an [`Error`]. The
//! library never prints, never exits and never reads the environment. `docs/design.md` describes
//! its layers.

#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]
#![deny(clippy::unwrap_used, clippy::cast_possible_truncation)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::cast_possible_truncation))]

pub mod chain;
pub mod check;
#[doc(hidden)]
pub mod codec;
pub mod commit;
pub mod compact;
pub mod compare;
pub mod contents;
pub mod convert;
pub mod create;
pub mod crypt;
pub mod disk;
pub mod dump;
pub mod edit;
pub mod error;
pub mod file;
#[doc(hidden)]
pub mod format;
pub mod front;
pub mod image;
pub mod info;
#[doc(hidden)]
pub mod layout;
pub mod live;
pub mod measure;
pub mod medium;
pub mod policy;
pub mod progress;
pub mod rebase;
pub mod remote;
pub mod repair;
#[doc(hidden)]
pub mod sector;
mod setters;
pub mod storage;
#[doc(hidden)]
pub mod tables;
pub mod threads;
pub mod undo;
pub mod verify;

pub use disk::Disk;
pub use error::{Error, Result};
pub use format::probe::ImageFormat;
pub use format::{
    ClusterCount, Geometry, GuestCluster, GuestOffset, HostCluster, HostOffset, L1Index, L2Index,
    RefblockIndex, ReftableIndex,
};
pub use front::{Checked, Checker, Class, Repair};
pub use image::Image;
pub use progress::Progress;
pub use repair::RepairMode;

/// The example of the README, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
