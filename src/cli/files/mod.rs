//! The files of a command: what they are to it, and what it may do to them.

pub mod guard;
