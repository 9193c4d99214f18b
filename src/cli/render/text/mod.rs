//! Results for people.

pub mod check;
pub mod explain;
pub mod info;
pub mod listing;
pub mod map;
pub mod metadata;
