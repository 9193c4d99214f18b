//! The L2 tables of all disks, and what the walk through them leaves to the passes that follow.

use std::collections::HashSet;
use std::io;
use std::ops::Range;

use super::copied::CopiedSummary;
use super::refcount_map::RefcountMap;
use super::visits::{Visit, Visits};
use crate::check::report::{Finding, Kind, Place, Source};
use crate::format::{Geometry, HostOffset, L1Index};

/// From so many bytes of tables on, holes among them are looked for before they are read.
pub const MANY_BYTES: u64 = 1 << 30;
/// Compressed extents that are kept to be compared with each other; where there are more, tables
/// are read again.
pub const MAX_EXTENTS: usize = 1 << 22;

/// Findings on their way, with the place in the order of visits where they belong.
pub type Pending = Vec<(usize, Finding)>;

/// An L2 table.
#[derive(Debug)]
pub struct Table {
    /// Its offset.
    pub offset: HostOffset,
    /// Its visits in [`Mapping::order`].
    visits: Range<u32>,
    /// Whether it is not read: it is one of too many in the middle of clusters.
    pub unread: bool,
    /// Whether every entry is 0: it maps nothing.
    pub blank: bool,
}

impl Table {
    /// How many L1 entries point to it.
    pub fn times(&self) -> u64 {
        u64::from(self.visits.end - self.visits.start)
    }
}

/// What the walk leaves to the passes that follow.
#[derive(Default)]
pub struct Mapping {
    /// The L1 entries that point to a table, the active disk's first.
    pub visits: Visits,
    /// The tables in the file, by offset.
    pub tables: Vec<Table>,
    /// The COPIED flags of the tables, one summary each.
    pub copied: Vec<CopiedSummary>,
    /// Positions in `visits`, table by table.
    order: Vec<u32>,
    /// References of the active disk to data clusters.
    pub active: RefcountMap,
    /// References of compressed extents.
    pub compressed: RefcountMap,
    /// Compressed extents of all tables, as descriptors without flags, up to [`MAX_EXTENTS`].
    pub extents: Vec<u64>,
    /// Tables in which most entries are damaged: something else was written there.
    pub garbage: HashSet<HostOffset>,
}

impl Mapping {
    /// The tables that map something, and that begin at a cluster, so that they can be read once
    /// more.
    pub fn usable_tables(&self, geometry: &Geometry) -> impl Iterator<Item = &Table> {
        let usable =
            |table: &&Table| !table.blank && !table.unread && geometry.is_aligned(table.offset);
        self.tables.iter().filter(usable)
    }

    /// The L1 entries that point to a table, with their positions in `visits`.
    pub fn visits_of(&self, table: &Table) -> impl Iterator<Item = (usize, Visit)> + use<'_> {
        self.positions_of(table).iter().map(|&v| (v as usize, self.visits.get(v as usize)))
    }

    /// The positions in `visits` of the L1 entries that point to a table.
    pub fn positions_of(&self, table: &Table) -> &[u32] {
        &self.order[table.visits.start as usize..table.visits.end as usize]
    }

    /// Whether L1 entries of different indices point to a table: at most one of them can be right.
    pub fn is_at_two_places(&self, table: &Table) -> bool {
        let mut indices = self.visits_of(table).map(|(_, visit)| visit.index);
        let first = indices.next();
        indices.any(|index| Some(index) != first)
    }

    /// A table that could not be read once more, though it could before.
    pub fn unreadable(&self, table: &Table, error: &io::Error) -> Finding {
        let (what, offset) = ("L2 table", table.offset);
        let (_, visit) = self
            .visits_of(table)
            .next()
            .unwrap_or_else(|| unreachable!("a table is one since something points to it"));
        let kind = Kind::Unreadable { what, offset, error: error.to_string() };
        Finding::new(kind, Place::L1(visit.source, visit.index))
    }

    /// Sorts the tables by file offset; those past the end, at `file_bytes`, are left out.
    pub fn group(&mut self, file_bytes: u64) {
        let offset = |v: u32| self.visits.entry(v as usize).offset();
        self.order = (0u32..).zip(0..self.visits.len()).map(|(number, _)| number).collect();
        self.order.sort_unstable_by_key(|&v| (offset(v), v));
        let in_file = self.order.partition_point(|&v| offset(v).get() < file_bytes);
        self.order.truncate(in_file);
        let same = |&a: &u32, &b: &u32| offset(a) == offset(b);
        self.tables.reserve_exact(self.order.chunk_by(same).count());
        let mut start = 0;
        for same in self.order.chunk_by(same) {
            let end = start + u32::try_from(same.len()).unwrap_or(u32::MAX);
            let offset = offset(same[0]);
            self.tables.push(Table { offset, visits: start..end, unread: false, blank: false });
            start = end;
        }
    }

    pub fn reach(&self, table: &Table) -> Reach {
        let active = self.visits_of(table).filter(|(_, v)| v.source == Source::Active).count();
        let first = self.order[table.visits.start as usize];
        let index = self.visits.get(first as usize).index;
        Reach { times: table.times(), active: active as u64, index }
    }
}

/// How a table is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach {
    /// L1 entries that point to it.
    pub times: u64,
    /// How many of them are of the active L1 table.
    pub active: u64,
    /// The index of the first of them.
    pub index: L1Index,
}
