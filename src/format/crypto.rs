//! Encryption: the method in the header, and the position of the LUKS header.

use byteorder::{BigEndian, ByteOrder};

use super::addr::HostOffset;

/// The header's `crypt_method` (specification, bytes 32 - 35).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CryptMethod {
    /// 0: not encrypted.
    None,
    /// 1: AES-CBC, legacy.
    Aes,
    /// 2: LUKS.
    Luks,
    /// Anything else.
    Unknown(u32),
}

impl CryptMethod {
    /// The method with this number.
    pub const fn decode(value: u32) -> Self {
        match value {
            0 => Self::None,
            1 => Self::Aes,
            2 => Self::Luks,
            other => Self::Unknown(other),
        }
    }
}

/// The position of the encryption header (specification, "Full disk encryption header pointer").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoHeader {
    /// Host offset; cluster aligned if valid.
    pub offset: HostOffset,
    /// Length in bytes.
    pub length: u64,
}

/// Bytes of a LUKS header without its key material (LUKS 1, "partition header layout").
pub const LUKS_HEADER_BYTES: u64 = 592;
/// More than any LUKS header with its key material takes, in bytes.
pub const MAX_LUKS_HEADER_BYTES: u64 = 128 << 20;
/// Bytes of the pointer in the extension.
pub const CRYPTO_POINTER_BYTES: usize = 16;

impl CryptoHeader {
    /// The extension's data: the mirror of [`Self::decode`].
    pub fn encode(&self) -> [u8; CRYPTO_POINTER_BYTES] {
        let mut data = [0; CRYPTO_POINTER_BYTES];
        BigEndian::write_u64(&mut data, self.offset.get());
        BigEndian::write_u64(&mut data[8..], self.length);
        data
    }

    /// Decodes the extension's data; `None` where it has another length than 16 bytes.
    pub fn decode(data: &[u8]) -> Option<Self> {
        (data.len() == CRYPTO_POINTER_BYTES).then(|| Self {
            offset: HostOffset::new(BigEndian::read_u64(data)),
            length: BigEndian::read_u64(&data[8..]),
        })
    }
}
