//! The engine that reads and writes images.

mod bitmap_add;
pub mod bitmaps;
pub mod change;
mod crash;
mod data_file;
pub mod invariants;
mod open;
mod read;
mod threads;
pub mod tools;
