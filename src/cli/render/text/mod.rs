//! Results for people.

pub mod check;
pub mod digests;
pub mod explain;
pub mod header;
pub mod info;
pub mod layout;
pub mod listing;
pub mod live;
pub mod metadata;
pub mod plan;
pub mod remarks;
