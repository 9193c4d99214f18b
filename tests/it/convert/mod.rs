//! `qcheck convert`.

mod crash;
mod onto;
mod options;
pub mod round;
mod size;
mod stream;
mod strict;
