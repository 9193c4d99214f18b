//! Plans: what a step is, which refcounts a repair aims at, and where something may be placed.

pub mod counts;
pub mod former;
pub mod phrase;
pub mod placement;
pub mod pointers;
pub mod purpose;
pub mod quarantine;
pub mod rebuild;
pub mod room;
pub mod step;
pub mod stored;
pub mod target;
