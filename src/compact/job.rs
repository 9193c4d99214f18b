//! What the parts of the work share.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;

use super::{CompactOptions, Outcome};
use crate::convert::Control;
use crate::convert::flow::Rate;
use crate::error::{Error, Result};
use crate::format::HostCluster;
use crate::image::{Content, Copying, Image, References, Step};

/// Most steps of a batch: of small clusters there are many in few bytes.
pub(super) const BATCH_STEPS: usize = 1 << 14;

/// Groups of at least so many bytes are copied while the pointers of others change.
const AHEAD_BYTES: u64 = 4 << 20;

/// The work on one image.
pub(super) struct Job<'a> {
    pub(super) image: &'a Image,
    pub(super) options: &'a CompactOptions,
    pub(super) control: Control<'a>,
    pub(super) copying: Copying,
    pub(super) rate: Option<Rate>,
    /// Clusters that stay where they are.
    pub(super) mixed: HashSet<HostCluster>,
    pub(super) outcome: Outcome,
}

impl Job<'_> {
    /// [`Error::Cancelled`] where the work is to end; waits where `bytes` are over the rate.
    pub(super) fn begin(&self, bytes: u64) -> Result<()> {
        if let Some(rate) = &self.rate {
            rate.take(bytes, self.control.cancel);
        }
        match self.control.cancel.load(Relaxed) || self.control.progress.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Steps in batches, the last steps first. Together with data that it refers to, the copy of an
    /// L2 table would look after a crash as if no pointer to it was left: it comes after them.
    pub(super) fn groups(&self, found: &References, steps: &[Step]) -> Vec<Vec<Step>> {
        let mut groups = Vec::new();
        for steps in steps.rchunks(self.per_batch()) {
            let is_table =
                |step: &Step| found.plain[step.references.start].holder.content() == Content::Table;
            let (tables, data): (Vec<_>, Vec<_>) = steps.iter().cloned().partition(is_table);
            groups.extend([data, tables].into_iter().filter(|steps| !steps.is_empty()));
        }
        groups
    }

    /// Clusters of a batch, at least one.
    pub(super) fn per_batch(&self) -> usize {
        let size = self.image.geometry().cluster_bytes();
        usize::try_from(self.batch_bytes() / size).unwrap_or(usize::MAX).clamp(1, BATCH_STEPS)
    }

    /// With a rate, what moves in a second or so.
    pub(super) fn batch_bytes(&self) -> u64 {
        let batch = self.options.batch;
        self.options.rate.map_or(batch, |rate| rate.min(batch))
    }

    /// Moves groups of clusters, one after the other. While the pointers of one change, the next is
    /// copied.
    pub(super) fn move_groups(
        &mut self,
        found: &mut References,
        groups: &[Vec<Step>],
    ) -> Result<()> {
        let (image, size) = (self.image, self.image.geometry().cluster_bytes());
        let bytes_of = |steps: &[Step]| steps.len() as u64 * size;
        let mut is_copied = false;
        for (n, steps) in groups.iter().enumerate() {
            self.begin(bytes_of(steps))?;
            if !is_copied {
                image.announce_moves()?;
                image.copy_ahead(&image.plan_copies(found, steps, self.copying)?)?;
            }
            let is_large = |next: &&Vec<Step>| bytes_of(next) >= AHEAD_BYTES;
            let next = groups.get(n + 1).filter(is_large).filter(|_| self.rate.is_none());
            let runs = match next {
                Some(next) => image.plan_copies(found, next, self.copying)?,
                None => Vec::new(),
            };
            is_copied = next.is_some();
            std::thread::scope(|scope| {
                let copy = || image.copy_ahead(&runs).and_then(|()| image.sync_copies());
                let copier = (!runs.is_empty()).then(|| scope.spawn(copy));
                let done = image.point_to_copies(found, steps);
                let copied = copier.map_or(Ok(()), |copier| join(copier));
                done.and(copied)
            })?;
            self.moved(bytes_of(steps));
        }
        Ok(())
    }

    /// Whether nothing outside of memory is to change.
    pub(super) fn is_plan(&self) -> bool {
        self.copying == Copying::Nothing
    }

    /// Bytes that may still move.
    pub(super) fn left(&self) -> u64 {
        self.options.max_moves.map_or(u64::MAX, |most| most.saturating_sub(self.outcome.moved))
    }

    /// Notes bytes that have moved.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.outcome.moved += bytes;
        self.control.progress.advance(bytes);
    }

    /// The first cluster that may move.
    pub(super) fn floor(&self) -> HostCluster {
        HostCluster::new(self.image.geometry().clusters_for(self.options.floor()).get())
    }
}

/// What a thread returns; a panic in it goes on here.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
