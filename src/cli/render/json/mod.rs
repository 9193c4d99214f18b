//! Results for programs.

pub mod check;
pub mod digests;
pub mod document;
pub mod header;
pub mod info;
pub mod map;
pub mod metadata;
pub mod plan;
pub mod stream;
pub mod verdict;
pub mod violations;
