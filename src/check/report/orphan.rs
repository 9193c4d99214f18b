//! An L2 table that no L1 entry points to, and the L1 entries that may have pointed to it.

use super::place::Source;
use crate::format::{HostOffset, L1Index, L2Index};

/// An L1 entry, by its table.
pub type Slot = (Source, L1Index);

/// An L2 table that no L1 entry points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its host offset.
    pub table: HostOffset,
    /// How many of its entries point to something.
    pub entries: u64,
    /// The first and the last of them.
    pub mapped: (L2Index, L2Index),
    /// Whether its refcount is 1, so that the entry that points to it has COPIED.
    pub alone: bool,
    /// The L1 entries that may have pointed to it, the first ones.
    pub slots: Vec<Slot>,
    /// How many more there are.
    pub more_slots: u64,
    /// How many other orphans may belong to one of these entries.
    pub rivals: u64,
    /// Whether it and other orphans refer to a cluster more often than its refcount allows.
    pub contradicted: bool,
    /// Whether the damaged entry itself proves that it pointed here, so that nobody has to decide.
    pub proven: bool,
}

impl Orphan {
    /// The only L1 entry that may have pointed to it, where no other orphan may belong there.
    pub fn owner(&self) -> Option<Slot> {
        let alone = self.more_slots == 0 && self.rivals == 0 && !self.contradicted;
        match self.slots[..] {
            [slot] if alone => Some(slot),
            _ => None,
        }
    }

    /// The only L1 entry that may have pointed to it, whatever else may belong there.
    pub fn sole_slot(&self) -> Option<Slot> {
        match self.slots[..] {
            [slot] if self.more_slots == 0 && !self.contradicted => Some(slot),
            _ => None,
        }
    }

    /// The L1 entry that is proven to have pointed to it.
    pub fn proven_owner(&self) -> Option<Slot> {
        self.owner().filter(|_| self.proven)
    }
}
