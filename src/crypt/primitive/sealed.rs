//! Secrets that are given encoded or encrypted.

use aes::Aes256;
use aes::cipher::{Array, Block, BlockModeDecrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::crypt::secret::Secret;
use crate::error::{Error, Result};

/// Bytes of the key and of the initial vector of a secret that is encrypted (AES-256 in CBC).
const KEY_BYTES: usize = 32;
const IV_BYTES: usize = 16;

impl Secret {
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
}
