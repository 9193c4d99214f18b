//! A new header, with one passphrase.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::header::{MasterKey, digest};
use super::options::LuksOptions;
use super::rate;
use crate::crypt::hash::Hash;
use crate::crypt::primitive::{SectorCipher, random, stripes};
use crate::crypt::secret::Secret;
use crate::crypt::spec::CipherSpec;
use crate::error::{Error, Result};
use crate::format::luks::defects::RESERVED_BYTES;
use crate::format::luks::keys::{DIGEST_BYTES, LuksKeys, SALT_BYTES, STRIPES, encode};
use crate::format::luks::{KEY_SLOTS, KeySlot, LUKS_BYTES, LuksHeader, Name};
use crate::sector::SECTOR_LEN;

/// The part of the time for a passphrase that the digest of the master key takes, as in QEMU.
const DIGEST_SHARE: u32 = 8;

impl LuksOptions {
    /// A header without keys, whose first slot has so many iterations.
    fn empty(&self, iterations: u32, of_slot: u32, uuid: String) -> LuksHeader {
        let name = |text: &str| Name { text: text.to_owned(), is_terminated: true };
        let slot = |n: u64| KeySlot {
            active: n == 0,
            has_known_state: true,
            iterations: if n == 0 { of_slot } else { 0 },
            key_offset: RESERVED_BYTES + n * self.material_bytes(),
            stripes: STRIPES,
        };
        LuksHeader {
            cipher: name("aes"),
            mode: name(&self.cipher.mode_name()),
            hash: name(self.hash.name()),
            payload_offset: self.header_bytes(),
            key_bytes: u32::try_from(self.cipher.key_bytes()).unwrap_or(u32::MAX),
            iterations,
            uuid,
            slots: (0..KEY_SLOTS as u64).map(slot).collect(),
        }
    }
}

/// A header with a new master key. It is not in a file yet.
pub struct NewHeader {
    bytes: Zeroizing<Vec<u8>>,
    payload_offset: u64,
    cipher: Arc<SectorCipher>,
}

impl std::fmt::Debug for NewHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewHeader").field("payload_offset", &self.payload_offset).finish()
    }
}

impl NewHeader {
    /// Makes a header that this passphrase opens. This takes a little longer than
    /// [`LuksOptions::time`]. Fails with [`Error::Unsupported`] where the digest of ESSIV is not as
    /// long as a key, and with [`Error::Io`] where the system has no random bytes.
    pub fn new(options: &LuksOptions, secret: &Secret) -> Result<Self> {
        let key = MasterKey(random_key(options.cipher.key_bytes())?);
        let cipher = Arc::new(SectorCipher::new(&options.cipher, &key.0)?);
        let time = options.time;
        let iterations = rate::iterations(options.hash, DIGEST_BYTES, time / DIGEST_SHARE)?;
        let of_slot = rate::iterations(options.hash, key.0.len(), time)?;
        let header = options.empty(iterations, of_slot, uuid()?);
        let mut keys = LuksKeys {
            digest: [0; DIGEST_BYTES],
            salt: salt()?,
            slots: [[0; SALT_BYTES]; KEY_SLOTS],
        };
        keys.digest = *digest(options.hash, &key.0, &keys.salt, iterations);
        keys.slots[0] = salt()?;
        let sealed = seal(&options.cipher, options.hash, &key, secret, (&keys.slots[0], of_slot))?;
        let mut bytes = Zeroizing::new(encode(&header, &keys));
        bytes.resize(usize::try_from(RESERVED_BYTES).unwrap_or(LUKS_BYTES), 0);
        bytes.extend_from_slice(&sealed);
        Ok(Self { bytes, payload_offset: options.header_bytes(), cipher })
    }

    /// Header and key material; what follows up to the payload is zero.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the payload begins, in bytes from the start of the header.
    pub const fn payload_offset(&self) -> u64 {
        self.payload_offset
    }

    /// The cipher of guest data.
    pub fn cipher(&self) -> Arc<SectorCipher> {
        self.cipher.clone()
    }
}

/// The material of a key slot: the master key for this passphrase, under the slot's salt and with
/// its iterations.
pub(super) fn seal(
    cipher: &CipherSpec,
    hash: Hash,
    key: &MasterKey,
    secret: &Secret,
    (salt, iterations): (&[u8], u32),
) -> Result<Zeroizing<Vec<u8>>> {
    let mut slot_key = Zeroizing::new(vec![0; key.0.len()]);
    hash.derive(secret.bytes(), salt, iterations, &mut slot_key);
    let length = key.0.len() * usize::try_from(STRIPES).unwrap_or(0);
    // It is encrypted in whole sectors.
    let mut material = Zeroizing::new(vec![0; length.next_multiple_of(SECTOR_LEN)]);
    stripes::split(&key.0, &mut material[..length], hash).map_err(no_random_bytes)?;
    SectorCipher::new(cipher, &slot_key)?.encrypt(0, &mut material);
    Ok(material)
}

fn no_random_bytes(source: std::io::Error) -> Error {
    Error::file("get random bytes", source)
}

fn random_key(bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; bytes]);
    random::fill(&mut key).map_err(no_random_bytes)?;
    Ok(key)
}

pub(super) fn salt() -> Result<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    random::fill(&mut salt).map_err(no_random_bytes)?;
    Ok(salt)
}

/// A random identifier (RFC 9562, version 4).
fn uuid() -> Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes).map_err(no_random_bytes)?;
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = |part: &[u8]| part.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let parts = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
    Ok(parts.map(hex).join("-"))
}

#[cfg(test)]
mod tests {
    use super::super::header::Header;
    use std::time::Duration;

    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn a_header_is_opened_with_its_passphrase_and_with_no_other() {
        for (mode, bytes) in [("xts-plain64", 64), ("cbc-essiv:sha256", 16), ("cbc-plain", 24)] {
            for hash in [Hash::Sha1, Hash::Sha512] {
                let cipher = CipherSpec::of_header("aes", mode, bytes).unwrap();
                let options = LuksOptions { cipher, hash, time: Duration::ZERO };
                let new = NewHeader::new(&options, &Secret::new(b"one".to_vec())).unwrap();
                let file = MemoryStorage::new(new.bytes().to_vec());
                let header = Header::load(&file, 0, new.payload_offset()).unwrap();
                assert_eq!(header.payload_offset(), new.payload_offset());
                let key = header.unlock(&file, &Secret::new(b"one".to_vec())).unwrap();
                let mut sector = vec![9; 512];
                new.cipher().encrypt(77, &mut sector);
                header.cipher(&key).unwrap().decrypt(77, &mut sector);
                assert_eq!(sector, vec![9; 512]);
                let other = header.unlock(&file, &Secret::new(b"two".to_vec()));
                assert!(matches!(other, Err(Error::WrongSecret)));
                assert_eq!(format!("{key:?} {new:?}").matches("[").count(), 0);
            }
        }
    }
}
