//! What stands in for ciphers where encryption is not built in.

use super::secret::ABSENT;
use super::spec::CipherSpec;
use crate::error::{Error, Result};

/// A cipher with its key: none exists.
#[derive(Debug)]
pub enum SectorCipher {}

impl SectorCipher {
    /// Fails with [`Error::Unsupported`].
    pub fn new(_spec: &CipherSpec, _key: &[u8]) -> Result<Self> {
        Err(Error::Unsupported(ABSENT.into()))
    }

    /// Encrypts whole sectors.
    pub fn encrypt(&self, _first: u64, _data: &mut [u8]) {
        match *self {}
    }

    /// Decrypts whole sectors.
    pub fn decrypt(&self, _first: u64, _data: &mut [u8]) {
        match *self {}
    }
}
