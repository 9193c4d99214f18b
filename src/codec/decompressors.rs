//! Decompressors that threads share.

use std::sync::{Mutex, PoisonError};

use super::Decompressor;

/// The decompressors that no thread uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Decompressors(Mutex<Vec<Decompressor>>);

impl Decompressors {
    pub(crate) fn take(&self) -> Decompressor {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, decompressor: Decompressor) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(decompressor);
    }
}
