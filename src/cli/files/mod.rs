//! The files of a command: which they are, how they are opened, and what it may do to them.

pub mod contents;
pub mod disks;
pub mod fingerprint;
pub mod guard;
pub mod new_file;
pub mod open;
pub mod remote;
pub mod spool;
pub mod targets;
pub mod whole;
pub mod workers;
pub mod writable;
