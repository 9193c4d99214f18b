//! Carries a plan out: every stage is on stable storage before the next begins.

use std::ops::Range;

use super::journal::{Journal, Round};
use super::mark;
use crate::error::{Error, Result};
use crate::format::l1::COPIED;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{HostCluster, HostOffset, ReftableIndex};
use crate::repair::plan::counts;
use crate::repair::plan::purpose::Purpose;
use crate::repair::plan::step::{CountChange, Stage, StageKind, Step, Write};
use crate::sector::SECTOR_LEN;
use crate::storage::{Latch, Storage};

/// Runs the stages in order; returns the clusters whose refcount became 0.
pub fn apply(
    storage: &dyn Storage,
    round: &Round<'_>,
    journal: &mut dyn Journal,
) -> Result<Vec<Range<HostCluster>>> {
    let storage = Latch::new(storage);
    let mark = mark::setting(round.survey);
    let mut work = Work { storage: &storage, round, journal, mark, released: Vec::new() };
    for stage in &round.plan.stages {
        work.journal.stage(round.number, stage.kind);
        for step in &stage.steps {
            work.journal.step(&|| round.purpose(step));
            Job { work: &mut work, stage, step }.run()?;
        }
        storage.sync().map_err(|e| Error::file(format!("flush {}", stage.kind.text()), e))?;
    }
    Ok(work.released)
}

/// A round under way.
struct Work<'a> {
    storage: &'a dyn Storage,
    round: &'a Round<'a>,
    journal: &'a mut dyn Journal,
    /// What marks the image, until it is marked.
    mark: Option<Vec<u8>>,
    released: Vec<Range<HostCluster>>,
}

/// A step under way.
struct Job<'a, 'b> {
    work: &'a mut Work<'b>,
    stage: &'a Stage,
    step: &'a Step,
}

impl Job<'_, '_> {
    fn run(mut self) -> Result<()> {
        let plan = self.work.round.plan;
        match &self.step.write {
            Write::Bytes { offset, bytes, what } => self.write(*offset, bytes, what),
            Write::Counts { index, block, change } => self.counts(*index, *block, *change),
            Write::NewBlock { index, block } => {
                let mut bytes = vec![0; plan.geometry.cluster_len()];
                plan.target.encode_block(*index, &plan.geometry, &mut bytes);
                self.write(*block, &bytes, "a refcount block")
            }
            Write::Copy { from, to, table } => self.copy(*from, *to, *table),
            Write::Copied { table, set } => self.copied(*table, *set),
        }
    }

    fn write(&mut self, offset: HostOffset, bytes: &[u8], what: &str) -> Result<()> {
        if !mark::is_harmless(self.step, self.work.round.survey) {
            self.mark()?;
        }
        let failed = |e| Error::io(format!("write {what}"), offset.get(), e);
        self.work.storage.write_at(offset.get(), bytes).map_err(failed)
    }

    /// Marks the image, unless it is marked already.
    fn mark(&mut self) -> Result<()> {
        let Work { storage, round, journal, mark, .. } = &mut *self.work;
        let Some(bits) = mark.take() else { return Ok(()) };
        let risk = round.plan.risk;
        journal.stage(round.number, StageKind::Mark);
        journal.step(&|| Purpose::new(mark::WHAT, Vec::new(), risk));
        let failed = |e| Error::io(format!("write {}", mark::WHAT), mark::place(), e);
        storage.write_at(mark::place(), &bits).and_then(|()| storage.sync()).map_err(failed)?;
        journal.stage(round.number, self.stage.kind);
        journal.step(&|| round.purpose(self.step));
        Ok(())
    }

    fn read(&self, offset: HostOffset, len: usize, what: &str) -> Result<Vec<u8>> {
        read(self.work.storage, offset, len, what)
    }

    /// Writes the sectors in which `new` differs from `old`, neighbouring ones together.
    fn write_changes(
        &mut self,
        offset: HostOffset,
        old: &[u8],
        new: &[u8],
        what: &str,
    ) -> Result<()> {
        let mut run: Option<Range<usize>> = None;
        for (number, (was, is)) in old.chunks(SECTOR_LEN).zip(new.chunks(SECTOR_LEN)).enumerate() {
            let sector = number * SECTOR_LEN..number * SECTOR_LEN + is.len();
            match &mut run {
                Some(run) if was != is && run.end == sector.start => run.end = sector.end,
                _ if was != is => {
                    if let Some(done) = run.replace(sector) {
                        self.write(offset.saturating_add(done.start as u64), &new[done], what)?;
                    }
                }
                _ => {}
            }
        }
        if let Some(done) = run {
            self.write(offset.saturating_add(done.start as u64), &new[done], what)?;
        }
        Ok(())
    }

    /// Brings the wrong refcounts of a block to what the references require.
    fn counts(
        &mut self,
        index: ReftableIndex,
        block: HostOffset,
        change: CountChange,
    ) -> Result<()> {
        let what = "a refcount block";
        let plan = self.work.round.plan;
        let old = self.read(block, plan.geometry.cluster_len(), what)?;
        let new = counts::changed(plan, index, &old, change, &mut self.work.released);
        self.write_changes(block, &old, &new, what)
    }

    /// Copies a cluster; a copy of an L2 table shares all its clusters with the original.
    fn copy(&mut self, from: HostOffset, to: HostOffset, table: bool) -> Result<()> {
        let geometry = &self.work.round.plan.geometry;
        let mut bytes = self.read(from, geometry.cluster_len(), "a cluster")?;
        if table {
            for entry in bytes.chunks_exact_mut(geometry.l2_entry_bytes()) {
                entry[0] &= !(COPIED >> 56).to_be_bytes()[7];
            }
        }
        self.write(to, &bytes, "a copy of a cluster")
    }

    /// Sets or clears the flags of a table that disagree with the refcounts.
    fn copied(&mut self, table: HostOffset, set: bool) -> Result<()> {
        let what = "an L2 table";
        let plan = self.work.round.plan;
        let geometry = &plan.geometry;
        let old = self.read(table, geometry.cluster_len(), what)?;
        let mut new = old.clone();
        for bytes in new.chunks_exact_mut(geometry.l2_entry_bytes()) {
            let entry = L2Entry::decode(bytes);
            let count = match entry.meaning(geometry, plan.data_file) {
                Meaning::Data(_) | Meaning::ZeroAllocated(_) if plan.data_file => 1,
                Meaning::Data(at) | Meaning::ZeroAllocated(at) => {
                    plan.target.get(geometry.cluster_floor(at))
                }
                _ => continue,
            };
            // What has more referrers than a refcount can hold gets copies first.
            if count <= geometry.refcount_max() && (count == 1) == set && entry.copied() != set {
                bytes[..8].copy_from_slice(&(entry.bits ^ COPIED).to_be_bytes());
            }
        }
        self.write_changes(table, &old, &new, what)
    }
}

fn read(storage: &dyn Storage, offset: HostOffset, len: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let failed = |e| Error::io(format!("read {what}"), offset.get(), e);
    storage.read_padded_at(offset.get(), &mut bytes).map_err(failed)?;
    Ok(bytes)
}
