//! The encryption of an image's guest data, with its key.

use std::fmt;
use std::sync::Arc;

use crate::crypt::luks::{Header, MasterKey};
use crate::crypt::{CipherSpec, Key, Secret, SectorCipher};
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::{GuestOffset, HostOffset};
use crate::sector::{SECTOR, SECTOR_LEN};
use crate::storage::ReadAt;
use crate::tables::HeaderArea;

/// The option that names the secret of a qcow2 image, in QEMU's words.
pub(crate) const KEY_OPTION: &str = "encrypt.key-secret";

/// By which offset the sectors of guest data are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// Their place in the file: LUKS.
    Host,
    /// Their place on the disk: the encryption before LUKS.
    Guest,
}

/// An open encryption.
pub(crate) struct Encryption {
    cipher: Arc<SectorCipher>,
    numbers: Numbers,
    /// The master key, where the image had a LUKS header when it was opened.
    master: Option<MasterKey>,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}

impl Encryption {
    /// One of LUKS with this cipher.
    pub(crate) const fn luks(cipher: Arc<SectorCipher>) -> Self {
        Self { cipher, numbers: Numbers::Host, master: None }
    }

    /// The encryption of the image with this header; `None` where it has none, or no secret is
    /// named for it.
    ///
    /// Fails with [`Error::NoSecret`], with [`Error::WrongSecret`] where a passphrase does not open
    /// LUKS, and as [`Header::load`]. Whether the key of the older encryption is right shows
    /// nowhere.
    pub(in crate::image) fn open(
        area: &HeaderArea,
        file: &dyn ReadAt,
        key: &Key,
    ) -> Result<Option<Self>> {
        let method = area.header.crypt_method;
        if method == CryptMethod::None || key.name.is_none() {
            return Ok(None);
        }
        let secret = key.secret(KEY_OPTION)?;
        if method == CryptMethod::Luks {
            let header = luks_header(area, file)?;
            let key = header.unlock(file, secret)?;
            let cipher = header.cipher(&key)?;
            return Ok(Some(Self { master: Some(key), ..Self::luks(cipher) }));
        }
        let key = legacy_key(secret);
        let cipher = Arc::new(SectorCipher::new(&CipherSpec::LEGACY, key.bytes())?);
        Ok(Some(Self { cipher, numbers: Numbers::Guest, master: None }))
    }

    /// The same encryption of guest data, without what changes key slots.
    pub(in crate::image) fn of_data(&self) -> Self {
        Self { cipher: Arc::clone(&self.cipher), numbers: self.numbers, master: None }
    }

    /// The master key of a LUKS header.
    pub(in crate::image) const fn master(&self) -> Option<&MasterKey> {
        self.master.as_ref()
    }

    /// Whether guest data can be written. The older encryption is only read.
    pub(in crate::image) fn require_writable(&self) -> Result<()> {
        match self.numbers {
            Numbers::Host => Ok(()),
            Numbers::Guest => {
                let why = "guest data with the encryption before LUKS is only read: convert it";
                Err(Error::Unsupported(why.into()))
            }
        }
    }

    /// Whether the same data are encrypted in another way at another place of the file.
    pub(in crate::image) fn depends_on_host(&self) -> bool {
        self.numbers == Numbers::Host
    }

    fn number(&self, guest: GuestOffset, host: HostOffset) -> u64 {
        let offset = match self.numbers {
            Numbers::Host => host.get(),
            Numbers::Guest => guest.get(),
        };
        offset / SECTOR
    }

    /// Decrypts whole sectors of guest data.
    pub(in crate::image) fn decrypt(
        &self,
        guest: GuestOffset,
        host: HostOffset,
        sectors: &mut [u8],
    ) {
        self.cipher.decrypt(self.number(guest, host), sectors);
    }

    /// Encrypts whole sectors of guest data.
    pub(in crate::image) fn encrypt(
        &self,
        guest: GuestOffset,
        host: HostOffset,
        sectors: &mut [u8],
    ) {
        self.cipher.encrypt(self.number(guest, host), sectors);
    }
}

/// The LUKS header of the image with this header. Fails as [`Header::load`].
pub(in crate::image) fn luks_header(area: &HeaderArea, file: &dyn ReadAt) -> Result<Header> {
    let place = area.crypto_header().ok_or_else(|| {
        Error::Refused("the image is encrypted and has no encryption header".into())
    })?;
    Header::load(file, place.offset.get(), place.length)
}

/// The key of the older encryption: the beginning of the passphrase, with zeroes after it.
fn legacy_key(secret: &Secret) -> Secret {
    // A vector that grows frees its old bytes without overwriting them.
    let mut key = vec![0; CipherSpec::LEGACY.key_bytes()];
    key.iter_mut().zip(secret.bytes()).for_each(|(key, byte)| *key = *byte);
    Secret::new(key)
}

/// Whether a range of bytes is whole sectors.
pub(in crate::image) const fn is_whole(offset: u64, length: usize) -> bool {
    offset % SECTOR == 0 && length % SECTOR_LEN == 0
}
