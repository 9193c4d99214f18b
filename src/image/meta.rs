//! The metadata of an open image, all of it under one lock.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::format::feature::{autoclear, compatible, incompatible};
use crate::format::header::{Header, HeaderField};
use crate::format::snapshot::SnapshotEntry;
use crate::format::{Geometry, HostCluster, HostOffset};

use super::ClusterRun;
use super::bitmaps::Bitmaps;
use super::ordering::{Ordering, Side};
use super::switch::Switch;

/// How many runs of clusters wait to be freed before they are.
const MAX_PENDING: usize = 4096;

/// Header, tables, and what is known about free room.
pub(super) struct Meta {
    pub(super) ordering: Ordering,
    pub(super) geometry: Geometry,
    pub(super) writable: bool,
    /// Whether what is not valid is not read either.
    pub(super) strict: bool,
    /// Where the file ended when something past its end was looked for last.
    pub(super) file_end: u64,
    /// Below this cluster nothing is free.
    pub(super) search_start: HostCluster,
    /// Where the next compressed data may go: behind the last, in its cluster.
    pub(super) packed_end: Option<HostOffset>,
    /// Clusters whose last reference from a mapping is gone; their counts are lowered together, later:
    /// each turn from allocating to freeing costs a flush.
    pub(super) pending: Vec<ClusterRun>,
    /// Freed by a discard, or by anything with `gives_back`: their room goes back to the file system at the next flush.
    pub(super) discarded: Vec<ClusterRun>,
    pub(super) gives_back: bool,
    /// `None` without bitmaps, and where they are out of date.
    pub(super) bitmaps: Option<Bitmaps>,
    pub(super) snapshots: Vec<SnapshotEntry>,
    pub(super) prepared: bool,
    /// While a change of the whole image is built aside.
    pub(super) switch: Option<Switch>,
    /// While a change of the whole image is made in place: the dirty bit is set before its first step.
    pub(super) in_place: bool,
    /// Once this is set, a change that is built aside is given up.
    pub(super) cancel: Option<Arc<AtomicBool>>,
}

impl Meta {
    /// The header as it stands in the file.
    pub(super) const fn header(&self) -> &Header {
        self.ordering.disk.header()
    }

    /// Whether guest data lies in an external data file.
    pub(super) const fn has_data_file(&self) -> bool {
        self.header().has_data_file()
    }

    /// An error unless the image may be written.
    pub(super) fn require_writable(&self) -> Result<()> {
        if !self.writable {
            return Err(Error::Refused("the image is open for reading only".into()));
        }
        self.ordering.disk.usable()
    }

    /// Before the first change of anything: clears autoclear bits that are not known here, since what
    /// they promise may no longer hold.
    pub(super) fn prepare_write(&mut self) -> Result<()> {
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

    /// Before refcounts change: with lazy refcounts, and for a change in place, the dirty bit is on disk first.
    pub(super) fn prepare_refcounts(&mut self) -> Result<()> {
        self.prepare_write()?;
        if self.switch.is_some() || self.header().version < 3 {
            return Ok(());
        }
        let lazy = self.header().compatible & compatible::LAZY_REFCOUNTS != 0;
        if lazy || self.in_place {
            self.set_dirty(true)?;
        }
        if lazy {
            self.ordering.defer_refcounts(true);
        }
        Ok(())
    }

    /// Sets or clears the dirty bit on disk.
    pub(super) fn set_dirty(&mut self, dirty: bool) -> Result<()> {
        let old = self.header().incompatible;
        let bits = if dirty { old | incompatible::DIRTY } else { old & !incompatible::DIRTY };
        if bits == old {
            return Ok(());
        }
        self.ordering.disk.patch_header(&[(HeaderField::Incompatible, bits)])?;
        self.ordering.disk.sync()
    }

    /// Queues clusters whose reference was just taken out of a mapping.
    pub(super) fn free_later(&mut self, run: ClusterRun) {
        match self.pending.last_mut() {
            Some(last) if last.end() == run.first => last.count += run.count,
            _ => self.pending.push(run),
        }
    }

    /// Frees what waits, where there is much of it.
    pub(super) fn limit_pending(&mut self) -> Result<()> {
        if self.pending.len() < MAX_PENDING { Ok(()) } else { self.free_pending() }
    }

    /// Lowers the counts of all clusters that wait for it. Every run is tried; the first error is told.
    pub(super) fn free_pending(&mut self) -> Result<()> {
        let mut runs = std::mem::take(&mut self.pending);
        runs.sort_unstable_by_key(|run| run.first);
        let mut outcome = Ok(());
        for run in runs {
            outcome = outcome.and(self.lower(run, 1));
        }
        outcome
    }

    /// Brings all changes to stable storage. Deferred refcounts only with `all`.
    pub(super) fn flush(&mut self, all: bool) -> Result<()> {
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

    /// What bitmaps recorded and all counts to the disk, then the dirty bit off.
    pub(super) fn end_deferring(&mut self) -> Result<()> {
        self.flush(true)?;
        self.store_bitmaps()?;
        if self.ordering.is_deferred() {
            self.set_dirty(false)?;
            self.ordering.defer_refcounts(false);
        }
        Ok(())
    }

    /// The tables of a side of the image, for what is known about the whole.
    pub(super) fn l1_entries(&self) -> &[u64] {
        self.ordering.root(Side::Mappings).entries()
    }
}
