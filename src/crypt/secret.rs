//! Passphrases, and the names under which options refer to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aes::Aes256;
use aes::cipher::{Array, Block, BlockModeDecrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Bytes of the key and of the initial vector of a secret that is encrypted (AES-256 in CBC).
const KEY_BYTES: usize = 32;
const IV_BYTES: usize = 16;

/// A passphrase or key. It is overwritten when it is dropped, and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret whose Base64 this one is; line breaks and spaces are left out.
    pub fn decoded(&self) -> Result<Self> {
        let is_text = |byte: &u8| !byte.is_ascii_whitespace();
        let text = Zeroizing::new(self.0.iter().copied().filter(is_text).collect::<Vec<_>>());
        // The decoder's error has a byte of the text.
        let bytes = STANDARD.decode(&text).map_err(|_| {
            Error::Refused("Base64 data is not valid: a secret cannot be decoded".into())
        })?;
        Ok(Self::new(bytes))
    }

    /// The secret that was encrypted with AES-256 in CBC under `key`, with padding (PKCS #7).
    pub fn decrypted(&self, key: &Self, iv: &Self) -> Result<Self> {
        let wrong = |what: &str, is: usize, should: usize| {
            Error::Refused(format!("{what} should be {should} bytes in length, not {is}"))
        };
        let key_bytes =
            Array::try_from(key.bytes()).map_err(|_| wrong("Key", key.bytes().len(), KEY_BYTES))?;
        let iv_bytes =
            Array::try_from(iv.bytes()).map_err(|_| wrong("IV", iv.bytes().len(), IV_BYTES))?;
        let mut bytes = self.0.clone();
        let (blocks, rest) = Block::<Aes256>::slice_as_chunks_mut(&mut bytes);
        if !rest.is_empty() || blocks.is_empty() {
            return Err(Error::Refused(
                "an encrypted secret is not whole blocks of 16 bytes".into(),
            ));
        }
        cbc::Decryptor::<Aes256>::new(&key_bytes, &iv_bytes).decrypt_blocks(blocks);
        let padding = usize::from(*bytes.last().unwrap_or(&0));
        if padding == 0 || padding > IV_BYTES || bytes.len() < padding {
            return Err(Error::Refused("the padding of an encrypted secret is not valid".into()));
        }
        let length = bytes.len() - padding;
        bytes.truncate(length);
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Secrets by their names. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, Secret>>);

impl Secrets {
    /// These secrets.
    pub fn new(secrets: BTreeMap<String, Secret>) -> Self {
        Self(Arc::new(secrets))
    }

    /// The secret of a name. Fails with [`Error::NoSecret`].
    pub fn get(&self, name: &str) -> Result<&Secret> {
        self.0.get(name).ok_or_else(|| Error::NoSecret(name.to_owned()))
    }
}

/// Which of the secrets opens an image.
#[derive(Debug, Clone, Default)]
pub struct Key {
    /// The secrets, also for the images below.
    pub secrets: Secrets,
    /// The name of the image's own, where one is given.
    pub name: Option<String>,
}

impl Key {
    /// The same secrets for another image.
    pub fn renamed(&self, name: Option<String>) -> Self {
        Self { secrets: self.secrets.clone(), name }
    }

    /// The secret. `option` is the option that names it, in QEMU's words. Fails with
    /// [`Error::NoKey`] where none is named, and with [`Error::NoSecret`].
    pub fn secret(&self, option: &'static str) -> Result<&Secret> {
        let name = self.name.as_deref().ok_or(Error::NoKey { option })?;
        self.secrets.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_secret() {
        let secrets = Secrets::new([("a".to_owned(), Secret::new(b"hunter2".to_vec()))].into());
        assert_eq!(format!("{secrets:?}"), r#"Secrets({"a": Secret(..)})"#);
        let error = Secret::new(b"hunter2!".to_vec()).decoded().unwrap_err();
        assert!(!error.to_string().contains('!'), "{error}");
    }

    #[test]
    fn base64_may_have_line_breaks() {
        assert_eq!(
            Secret::new(b"aHVu\ndGVyMg==\n".to_vec()).decoded().unwrap().bytes(),
            b"hunter2"
        );
        assert!(Secret::new(b"aHVudGVyMg=".to_vec()).decoded().is_err());
    }

    /// `printf hunter2 | openssl enc -aes-256-cbc -K 00..1f -iv 00..0f | base64`.
    #[test]
    fn an_encrypted_secret_is_decrypted_with_its_key() {
        let key = Secret::new((0..32).collect());
        let iv = Secret::new((0..16).collect());
        let sealed = Secret::new(b"5Oc1d6/9hbpDg7sQDpNVfw==".to_vec()).decoded().unwrap();
        assert_eq!(sealed.decrypted(&key, &iv).unwrap().bytes(), b"hunter2");
        assert!(sealed.decrypted(&iv, &iv).is_err());
        assert!(Secret::new(vec![1; 15]).decrypted(&key, &iv).is_err());
        let wrong = Secret::new((1..33).collect());
        assert!(sealed.decrypted(&wrong, &iv).is_err());
    }
}
