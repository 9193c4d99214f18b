//! Damage to an image as an error.

use std::fmt;
use std::io;

use crate::error::Error;
use crate::format::HostOffset;

/// Damage that an operation met: what is wrong at which host offset. Found as the source of the
/// [`Error::Io`] that the operation returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Host offset of what is damaged, in bytes.
    pub offset: HostOffset,
    /// What is wrong with it.
    pub reason: String,
}

impl Damage {
    /// The damage in an error, if it is about damage.
    pub fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Io { source, .. } => source.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Damage {}

/// An error about damage at a host offset.
pub(in crate::image) fn damaged(offset: HostOffset, reason: impl Into<String>) -> Error {
    let damage = Damage { offset, reason: reason.into() };
    let source = io::Error::new(io::ErrorKind::InvalidData, damage);
    Error::io("use the image's metadata", offset.get(), source)
}
