//! Compressed data moved or freed, with all references to it.
//!
//! Bytes keep their position within their first sector, so that the number of sectors in an entry
//! stays right and data that share a sector can be moved together.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::error::Result;
use crate::format::l2::{CompressedExtent, L2Entry, SECTOR_BYTES};
use crate::format::{HostCluster, HostOffset};

use super::Copying;
use super::marks::Changes;
use super::plain::zeroed;
use super::references::References;
use crate::image::Image;
use crate::image::damage::damaged;
use crate::image::meta::Meta;
use crate::image::run::ClusterRun;

/// What happens to the compressed data of one extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedStep {
    /// The data.
    pub(crate) from: CompressedExtent,
    /// Where it goes, at the same position in a sector; `None`: it is freed, and reads as zeroes.
    pub(crate) to: Option<HostOffset>,
    /// The references that change, in [`References::packed`].
    pub(crate) references: Range<usize>,
}

/// Refcounts by cluster.
pub(super) type Counts = BTreeMap<HostCluster, u64>;

impl Image {
    /// Does the steps, in ascending order of where they go. What is moved goes to clusters that are
    /// free, or that were free before earlier steps went there: `taken` has those. After an error
    /// clusters are leaked at worst.
    pub(crate) fn move_packed(
        &self,
        found: &References,
        steps: &[PackedStep],
        taken: &mut HashSet<HostCluster>,
        copying: Copying,
    ) -> Result<()> {
        let (mut new, mut old) = (Counts::new(), Counts::new());
        for step in steps {
            let weight = found.count_packed(&step.references);
            let add = |counts: &mut Counts, at| {
                let run = ClusterRun::of(&self.geometry, at, step.from.bytes);
                run.clusters().for_each(|cluster| *counts.entry(cluster).or_default() += weight);
            };
            add(&mut old, step.from.offset);
            if let Some(to) = step.to {
                add(&mut new, to);
            }
        }
        self.meta()?.announce_moves()?;
        let changes = self.meta()?.packed_changes(&old, &new, taken)?;
        if copying == Copying::Data {
            self.copy_packed(steps)?;
        }
        let meta = &mut *self.meta()?;
        // What was in a free cluster before is gone when its refcount gets higher.
        meta.ordering.disk.sync()?;
        meta.raise_for(&changes)?;
        taken.extend(new.keys());
        meta.redirect_packed(found, steps, &changes, self.backing.is_some())
    }

    /// Copies whole sectors; those that follow each other in both places together.
    fn copy_packed(&self, steps: &[PackedStep]) -> Result<()> {
        let mut run: Option<(u64, u64, u64)> = None;
        for step in steps {
            let Some(to) = step.to else { continue };
            let within = to.get() % SECTOR_BYTES;
            debug_assert_eq!(within, step.from.offset.get() % SECTOR_BYTES, "same in its sector");
            let (from, to) = (step.from.offset.get() - within, to.get() - within);
            let end = from + within + step.from.bytes;
            run = match run {
                Some((first, target, last))
                    if from >= first && from <= last && from - first == to.wrapping_sub(target) =>
                {
                    Some((first, target, last.max(end)))
                }
                done => {
                    self.copy_sectors(done)?;
                    Some((from, to, end))
                }
            };
        }
        self.copy_sectors(run)
    }

    fn copy_sectors(&self, run: Option<(u64, u64, u64)>) -> Result<()> {
        let Some((from, to, end)) = run else { return Ok(()) };
        let bytes = end - from;
        self.meta()?.ordering.disk.check_data(HostOffset::new(to), bytes)?;
        let mut buf = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let failed = |e| crate::error::Error::io("read compressed data", from, e);
        self.file.read_padded_at(from, &mut buf).map_err(failed)?;
        let failed = |e| crate::error::Error::io("write compressed data", to, e);
        self.file.write_at(to, &buf).map_err(failed)?;
        self.meta()?.ordering.disk.note_data();
        Ok(())
    }
}

impl Meta {
    /// How refcounts change; an error where a cluster is used by others, or has no space for the
    /// references.
    pub(super) fn packed_changes(
        &mut self,
        old: &Counts,
        new: &Counts,
        taken: &HashSet<HostCluster>,
    ) -> Result<Changes> {
        let most = self.geometry.refcount_max();
        let mut changes = Changes::default();
        for (&cluster, &count) in new {
            if !taken.contains(&cluster) {
                self.require_free(cluster)?;
            }
            let had = self.refcount(cluster)?;
            if had.checked_add(count).is_none_or(|sum| sum > most) {
                let at = self.geometry.offset_of(cluster);
                return Err(damaged(at, "more compressed data than its refcount can count"));
            }
            changes.add(self, cluster, had, count);
        }
        for (&cluster, &count) in old {
            let had = self.refcount(cluster)?;
            changes.take(self, cluster, had, count);
        }
        Ok(changes)
    }

    fn redirect_packed(
        &mut self,
        found: &References,
        steps: &[PackedStep],
        changes: &Changes,
        hides: bool,
    ) -> Result<()> {
        for step in steps {
            for reference in &found.packed[step.references.clone()] {
                let table = found.tables[reference.table as usize].at;
                self.change_entry(table, reference.index, |geometry, old: L2Entry| {
                    match step.to {
                        Some(to) => old.moved(geometry, to),
                        None => zeroed(old, geometry.extended_l2(), hides),
                    }
                })?;
            }
        }
        self.ordering.flush(true)?;
        self.lower_for(changes)
    }
}
