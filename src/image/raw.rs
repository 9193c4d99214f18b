//! A raw backing file.

use std::sync::Arc;

use crate::storage::ReadAt;

/// A raw image that is read only.
pub struct RawBacking {
    pub(super) source: Arc<dyn ReadAt>,
    pub(super) bytes: u64,
}

impl RawBacking {
    /// Its bytes.
    pub fn storage(&self) -> &dyn ReadAt {
        self.source.as_ref()
    }
}

impl std::fmt::Debug for RawBacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawBacking").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
