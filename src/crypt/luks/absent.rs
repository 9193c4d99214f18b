//! What stands in for LUKS where encryption is not built in: no value of these types exists, and
//! whoever requests one gets an error.

use std::sync::Arc;

use super::options::{LuksOptions, SlotChange};
use crate::crypt::SectorCipher;
use crate::crypt::secret::{ABSENT, Key, Secret};
use crate::error::{Error, Result};
use crate::storage::{ReadAt, Storage};

/// The key that guest data is encrypted with.
#[derive(Debug)]
pub enum MasterKey {}

/// A header that is in a file.
#[derive(Debug)]
pub enum Header {}

/// A header with a new master key.
#[derive(Debug)]
pub enum NewHeader {}

/// A change that is possible in the header that it was planned for.
#[derive(Debug)]
pub enum SlotPlan {}

fn absent<T>() -> Result<T> {
    Err(Error::Unsupported(ABSENT.into()))
}

impl Header {
    /// Fails with [`Error::Unsupported`].
    pub fn load(_source: &dyn ReadAt, _at: u64, _length: u64) -> Result<Self> {
        absent()
    }

    /// Fails with [`Error::Unsupported`].
    pub fn open(_source: &dyn ReadAt, _key: &Key) -> Result<(Self, MasterKey)> {
        absent()
    }

    /// Where the payload begins, in bytes from the start of the header.
    pub const fn payload_offset(&self) -> u64 {
        match *self {}
    }

    /// The master key.
    pub fn unlock(&self, _source: &dyn ReadAt, _secret: &Secret) -> Result<MasterKey> {
        match *self {}
    }

    /// The cipher of guest data.
    pub fn cipher(&self, _key: &MasterKey) -> Result<Arc<SectorCipher>> {
        match *self {}
    }

    /// Finds the slots that a change is about.
    pub fn plan(&self, _source: &dyn ReadAt, _change: &SlotChange) -> Result<SlotPlan> {
        match *self {}
    }

    /// Changes the slots.
    pub fn apply(&mut self, _: &dyn Storage, _: &MasterKey, _: &SlotPlan) -> Result<()> {
        match *self {}
    }
}

impl NewHeader {
    /// Fails with [`Error::Unsupported`].
    pub fn new(_options: &LuksOptions, _secret: &Secret) -> Result<Self> {
        absent()
    }

    /// Header and key material.
    pub fn bytes(&self) -> &[u8] {
        match *self {}
    }

    /// Where the payload begins, in bytes from the start of the header.
    pub const fn payload_offset(&self) -> u64 {
        match *self {}
    }

    /// The cipher of guest data.
    pub fn cipher(&self) -> Arc<SectorCipher> {
        match *self {}
    }
}
