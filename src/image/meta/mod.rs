//! The metadata of an open image, all of it under one lock.

mod announce;
pub(in crate::image) mod bitmaps;
pub(super) mod encryption;
pub(in crate::image) mod first_cluster;
pub(in crate::image) mod moves;
pub(in crate::image) mod switch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::format::feature::{autoclear, compatible, incompatible};
use crate::format::header::{Header, HeaderField};
use crate::format::snapshot::SnapshotEntry;
use crate::format::{Geometry, HostCluster, HostOffset};

use crate::image::order::ordering::{Ordering, Side};
use crate::image::run::ClusterRun;
use bitmaps::Bitmaps;
use moves::Moves;
use switch::Switch;

/// How many runs of clusters wait to be freed before they are.
const MAX_PENDING: usize = 4096;

/// Header, tables, and what is known about free space.
pub(in crate::image) struct Meta {
    pub(in crate::image) ordering: Ordering,
    pub(in crate::image) geometry: Geometry,
    pub(in crate::image) writable: bool,
    /// Whether what is not valid is not read either.
    pub(in crate::image) strict: bool,
    /// Where the file ended when something past its end was looked for last.
    pub(in crate::image) file_end: u64,
    /// Below this cluster nothing is free.
    pub(in crate::image) search_start: HostCluster,
    /// Where the next compressed data may go: after the last, in its cluster.
    pub(in crate::image) packed_end: Option<HostOffset>,
    /// Clusters whose last reference from a mapping is gone; their refcounts are lowered together,
    /// later: each turn from allocating to freeing costs a flush.
    pub(in crate::image) pending: Vec<ClusterRun>,
    /// Freed by a discard, or by anything with `gives_back`: their space goes back to the file
    /// system at the next flush.
    pub(in crate::image) discarded: Vec<ClusterRun>,
    pub(in crate::image) gives_back: bool,
    /// `None` without bitmaps, and where they are out of date.
    pub(in crate::image) bitmaps: Option<Bitmaps>,
    pub(in crate::image) snapshots: Vec<SnapshotEntry>,
    pub(in crate::image) prepared: bool,
    /// While a change of the whole image is built aside.
    pub(in crate::image) switch: Option<Switch>,
    /// While a change of the whole image is made in place: the dirty bit is set before its first
    /// step.
    pub(in crate::image) in_place: bool,
    /// While clusters are on the move.
    pub(in crate::image) moves: Moves,
    /// Once this is set, a change that is built aside is given up.
    pub(in crate::image) cancel: Option<Arc<AtomicBool>>,
}

impl Meta {
    /// The header as stored in the file.
    pub(in crate::image) const fn header(&self) -> &Header {
        self.ordering.disk.header()
    }

    /// Whether guest data is in an external data file.
    pub(in crate::image) const fn has_data_file(&self) -> bool {
        self.header().has_data_file()
    }

    /// An error unless the image may be written.
    pub(in crate::image) fn require_writable(&self) -> Result<()> {
        if !self.writable {
            return Err(Error::Refused("the image is open for reading only".into()));
        }
        self.ordering.disk.usable()
    }

    /// Before the first change of anything: clears autoclear bits that are not known here, since
    /// what they promise may no longer hold.
    pub(in crate::image) fn prepare_write(&mut self) -> Result<()> {
        self.require_writable()?;
        if self.prepared {
            return Ok(());
        }
        let known = self.header().autoclear & autoclear::KNOWN;
        if known != self.header().autoclear {
            self.ordering.disk.patch_header(&[(HeaderField::Autoclear, known)])?;
            self.ordering.disk.sync()?;
        }
        self.prepared = true;
        Ok(())
    }

    /// Before refcounts change: with lazy refcounts, and for a change in place, the dirty bit is on
    /// disk first.
    pub(in crate::image) fn prepare_refcounts(&mut self) -> Result<()> {
        self.prepare_write()?;
        if self.switch.is_some() || self.header().version < 3 {
            return Ok(());
        }
        let lazy =
            self.header().compatible & compatible::LAZY_REFCOUNTS != 0 && !self.moves.is_eager;
        if lazy || self.in_place {
            self.set_dirty(true)?;
        }
        if lazy {
            self.ordering.defer_refcounts(true);
        }
        Ok(())
    }

    /// Sets or clears the dirty bit on disk.
    pub(in crate::image) fn set_dirty(&mut self, dirty: bool) -> Result<()> {
        let old = self.header().incompatible;
        let bits = if dirty { old | incompatible::DIRTY } else { old & !incompatible::DIRTY };
        if bits == old {
            return Ok(());
        }
        self.ordering.disk.patch_header(&[(HeaderField::Incompatible, bits)])?;
        self.ordering.disk.sync()
    }

    /// Queues clusters whose reference was just taken out of a mapping.
    pub(in crate::image) fn free_later(&mut self, run: ClusterRun) {
        match self.pending.last_mut() {
            Some(last) if last.end() == run.first => last.count += run.count,
            _ => self.pending.push(run),
        }
    }

    /// Frees what waits, where there is much of it.
    pub(in crate::image) fn limit_pending(&mut self) -> Result<()> {
        if self.pending.len() < MAX_PENDING { Ok(()) } else { self.free_pending() }
    }

    /// Lowers the refcounts of all clusters that wait for it. Every run is tried; the first error
    /// is reported.
    pub(in crate::image) fn free_pending(&mut self) -> Result<()> {
        let mut runs = std::mem::take(&mut self.pending);
        runs.sort_unstable_by_key(|run| run.first);
        let mut outcome = Ok(());
        for run in runs {
            outcome = outcome.and(self.lower(run, 1));
        }
        outcome
    }

    /// Brings all changes to stable storage. Deferred refcounts only with `all`.
    pub(in crate::image) fn flush(&mut self, all: bool) -> Result<()> {
        if !self.writable || self.switch.is_some() {
            return Ok(());
        }
        let freed = self.free_pending();
        // Guest data that was overwritten in place is not counted anywhere else.
        self.ordering.disk.note_data();
        self.ordering.flush(all)?;
        freed?;
        self.punch_discarded()
    }

    /// What bitmaps recorded and all refcounts to the disk, then the dirty bit off.
    pub(in crate::image) fn end_deferring(&mut self) -> Result<()> {
        self.flush(true)?;
        self.store_bitmaps()?;
        if self.ordering.is_deferred() {
            self.set_dirty(false)?;
            self.ordering.defer_refcounts(false);
        }
        Ok(())
    }

    /// The tables of a side of the image, for what is known about the whole.
    pub(in crate::image) fn l1_entries(&self) -> &[u64] {
        self.ordering.root(Side::Mappings).entries()
    }
}
