//! What a repair writes, keeps and holds.

mod crash;
pub mod device;
mod dry_run;
mod fail;
mod held;
mod keeps;
mod kept;
mod lost_header;
mod lost_tables;
mod mark;
mod promises;
