//! What ciphers and hashes do, with the crates that do it.

mod cipher;
mod digest;
mod mode;
pub(super) mod random;
mod sealed;
pub(super) mod stripes;
mod xts;

pub use cipher::SectorCipher;
