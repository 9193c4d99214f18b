//! Encrypted guest data: secrets, ciphers by sectors, and LUKS headers that a passphrase opens.
//!
//! * [`Secret`], [`Secrets`]: passphrases by the names under which options refer to them; [`Key`]:
//!   which of them opens an image
//! * [`SectorCipher`]: AES in XTS and CBC, sector by sector; `xts`, `hash`
//! * [`luks`]: opens and makes LUKS headers of version 1
//! * [`Volume`]: the payload of a LUKS image as a disk
//!
//! Keys and passphrases are overwritten when they are dropped, and nothing prints them: neither
//! `Debug` nor the log nor an error has a byte of them.

mod cipher;
mod hash;
pub mod luks;
mod mode;
mod random;
mod secret;
mod stripes;
mod volume;
mod xts;

pub use cipher::{CipherSpec, IvGenerator, Mode, SectorCipher};
pub use hash::Hash;
pub use secret::{Key, Secret, Secrets};
pub use volume::Volume;
