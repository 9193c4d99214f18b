//! The order in which metadata reaches the disk: the only place that has the barrier.
//!
//! Each of the two sides is a root table (L1 table, refcount table) over a cache of tables one
//! cluster long (L2 tables, refcount blocks). Within a side the tables are on disk before the root
//! that refers to them. Between the sides one direction holds at a time:
//!
//! * [`Direction::RefcountsFirst`] while allocating: no mapping reaches the disk before the
//!   refcounts and the guest data that it relies on are there.
//! * [`Direction::MappingsFirst`] while freeing: no lowered refcount reaches the disk before the
//!   mappings that let go of the cluster.
//!
//! Switching flushes and syncs the side that must go first: afterwards nothing is left that the
//! other direction could bring out of order, and a cluster that was freed can be used for other
//! data.
//!
//! A change that is built aside (see `switch`) needs no order: nothing refers to what it writes.

use std::ops::Range;

use crate::error::Result;
use crate::format::HostOffset;
use crate::storage::RangeSet;

use super::cache::{Room, TableCache};
use super::disk::Disk;
use super::regions::Owner;
use super::root::RootTable;

/// Which side goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Direction {
    /// Counts go up, then references appear.
    RefcountsFirst,
    /// References vanish, then counts go down.
    MappingsFirst,
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Side {
    /// The L1 table and L2 tables.
    Mappings,
    /// The refcount table and refcount blocks.
    Refcounts,
}

impl Side {
    const fn table_owner(self) -> (Owner, &'static str) {
        match self {
            Self::Mappings => (Owner::L2, "an L2 table"),
            Self::Refcounts => (Owner::Refblock, "a refcount block"),
        }
    }

    const fn root_owner(self) -> (Owner, &'static str) {
        match self {
            Self::Mappings => (Owner::L1, "the L1 table"),
            Self::Refcounts => (Owner::Reftable, "the refcount table"),
        }
    }
}

struct Tree {
    root: RootTable,
    tables: TableCache,
}

/// Both sides, and the disk below them.
pub(in crate::image) struct Ordering {
    pub(in crate::image) disk: Disk,
    mappings: Tree,
    refcounts: Tree,
    direction: Direction,
    deferred: bool,
    aside: bool,
    glance: Glance,
}

/// A table that was read for a look only, and is in no cache.
#[derive(Default)]
struct Glance {
    at: Option<HostOffset>,
    bytes: Vec<u8>,
}

impl Ordering {
    /// Both roots as stored in the file, and how many bytes of tables each side may hold in
    /// memory.
    pub(in crate::image) fn new(
        disk: Disk,
        l1: RootTable,
        reftable: RootTable,
        budgets: (usize, usize),
    ) -> Self {
        let table_len = disk.geometry.cluster_len();
        Self {
            disk,
            mappings: Tree { root: l1, tables: TableCache::new(table_len, budgets.0) },
            refcounts: Tree { root: reftable, tables: TableCache::new(table_len, budgets.1) },
            direction: Direction::RefcountsFirst,
            deferred: false,
            aside: false,
            glance: Glance::default(),
        }
    }

    const fn tree(&self, side: Side) -> &Tree {
        match side {
            Side::Mappings => &self.mappings,
            Side::Refcounts => &self.refcounts,
        }
    }

    const fn tree_mut(&mut self, side: Side) -> &mut Tree {
        match side {
            Side::Mappings => &mut self.mappings,
            Side::Refcounts => &mut self.refcounts,
        }
    }

    /// The root of a side.
    pub(in crate::image) const fn root(&self, side: Side) -> &RootTable {
        &self.tree(side).root
    }

    /// Changes an entry of a root in memory.
    pub(in crate::image) fn set_root_entry(&mut self, side: Side, index: usize, value: u64) {
        self.tree_mut(side).root.set(index, value);
    }

    /// From here on everything is written to new clusters. Both sides must be on disk.
    pub(in crate::image) fn begin_aside(&mut self) {
        debug_assert!(!self.is_dirty(), "a change begins with everything on disk");
        self.aside = true;
        self.disk.begin_aside();
    }

    /// Ends [`Ordering::begin_aside`]; returns the bytes of all new clusters.
    pub(in crate::image) fn end_aside(&mut self) -> RangeSet {
        self.aside = false;
        self.disk.end_aside()
    }

    /// Goes back to these roots (L1 table, refcount table), as the file has them and all that they
    /// refer to.
    pub(in crate::image) fn reset(&mut self, l1: RootTable, reftable: RootTable) {
        self.glance.at = None;
        self.mappings.tables.clear();
        self.refcounts.tables.clear();
        self.mappings.root = l1;
        self.refcounts.root = reftable;
    }

    /// Gives a table a new place, where the whole of it will be written.
    pub(in crate::image) fn relocate(
        &mut self,
        side: Side,
        from: HostOffset,
        to: HostOffset,
    ) -> Result<()> {
        let bytes = self.table(side, from)?.to_vec();
        self.forget(side, from);
        self.add(side, to, bytes)
    }

    fn is_dirty(&self) -> bool {
        let dirty = |tree: &Tree| tree.tables.is_dirty() || tree.root.is_dirty();
        dirty(&self.mappings) || dirty(&self.refcounts)
    }

    /// Changes a root in memory with a function of its own.
    pub(in crate::image) fn root_mut(&mut self, side: Side) -> &mut RootTable {
        &mut self.tree_mut(side).root
    }

    /// Puts another root in the place of one; the header already points to it.
    pub(in crate::image) fn replace_root(&mut self, side: Side, root: RootTable) {
        self.glance.at = None;
        self.tree_mut(side).root = root;
    }

    /// While refcounts are deferred (lazy refcounts, the dirty bit is set), mappings do not wait
    /// for them.
    pub(in crate::image) const fn defer_refcounts(&mut self, deferred: bool) {
        self.deferred = deferred;
    }

    /// Whether refcounts are deferred.
    pub(in crate::image) const fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// The table at `at`, read if it is not in memory.
    pub(in crate::image) fn table(&mut self, side: Side, at: HostOffset) -> Result<&[u8]> {
        self.load(side, at)?;
        Ok(self.tree_mut(side).tables.get(at).expect("a table just loaded is in memory"))
    }

    /// The table at `at` for one look among many: it puts no other out of memory.
    pub(in crate::image) fn glance(&mut self, side: Side, at: HostOffset) -> Result<&[u8]> {
        if self.tree(side).tables.holds(at) {
            return self.table(side, at);
        }
        if self.glance.at != Some(at) {
            self.glance.at = None;
            self.glance.bytes.resize(self.disk.geometry.cluster_len(), 0);
            self.disk.read(at, &mut self.glance.bytes, side.table_owner().1)?;
            self.glance.at = Some(at);
        }
        Ok(&self.glance.bytes)
    }

    /// The table at `at`, of which `range` is about to change.
    pub(in crate::image) fn change(
        &mut self,
        side: Side,
        at: HostOffset,
        range: Range<usize>,
    ) -> Result<&mut [u8]> {
        self.disk.usable()?;
        self.load(side, at)?;
        let tables = &mut self.tree_mut(side).tables;
        Ok(tables.change(at, range).expect("a table just loaded is in memory"))
    }

    /// A table in a cluster that was just allocated for it.
    pub(in crate::image) fn add(
        &mut self,
        side: Side,
        at: HostOffset,
        bytes: Vec<u8>,
    ) -> Result<()> {
        self.glance.at = None;
        self.make_room(side)?;
        self.tree_mut(side).tables.insert_new(at, bytes);
        Ok(())
    }

    /// The cluster at `at` is no longer a table of this side.
    pub(in crate::image) fn forget(&mut self, side: Side, at: HostOffset) {
        self.glance.at = None;
        self.tree_mut(side).tables.forget(at);
    }

    /// Sets the direction; a switch flushes and syncs the side that must go first.
    pub(in crate::image) fn begin(&mut self, direction: Direction) -> Result<()> {
        if self.direction == direction || self.aside {
            return Ok(());
        }
        match direction {
            Direction::RefcountsFirst => self.write_side(Side::Mappings)?,
            Direction::MappingsFirst if self.deferred => {}
            Direction::MappingsFirst => self.write_side(Side::Refcounts)?,
        }
        self.disk.sync()?;
        self.direction = direction;
        Ok(())
    }

    /// Brings everything to stable storage; deferred refcounts only with `all`.
    pub(in crate::image) fn flush(&mut self, all: bool) -> Result<()> {
        self.write_side(Side::Mappings)?;
        if all || !self.deferred {
            self.write_side(Side::Refcounts)?;
        }
        self.disk.sync()
    }

    fn load(&mut self, side: Side, at: HostOffset) -> Result<()> {
        if self.tree(side).tables.holds(at) {
            return Ok(());
        }
        // From here on it may change.
        self.glance.at = None;
        self.make_room(side)?;
        let mut bytes = vec![0; self.disk.geometry.cluster_len()];
        self.disk.read(at, &mut bytes, side.table_owner().1)?;
        self.tree_mut(side).tables.insert(at, bytes);
        Ok(())
    }

    fn make_room(&mut self, side: Side) -> Result<()> {
        while self.tree_mut(side).tables.make_room() == Room::WriteFirst {
            self.before_writing(side)?;
            self.write_tables(side)?;
        }
        Ok(())
    }

    /// What must be on stable storage before anything of `side` is written.
    fn before_writing(&mut self, side: Side) -> Result<()> {
        if self.aside {
            return Ok(());
        }
        match (side, self.direction) {
            (Side::Mappings, Direction::RefcountsFirst) if !self.deferred => {
                self.write_side(Side::Refcounts)?;
                self.disk.sync()
            }
            // Guest data comes before the mapping that refers to it, in either direction.
            (Side::Mappings, _) => self.disk.sync(),
            (Side::Refcounts, Direction::MappingsFirst) => {
                self.write_side(Side::Mappings)?;
                self.disk.sync()
            }
            (Side::Refcounts, Direction::RefcountsFirst) => Ok(()),
        }
    }

    /// Writes all changes of a side, tables before root.
    fn write_side(&mut self, side: Side) -> Result<()> {
        let tree = self.tree(side);
        if !tree.tables.is_dirty() && !tree.root.is_dirty() {
            return Ok(());
        }
        self.before_writing(side)?;
        self.write_tables(side)?;
        if !self.tree(side).root.is_dirty() {
            return Ok(());
        }
        if !self.aside {
            self.disk.sync()?;
        }
        let (owner, what) = side.root_owner();
        for (at, bytes) in self.tree(side).root.dirty_parts() {
            self.disk.write(owner, at, &bytes, what)?;
        }
        self.tree_mut(side).root.mark_written();
        Ok(())
    }

    fn write_tables(&mut self, side: Side) -> Result<()> {
        let tree = match side {
            Side::Mappings => &mut self.mappings,
            Side::Refcounts => &mut self.refcounts,
        };
        let (owner, what) = side.table_owner();
        for at in tree.tables.dirty_tables() {
            if let Some((place, bytes)) = tree.tables.dirty_part(at) {
                self.disk.write(owner, place, bytes, what)?;
            }
            tree.tables.mark_written(at);
        }
        Ok(())
    }
}
