//! Digests, and keys from passphrases.

use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::crypt::hash::Hash;

impl Hash {
    /// The digest of these parts, one after the other.
    pub(in crate::crypt) fn digest(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Sha1 => digest::<Sha1>(parts),
            Self::Sha224 => digest::<Sha224>(parts),
            Self::Sha256 => digest::<Sha256>(parts),
            Self::Sha384 => digest::<Sha384>(parts),
            Self::Sha512 => digest::<Sha512>(parts),
        }
    }

    /// PBKDF2 with HMAC of this hash (RFC 2898).
    pub(in crate::crypt) fn derive(
        self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
        key: &mut [u8],
    ) {
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
