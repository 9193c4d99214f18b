//! LUKS headers of version 1: [`Header`] is opened with a passphrase, [`NewHeader`] is made.
//! [`SlotChange`] adds and erases passphrases.
//!
//! A header is somewhere in a file: at the start of a raw LUKS image, in clusters of its own in a
//! qcow2 image. Offsets are relative to it.

#[cfg(not(feature = "encryption"))]
mod absent;
#[cfg(feature = "encryption")]
mod header;
#[cfg(feature = "encryption")]
mod new;
mod options;
#[cfg(feature = "encryption")]
mod rate;
#[cfg(feature = "encryption")]
mod slots;

#[cfg(not(feature = "encryption"))]
pub use absent::{Header, MasterKey, NewHeader, SlotPlan};
#[cfg(feature = "encryption")]
pub use header::{Header, MasterKey};
#[cfg(feature = "encryption")]
pub use new::NewHeader;
pub use options::{LuksOptions, SlotChange};
#[cfg(feature = "encryption")]
pub use slots::SlotPlan;
