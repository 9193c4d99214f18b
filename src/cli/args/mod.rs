//! Arguments: the values that options and names of files take, and their help.

pub mod cache;
pub mod examples;
pub mod file_name;
pub mod format;
pub mod image_name;
pub mod nearest;
pub mod new_image;
pub mod options;
pub mod output;
pub mod qemu;
pub mod size;
pub mod snapshot;
