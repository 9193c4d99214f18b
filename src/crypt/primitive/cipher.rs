//! Ciphers by sectors: AES in XTS or CBC, with an initial vector from the number of the sector.

use std::fmt;

use aes::cipher::consts::U16;
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    Key, KeyInit,
};
use aes::{Aes128, Aes192, Aes256, Block};

use super::mode::{BLOCKS, SectorMode};
use super::xts::Xts;
use crate::crypt::hash::Hash;
use crate::crypt::spec::{CipherSpec, IvGenerator, Mode};
use crate::error::{Error, Result};
use crate::sector::SECTOR_LEN;

/// Sectors whose initial vectors are computed together.
const BATCH: usize = 64;

/// The initial vectors of a cipher with its key.
enum Ivs {
    Plain,
    Plain64,
    Essiv(Box<dyn Encrypt>),
}

/// A block cipher that only encrypts.
trait Encrypt: Send + Sync {
    fn encrypt(&self, blocks: &mut [Block]);
}

impl<C: BlockCipherEncrypt<BlockSize = U16> + Send + Sync> Encrypt for C {
    fn encrypt(&self, blocks: &mut [Block]) {
        self.encrypt_blocks(blocks);
    }
}

struct Cbc<C>(C);

impl<C> SectorMode for Cbc<C>
where
    C: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt<BlockSize = U16> + Send + Sync,
{
    fn encrypt(&self, ivs: &mut [Block], data: &mut [Block]) {
        for (iv, sector) in ivs.iter().zip(data.chunks_exact_mut(BLOCKS)) {
            cbc::Encryptor::inner_iv_init(&self.0, iv).encrypt_blocks(sector);
        }
    }

    fn decrypt(&self, ivs: &mut [Block], data: &mut [Block]) {
        for (iv, sector) in ivs.iter().zip(data.chunks_exact_mut(BLOCKS)) {
            cbc::Decryptor::inner_iv_init(&self.0, iv).decrypt_blocks(sector);
        }
    }
}

/// A cipher with its key. Any number of threads use it at once.
pub struct SectorCipher {
    mode: Box<dyn SectorMode>,
    ivs: Ivs,
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SectorCipher")
    }
}

impl SectorCipher {
    /// The cipher with this key. Fails with [`Error::Unsupported`] where the key does not have the
    /// length that the cipher needs, or the digest of ESSIV not that of a key.
    pub fn new(spec: &CipherSpec, key: &[u8]) -> Result<Self> {
        let misfit = || Error::Unsupported(format!("AES has no key of {} bytes", key.len()));
        if key.len() != spec.key_bytes() {
            return Err(misfit());
        }
        let mode = match spec.key_bits {
            128 => in_mode::<Aes128>(spec.mode, key),
            192 => in_mode::<Aes192>(spec.mode, key),
            _ => in_mode::<Aes256>(spec.mode, key),
        };
        let ivs = match spec.ivs {
            IvGenerator::Plain => Ivs::Plain,
            IvGenerator::Plain64 => Ivs::Plain64,
            IvGenerator::Essiv(hash) => Ivs::Essiv(essiv(hash, key)?),
        };
        Ok(Self { mode: mode.ok_or_else(misfit)?, ivs })
    }

    /// Encrypts whole sectors in place, the first of which has this number.
    pub fn encrypt(&self, first: u64, data: &mut [u8]) {
        self.batches(first, data, |ivs, blocks| self.mode.encrypt(ivs, blocks));
    }

    /// Decrypts whole sectors in place, the first of which has this number.
    pub fn decrypt(&self, first: u64, data: &mut [u8]) {
        self.batches(first, data, |ivs, blocks| self.mode.decrypt(ivs, blocks));
    }

    fn batches(&self, first: u64, data: &mut [u8], change: impl Fn(&mut [Block], &mut [Block])) {
        assert!(data.len() % SECTOR_LEN == 0, "a cipher works on whole sectors");
        let mut number = first;
        for batch in data.chunks_mut(BATCH * SECTOR_LEN) {
            let (blocks, _) = Block::slice_as_chunks_mut(batch);
            let mut ivs = [Block::default(); BATCH];
            let ivs = &mut ivs[..blocks.len() / BLOCKS];
            for iv in ivs.iter_mut() {
                *iv = self.ivs.number(number);
                number = number.wrapping_add(1);
            }
            if let Ivs::Essiv(cipher) = &self.ivs {
                cipher.encrypt(ivs);
            }
            change(ivs, blocks);
        }
    }
}

impl Ivs {
    /// The number of a sector as a block.
    #[expect(
        clippy::little_endian_bytes,
        reason = "the order of initial vectors; no field of a file"
    )]
    fn number(&self, sector: u64) -> Block {
        let number = match self {
            Self::Plain => sector & u64::from(u32::MAX),
            Self::Plain64 | Self::Essiv(_) => sector,
        };
        Array(u128::from(number).to_le_bytes())
    }
}

/// A cipher in a mode; `None` where the key has another length.
fn in_mode<C>(mode: Mode, key: &[u8]) -> Option<Box<dyn SectorMode>>
where
    C: BlockCipherEncrypt<BlockSize = U16>
        + BlockCipherDecrypt<BlockSize = U16>
        + KeyInit
        + Send
        + Sync
        + 'static,
{
    let keyed = |key: &[u8]| <&Key<C>>::try_from(key).ok().map(C::new);
    let (low, high) = key.split_at(key.len() / 2);
    Some(match mode {
        Mode::Xts => Box::new(Xts { data: keyed(low)?, tweak: keyed(high)? }),
        Mode::Cbc => Box::new(Cbc(keyed(key)?)),
    })
}

fn essiv(hash: Hash, key: &[u8]) -> Result<Box<dyn Encrypt>> {
    let digest = hash.digest(&[key]);
    let misfit =
        || Error::Unsupported(format!("No AES cipher with key size {} available", digest.len()));
    Ok(match digest.len() {
        32 => Box::new(Aes256::new_from_slice(&digest).map_err(|_| misfit())?),
        _ => return Err(misfit()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphers_are_named_as_in_headers() {
        for (mode, bytes) in
            [("xts-plain64", 64), ("xts-plain64", 32), ("cbc-essiv:sha256", 24), ("cbc-plain", 16)]
        {
            let spec = CipherSpec::of_header("aes", mode, bytes).unwrap();
            assert_eq!((spec.mode_name().as_str(), spec.key_bytes()), (mode, bytes));
            assert!(SectorCipher::new(&spec, &vec![7; bytes]).is_ok());
            assert!(SectorCipher::new(&spec, &vec![7; bytes + 1]).is_err());
        }
        for (name, mode, bytes) in [
            ("serpent", "xts-plain64", 64),
            ("aes", "ctr-plain64", 32),
            ("aes", "xts-plain64", 16),
            ("aes", "xts-plain64", 65),
            ("aes", "cbc-essiv", 32),
            ("aes", "cbc", 32),
        ] {
            assert!(CipherSpec::of_header(name, mode, bytes).is_err(), "{name}-{mode} {bytes}");
        }
    }

    #[test]
    fn sectors_are_encrypted_by_their_numbers_whatever_comes_with_them() {
        for (mode, bytes) in [("xts-plain64", 64), ("cbc-essiv:sha256", 32), ("cbc-plain64", 24)] {
            let spec = CipherSpec::of_header("aes", mode, bytes).unwrap();
            let key: Vec<u8> = (0u8..).take(bytes).collect();
            let cipher = SectorCipher::new(&spec, &key).unwrap();
            let plain = vec![3; 100 * SECTOR_LEN];
            let mut whole = plain.clone();
            cipher.encrypt(1 << 40, &mut whole);
            let mut single = plain.clone();
            for (number, sector) in (1 << 40..).zip(single.chunks_mut(SECTOR_LEN)) {
                cipher.encrypt(number, sector);
            }
            assert_eq!(whole, single, "{mode}");
            assert_ne!(whole[..SECTOR_LEN], whole[SECTOR_LEN..2 * SECTOR_LEN]);
            cipher.decrypt(1 << 40, &mut whole);
            assert_eq!(whole, plain, "{mode}");
        }
    }

    #[test]
    fn plain_numbers_have_32_bits() {
        let spec = |ivs| CipherSpec { key_bits: 128, mode: Mode::Cbc, ivs };
        let sector = |ivs, number| {
            let mut bytes = vec![0; SECTOR_LEN];
            SectorCipher::new(&spec(ivs), &[1; 16]).unwrap().encrypt(number, &mut bytes);
            bytes
        };
        let (low, high) = (5, 5 + (1 << 32));
        assert_eq!(sector(IvGenerator::Plain, low), sector(IvGenerator::Plain, high));
        assert_ne!(sector(IvGenerator::Plain64, low), sector(IvGenerator::Plain64, high));
    }
}
