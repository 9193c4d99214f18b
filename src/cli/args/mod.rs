//! Arguments: the values that options and names of files take, and what the help says of them.

pub mod examples;
pub mod file_name;
pub mod nearest;
pub mod options;
pub mod qemu;
pub mod size;
