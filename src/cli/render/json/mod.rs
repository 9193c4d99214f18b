//! Results for programs.

pub mod check;
pub mod info;
pub mod map;
pub mod metadata;
pub mod stream;
