//! Encrypted guest data: secrets, ciphers by sectors, and LUKS headers that a passphrase opens.
//!
//! * [`Secret`], [`Secrets`]: passphrases by the names under which options refer to them; [`Key`]:
//!   which of them opens an image
//! * [`CipherSpec`], [`enum@Hash`]: ciphers and hashes by their names
//! * [`SectorCipher`]: AES in XTS and CBC, sector by sector; `primitive`: what the crates for it do
//! * [`luks`]: opens and makes LUKS headers of version 1
//! * [`Volume`]: the payload of a LUKS image as a disk
//!
//! Without the cargo feature `encryption` the crates are not built, and an encrypted image is an
//! error.
//!
//! Keys and passphrases are overwritten when they are dropped, and nothing prints them: neither
//! `Debug` nor the log nor an error has a byte of them.

#[cfg(not(feature = "encryption"))]
mod absent;
mod hash;
pub mod luks;
#[cfg(feature = "encryption")]
mod primitive;
mod secret;
mod spec;
mod volume;

#[cfg(not(feature = "encryption"))]
pub use absent::SectorCipher;
pub use hash::Hash;
#[cfg(feature = "encryption")]
pub use primitive::SectorCipher;
pub(crate) use secret::no_key;
pub use secret::{Key, Secret, Secrets};
pub use spec::{CipherSpec, IvGenerator, Mode};
pub use volume::Volume;
