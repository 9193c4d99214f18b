//! The terminal: where output goes and how it looks, progress, signals.

pub mod color;
pub mod count;
pub mod fault;
pub mod progress;
pub mod redacted;
pub mod signals;
pub mod ui;
