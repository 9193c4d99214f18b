//! What sectors of an image held.

use super::encoding::{SHORT, short};
use crate::storage::is_zero;

/// What a sector held at some time.
#[derive(Debug, Clone, Copy)]
pub enum Held {
    Zero,
    Digest([u8; SHORT]),
}

impl Held {
    /// Whether these bytes are what it held.
    pub fn is(self, bytes: &[u8]) -> bool {
        match self {
            Self::Zero => is_zero(bytes),
            Self::Digest(digest) => short(bytes) == digest,
        }
    }
}
