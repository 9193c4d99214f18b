//! What is planned for each kind of damage.

pub mod bitmap_directory;
pub mod compression;
pub mod cross_links;
pub mod entries;
pub mod extensions;
pub mod flags;
pub mod header_fields;
pub mod lengths;
pub mod limits;
pub mod loss;
pub mod reattach;
pub mod snapshot_table;
