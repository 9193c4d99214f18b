//! Runs of qcheck and of QEMU's tools.

pub mod chains;
pub mod disks;
pub mod oracle;
pub mod run;
