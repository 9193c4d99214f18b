//! An existing header, and the master key that a passphrase opens.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypt::hash::Hash;
use crate::crypt::primitive::{SectorCipher, stripes};
use crate::crypt::secret::{Key, Secret};
use crate::crypt::spec::CipherSpec;
use crate::error::{Error, Result};
use crate::format::luks::keys::{DIGEST_BYTES, LuksKeys};
use crate::format::luks::{LUKS_BYTES, LuksHeader};
use crate::format::luks_defects::defects;
use crate::sector::SECTOR_LEN;
use crate::storage::ReadAt;

/// The option that names the secret of a LUKS image, in QEMU's words.
const KEY_OPTION: &str = "key-secret";

/// The key that guest data is encrypted with. It is overwritten when it is dropped.
pub struct MasterKey(pub(super) Zeroizing<Vec<u8>>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// A header that is in a file.
#[derive(Debug)]
pub struct Header {
    pub(super) public: LuksHeader,
    pub(super) keys: LuksKeys,
    pub(super) spec: CipherSpec,
    pub(super) hash: Hash,
    /// Where it begins.
    pub(super) at: u64,
    /// Bytes that header and key material have there.
    pub(super) length: u64,
}

impl Header {
    /// Reads the header at an offset of `source`. `length`: the bytes that header and key material
    /// have there.
    ///
    /// Fails with [`Error::Io`], with [`Error::Refused`] where the header is damaged, and with
    /// [`Error::Unsupported`] where it names another cipher than AES in XTS or CBC, or another hash
    /// than SHA-1 and SHA-2.
    pub fn load(source: &dyn ReadAt, at: u64, length: u64) -> Result<Self> {
        let mut bytes = [0; LUKS_BYTES];
        let failed = |e| Error::io("read the LUKS header", at, e);
        source.read_padded_at(at, &mut bytes).map_err(failed)?;
        let damaged = |what: &str| Error::Refused(format!("the LUKS header is damaged: {what}"));
        if let Some(what) = defects(&bytes, length).first() {
            return Err(damaged(what));
        }
        let (public, keys) = LuksHeader::decode(&bytes)
            .zip(LuksKeys::decode(&bytes))
            .ok_or_else(|| damaged("it is cut short"))?;
        let key_bytes = usize::try_from(public.key_bytes).unwrap_or(usize::MAX);
        let spec = CipherSpec::of_header(&public.cipher.text, &public.mode.text, key_bytes)?;
        let hash = Hash::of_name(&public.hash.text).ok_or_else(|| {
            let name = public.hash.text.escape_debug();
            Error::Unsupported(format!("the hash '{name}' is not supported: SHA-1 and SHA-2 are"))
        })?;
        Ok(Self { public, keys, spec, hash, at, length })
    }

    /// The header of the LUKS image that `source` is, and the master key that a secret opens.
    ///
    /// Fails with [`Error::NoKey`], with [`Error::NoSecret`], and as [`Self::load`] and
    /// [`Self::unlock`].
    pub fn open(source: &dyn ReadAt, key: &Key) -> Result<(Self, MasterKey)> {
        let secret = key.secret(KEY_OPTION)?;
        let header = Self::load(source, 0, u64::MAX)?;
        let key = header.unlock(source, secret)?;
        Ok((header, key))
    }

    /// Where the payload begins, in bytes from the start of the header.
    pub const fn payload_offset(&self) -> u64 {
        self.public.payload_offset
    }

    /// The master key, from the first key slot that the passphrase opens. This takes the time that
    /// the iterations of the slots need. Fails with [`Error::WrongSecret`] where it opens none.
    pub fn unlock(&self, source: &dyn ReadAt, secret: &Secret) -> Result<MasterKey> {
        for slot in 0..self.public.slots.len() {
            if let Some(key) = self.try_slot(source, slot, secret)? {
                log::info!("key slot {slot} is opened");
                return Ok(key);
            }
        }
        Err(Error::WrongSecret)
    }

    /// The cipher of guest data.
    pub fn cipher(&self, key: &MasterKey) -> Result<Arc<SectorCipher>> {
        Ok(Arc::new(SectorCipher::new(&self.spec, &key.0)?))
    }

    /// Bytes of the master key in the stripes of a slot.
    pub(super) fn split_bytes(&self, slot: usize) -> usize {
        let stripes = usize::try_from(self.public.slots[slot].stripes).unwrap_or(0);
        self.spec.key_bytes() * stripes
    }

    /// The master key from a key slot; `None` where the slot is free, or the passphrase does not
    /// open it.
    pub(super) fn try_slot(
        &self,
        source: &dyn ReadAt,
        slot: usize,
        secret: &Secret,
    ) -> Result<Option<MasterKey>> {
        let record = &self.public.slots[slot];
        if !record.active {
            return Ok(None);
        }
        let key_bytes = self.spec.key_bytes();
        let mut slot_key = Zeroizing::new(vec![0; key_bytes]);
        let salt = &self.keys.slots[slot];
        self.hash.derive(secret.bytes(), salt, record.iterations, &mut slot_key);
        let length = self.split_bytes(slot);
        let mut material = Zeroizing::new(vec![0; length.next_multiple_of(SECTOR_LEN)]);
        let at = self.at.saturating_add(record.key_offset);
        let failed = |e| Error::io("read key material", at, e);
        source.read_exact_at(at, &mut material).map_err(failed)?;
        SectorCipher::new(&self.spec, &slot_key)?.decrypt(0, &mut material);
        let key = stripes::merge(&material[..length], key_bytes, self.hash);
        let digest = digest(self.hash, &key, &self.keys.salt, self.public.iterations);
        Ok((*digest == self.keys.digest).then_some(MasterKey(key)))
    }
}

/// The digest of a master key that a header has.
pub(super) fn digest(
    hash: Hash,
    key: &[u8],
    salt: &[u8],
    iterations: u32,
) -> Zeroizing<[u8; DIGEST_BYTES]> {
    let mut digest = Zeroizing::new([0; DIGEST_BYTES]);
    hash.derive(key, salt, iterations, digest.as_mut());
    digest
}
