//! The hashes that LUKS headers name.

use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The hash of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Its name in a header and in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of a digest.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of these parts, one after the other.
    pub(super) fn digest(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha224 => digest::<Sha224>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }

    /// PBKDF2 with HMAC of this hash (RFC 2898).
    pub(super) fn derive(self, password: &[u8], salt: &[u8], iterations: u32, key: &mut [u8]) {
        let derive: fn(&[u8], &[u8], u32, &mut [u8]) = match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>,
            Self::Sha224 => pbkdf2::pbkdf2_hmac::<Sha224>,
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>,
            Self::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>,
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>,
        };
        derive(password, salt, iterations, key);
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut hasher = D::new();
    parts.iter().for_each(|part| hasher.update(part));
    Zeroizing::new(hasher.finalize().to_vec())
}
