//! The refcount structures of an image as they stand.

use crate::format::{HostOffset, ReftableIndex};

/// A refcount table entry that points to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its position in the table.
    pub index: ReftableIndex,
    /// The block's offset by the refcount table.
    pub offset: HostOffset,
    /// Whether the pointer is valid and the cluster its own.
    pub sound: bool,
}

/// The refcount structures as they stand.
#[derive(Debug, Default)]
pub struct Refcounts {
    /// The entries of the refcount table.
    pub entries: Vec<u64>,
    /// The entries that point to something, in order.
    pub blocks: Vec<Block>,
    /// The table's own place is wrong, so no count can be read.
    pub unreadable: bool,
}

impl Refcounts {
    /// The block that describes this part of the file.
    pub fn block(&self, index: ReftableIndex) -> Option<Block> {
        let found = self.blocks.binary_search_by_key(&index, |b| b.index);
        found.ok().map(|at| self.blocks[at])
    }

    /// Whether the structure cannot be repaired by changes of refcounts in its blocks.
    pub fn is_broken(&self) -> bool {
        self.unreadable || self.blocks.iter().any(|b| !b.sound)
    }
}
