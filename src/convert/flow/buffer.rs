//! Reusable buffers that are aligned for direct I/O.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// What direct I/O asks of addresses, at most.
const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of 4 KiB in memory.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Makes the buffer this long; what it holds then is anything.
    pub(crate) fn set_len(&mut self, length: usize) {
        if self.bytes.len() < length + ALIGNMENT {
            self.bytes = vec![0; length + ALIGNMENT];
            self.start = self.bytes.as_ptr().align_offset(ALIGNMENT);
        }
        self.length = length;
    }

    /// Makes the buffer longer with zeroes and keeps what it holds.
    pub(crate) fn extend_zeroed(&mut self, length: usize) {
        let old = self.length;
        if self.bytes.len() < self.start + length {
            let mut longer = Self::default();
            longer.set_len(length);
            longer[..old].copy_from_slice(self);
            *self = longer;
        }
        self.length = length;
        self[old..].fill(0);
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// Buffers that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Buffer>>);

impl Pool {
    /// A buffer of this length that holds anything.
    pub(crate) fn take(&self, length: usize) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.set_len(length);
        buffer
    }

    /// Keeps a buffer for later.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}
