//! Damaged images.

pub mod broken;
pub mod damage;
pub mod matrix;
