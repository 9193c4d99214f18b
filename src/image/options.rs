//! How to open an image.

use std::path::PathBuf;

use crate::chain::{Below, Instead};
use crate::crypt::Key;
use crate::format::snapshot::SnapshotEntry;
use crate::setters::setters;

/// What to do about the backing file that an image names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackingPolicy {
    /// Open it in the format that the image gives; without one, as raw, unless it begins like
    /// another format.
    #[default]
    AsNamed,
    /// Open it in the format that the image gives, or else in this one ("raw" or "qcow2").
    AsNamedOr(String),
    /// Do not open it: for work on metadata alone. Reading a guest byte that is in it fails.
    Leave,
    /// Open this many backing files, one below the other, and leave the next one closed: for work
    /// on the data of the upper images of a chain. With 0 it is [`BackingPolicy::Leave`].
    Layers(usize),
    /// Open this file in this format instead.
    Instead(PathBuf, String),
    /// Open the image of a description instead. Without a format it has the one that the image
    /// gives.
    Described(Below),
}

/// How to open an image.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The image's own path: relative names in it are resolved against its folder.
    pub path: Option<PathBuf>,
    /// What to do about the backing file.
    pub backing: BackingPolicy,
    /// Read the snapshot with this entry instead of the active state. For reading only; the
    /// snapshot table is not read again.
    pub snapshot: Option<SnapshotEntry>,
    /// Use this external data file, not the one that the image names.
    pub data_file: Option<PathBuf>,
    /// The secret of an encrypted image. Without one its guest data can be neither read nor
    /// written.
    pub key: Key,
    /// Reading through an entry that is not valid is an error, also where QEMU reads zeroes or
    /// other bytes through it: reserved bits, places past the end of the file, an L2 table in the
    /// place of other metadata.
    pub strict: bool,
    /// Most bytes of L2 tables in memory; 0: 16 MiB. At least four tables are held.
    pub l2_cache_bytes: usize,
    /// Most bytes of refcount blocks in memory; 0: 4 MiB. At least four blocks are held.
    pub refblock_cache_bytes: usize,
}

setters!(OpenOptions {
    path: Option<PathBuf>,
    backing: BackingPolicy,
    snapshot: Option<SnapshotEntry>,
    data_file: Option<PathBuf>,
    key: Key,
    strict: bool,
    l2_cache_bytes: usize,
    refblock_cache_bytes: usize,
});

impl OpenOptions {
    /// The same with what a description has in place of what is in the image.
    #[must_use]
    pub fn with(mut self, instead: Instead) -> Self {
        if let Some(below) = instead.backing {
            self.backing = BackingPolicy::Described(below);
        }
        self.data_file = instead.data_file.or(self.data_file);
        self
    }

    /// What of the options for an image holds for the one below it.
    pub(super) fn below(above: &Self) -> Self {
        let backing = match &above.backing {
            BackingPolicy::AsNamedOr(format) => BackingPolicy::AsNamedOr(format.clone()),
            BackingPolicy::Layers(layers) => BackingPolicy::Layers(layers.saturating_sub(1)),
            _ => BackingPolicy::AsNamed,
        };
        let key = above.key.renamed(None);
        Self { backing, key, strict: above.strict, ..Self::default() }
    }
}
