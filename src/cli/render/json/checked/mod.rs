//! What `check` prints.

mod contents;
pub mod digests;
pub mod header;
pub mod live;
pub mod plan;
pub mod result;
pub mod verdict;
