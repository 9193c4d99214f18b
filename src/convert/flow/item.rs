//! Pieces of the work: ranges of the disk, and where they come from.

use super::buffer::{Buffer, Pool};
use crate::error::Result;

/// A range of the disk that one thread works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    /// Counts up from 0 without a gap.
    pub(crate) number: u64,
    /// Its first byte.
    pub(crate) start: u64,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// What is known of it.
    pub(crate) kind: Kind,
}

/// What is known of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All zeroes.
    Zero,
    /// Has to be read.
    Data,
    /// What the target's backing file has, too, or a target that exists itself.
    Backing,
}

/// Where items come from, one after the other.
pub(crate) trait Items: Send {
    /// The next item, of data with its bytes where they are read already; `None` at the end.
    fn next(&mut self, pool: &Pool) -> Result<Option<(Item, Option<Buffer>)>>;
}
