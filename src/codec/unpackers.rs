//! Decompressors that threads share.

use std::sync::{Mutex, PoisonError};

use super::Unpacker;

/// The decompressors that no thread uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Unpackers(Mutex<Vec<Unpacker>>);

impl Unpackers {
    pub(crate) fn take(&self) -> Unpacker {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, unpacker: Unpacker) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(unpacker);
    }
}
