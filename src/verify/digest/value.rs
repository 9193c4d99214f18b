//! Digests, and reasons for a missing one.

use std::fmt::Write;

use crate::error::Error;
use crate::image::Damage;

/// How a digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// BLAKE3, of 32 bytes.
    Blake3,
}

impl Algorithm {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }
}

/// Which digests are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How they are made.
    pub algorithm: Algorithm,
    /// Most bytes of a disk: an image can claim any number, and all of them have to be hashed.
    pub max_bytes: Option<u64>,
    /// Whether snapshots have digests too.
    pub snapshots: bool,
}

/// The digest of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// How it was made.
    pub algorithm: Algorithm,
    /// The disk's size in bytes, in whole sectors.
    pub size: u64,
    /// Its bytes.
    pub bytes: [u8; 32],
}

impl Digest {
    /// The digest in hexadecimal digits.
    pub fn hex(&self) -> String {
        self.bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Why a disk has no digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoDigest {
    /// What could not be read, and why.
    pub reason: String,
    /// Whether the image is damaged there.
    pub damage: bool,
}

impl NoDigest {
    /// A disk that cannot be read at all.
    pub(super) fn of(error: &Error) -> Self {
        let damage = matches!(error, Error::Header { .. }) || Damage::of(error).is_some();
        Self { reason: error.to_string(), damage }
    }

    /// A disk that cannot be read from `start` on.
    pub(super) fn at(start: u64, error: &Error) -> Self {
        let Self { reason, damage } = Self::of(error);
        Self { reason: format!("guest data from {start:#x} on: {reason}"), damage }
    }
}
