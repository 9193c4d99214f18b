//! Ciphers by the names that headers and options have for them.

use super::hash::Hash;
use crate::error::{Error, Result};

/// How the blocks of a sector are chained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// XTS, with two keys.
    Xts,
    /// CBC.
    Cbc,
}

/// How the number of a sector becomes an initial vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IvGenerator {
    /// The lower 32 bits of the number.
    Plain,
    /// The number.
    Plain64,
    /// The number, encrypted with this digest of the key.
    Essiv(Hash),
}

/// A cipher without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherSpec {
    /// Bits of an AES key: 128, 192 or 256.
    pub key_bits: usize,
    /// The mode.
    pub mode: Mode,
    /// The generator of initial vectors.
    pub ivs: IvGenerator,
}

impl CipherSpec {
    /// That of images with the encryption that came before LUKS.
    pub const LEGACY: Self = Self { key_bits: 128, mode: Mode::Cbc, ivs: IvGenerator::Plain64 };

    /// The cipher that a header names: `name` ("aes"), `mode` ("xts-plain64"), and the length of
    /// its key. Fails with [`Error::Unsupported`].
    pub fn of_header(name: &str, mode: &str, key_bytes: usize) -> Result<Self> {
        let unsupported = || {
            let why = "AES in the modes xts and cbc is";
            Error::Unsupported(format!("the cipher '{name}-{mode}' is not supported: {why}"))
        };
        let (chain, generator) = mode.split_once('-').ok_or_else(unsupported)?;
        let (generator, hash) = match generator.split_once(':') {
            Some((generator, hash)) => (generator, Some(hash)),
            None => (generator, None),
        };
        let chain = match chain {
            "xts" => Mode::Xts,
            "cbc" => Mode::Cbc,
            _ => return Err(unsupported()),
        };
        let ivs = match (generator, hash.and_then(Hash::of_name)) {
            ("plain", _) => IvGenerator::Plain,
            ("plain64", _) => IvGenerator::Plain64,
            ("essiv", Some(hash)) => IvGenerator::Essiv(hash),
            _ => return Err(unsupported()),
        };
        let spec = Self { key_bits: key_bytes * 8 / chain.keys(), mode: chain, ivs };
        let fits = [128, 192, 256].contains(&spec.key_bits) && spec.key_bytes() == key_bytes;
        if name != "aes" || !fits {
            return Err(unsupported());
        }
        Ok(spec)
    }

    /// The mode and the generator as a header names them.
    pub fn mode_name(&self) -> String {
        let mode = self.mode.name();
        match self.ivs {
            IvGenerator::Plain => format!("{mode}-plain"),
            IvGenerator::Plain64 => format!("{mode}-plain64"),
            IvGenerator::Essiv(hash) => format!("{mode}-essiv:{}", hash.name()),
        }
    }

    /// Bytes of its key; XTS has two keys.
    pub const fn key_bytes(&self) -> usize {
        self.key_bits / 8 * self.mode.keys()
    }
}

impl Mode {
    const fn keys(self) -> usize {
        match self {
            Self::Xts => 2,
            Self::Cbc => 1,
        }
    }

    /// Its name in a header and in options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xts => "xts",
            Self::Cbc => "cbc",
        }
    }
}
