//! LUKS headers of version 1: [`Header`] is opened with a passphrase, [`NewHeader`] is made.
//! [`SlotChange`] adds and erases passphrases.
//!
//! A header is somewhere in a file: at the start of a raw LUKS image, in clusters of its own in a
//! qcow2 image. Offsets are relative to it.

mod header;
mod new;
mod rate;
mod slots;

pub use header::{Header, MasterKey};
pub use new::{LuksOptions, NewHeader};
pub use slots::{SlotChange, SlotPlan};
