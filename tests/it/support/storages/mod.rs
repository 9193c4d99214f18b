//! Storages that record, fail and crash.

pub mod crash;
pub mod fail;
pub mod twin;
pub mod undo;
