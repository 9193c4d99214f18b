//! Verdicts on several images in the forms of other programs.

pub mod junit;
pub mod prometheus;
pub mod sarif;
