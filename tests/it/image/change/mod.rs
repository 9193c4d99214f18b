//! Changes of a whole image: its size and its snapshots.

mod in_place;
mod resize;
mod shadow;
pub mod states;
pub mod switch;
mod vm_state;
