//! What an image is for every cluster of it, read without the code under test, and what a repair may not do to that.

mod crash;
mod inflate;
pub mod judge;
pub mod roles;
pub mod view;
