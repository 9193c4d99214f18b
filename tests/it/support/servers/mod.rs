//! Servers that images are read from: real programs, and one that misbehaves as requested.

pub mod fake_nbd;
pub mod fake_web;
pub mod real;
