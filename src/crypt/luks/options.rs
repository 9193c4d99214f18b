//! What headers are to be, and how they are to change.

use std::time::Duration;

use crate::crypt::hash::Hash;
use crate::crypt::secret::Secret;
use crate::crypt::spec::{CipherSpec, IvGenerator, Mode};
use crate::format::luks::KEY_SLOTS;
use crate::format::luks::defects::RESERVED_BYTES;
use crate::format::luks::keys::STRIPES;

/// What a new header is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LuksOptions {
    /// The cipher of guest data and key material.
    pub cipher: CipherSpec,
    /// The hash of passphrases and key material.
    pub hash: Hash,
    /// Processor time that it takes to try a passphrase on this machine.
    pub time: Duration,
}

/// AES-256 in XTS, SHA-256, and two seconds: what QEMU chooses.
impl Default for LuksOptions {
    fn default() -> Self {
        let cipher = CipherSpec { key_bits: 256, mode: Mode::Xts, ivs: IvGenerator::Plain64 };
        Self { cipher, hash: Hash::Sha256, time: Duration::from_secs(2) }
    }
}

impl LuksOptions {
    /// Bytes of the material of a key slot, in whole blocks.
    pub(super) fn material_bytes(&self) -> u64 {
        (self.cipher.key_bytes() as u64 * u64::from(STRIPES)).next_multiple_of(RESERVED_BYTES)
    }

    /// Bytes of header and key material: where the payload begins.
    pub fn header_bytes(&self) -> u64 {
        RESERVED_BYTES + KEY_SLOTS as u64 * self.material_bytes()
    }
}

/// A change of key slots.
#[derive(Debug, Clone)]
pub enum SlotChange {
    /// Adds a passphrase.
    Add {
        /// The passphrase.
        secret: Secret,
        /// The slot that it gets; the first free one where none is given.
        slot: Option<usize>,
        /// Processor time that it takes to try it on this machine.
        time: Duration,
        /// Whether a slot that is in use may be overwritten.
        force: bool,
    },
    /// Erases one slot, or all with a passphrase. Where both are given, that slot has to have that
    /// passphrase.
    Erase {
        /// The slot.
        slot: Option<usize>,
        /// The passphrase.
        secret: Option<Secret>,
        /// Whether the last slot in use may be erased, so that nothing opens the image any
        /// more, and one that is free.
        force: bool,
    },
}
