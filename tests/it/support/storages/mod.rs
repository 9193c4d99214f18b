//! Storages that record, fail and crash, and file systems to have files on.

pub mod crash;
pub mod fail;
pub mod mounted;
pub mod twin;
pub mod undo;
