//! Carries a plan out: every stage is on stable storage before the next begins.

use std::ops::Range;

use super::plan::{CountChange, RepairPlan, Stage, Step};
use crate::error::{Error, Result};
use crate::format::l1::COPIED;
use crate::format::l2::{L2Entry, Meaning};
use crate::format::refcount::get_refcount;
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex, decode_entries};
use crate::storage::{Latch, Storage};

/// Bytes that reach a disk together or not at all: what is written in place is written in these.
const SECTOR: usize = 512;

/// Runs the stages in order; returns the clusters whose count became 0.
pub fn apply(storage: &dyn Storage, plan: &RepairPlan) -> Result<Vec<Range<HostCluster>>> {
    let storage = Latch::new(storage);
    let mut released = Vec::new();
    for stage in &plan.stages {
        run_stage(&storage, plan, stage, &mut released)?;
        storage.sync().map_err(|e| Error::io(format!("flush {}", stage.what), 0, e))?;
    }
    Ok(released)
}

fn run_stage(
    storage: &dyn Storage,
    plan: &RepairPlan,
    stage: &Stage,
    released: &mut Vec<Range<HostCluster>>,
) -> Result<()> {
    for step in &stage.steps {
        match step {
            Step::Write { offset, bytes, what } => write(storage, *offset, bytes, what)?,
            Step::Counts { index, block, change } => {
                counts(storage, plan, *index, *block, *change, released)?;
            }
            Step::NewBlock { index, block } => {
                let mut bytes = vec![0; plan.geometry.cluster_len()];
                plan.target.encode_block(*index, &plan.geometry, &mut bytes);
                write(storage, *block, &bytes, "a refcount block")?;
            }
            Step::Copy { from, to, table } => copy(storage, plan, *from, *to, *table)?,
            Step::Copied { table, set } => copied(storage, plan, *table, *set)?,
        }
    }
    Ok(())
}

fn write(storage: &dyn Storage, offset: HostOffset, bytes: &[u8], what: &str) -> Result<()> {
    let failed = |e| Error::io(format!("write {what}"), offset.get(), e);
    storage.write_at(offset.get(), bytes).map_err(failed)
}

fn read(storage: &dyn Storage, offset: HostOffset, len: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let failed = |e| Error::io(format!("read {what}"), offset.get(), e);
    storage.read_padded_at(offset.get(), &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Writes the sectors in which `new` differs from `old`, neighbouring ones together.
fn write_changes(
    storage: &dyn Storage,
    offset: HostOffset,
    old: &[u8],
    new: &[u8],
    what: &str,
) -> Result<()> {
    let mut run: Option<Range<usize>> = None;
    for (number, (was, is)) in old.chunks(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
        let sector = number * SECTOR..number * SECTOR + is.len();
        match &mut run {
            Some(run) if was != is && run.end == sector.start => run.end = sector.end,
            _ if was != is => {
                if let Some(done) = run.replace(sector) {
                    write(storage, offset.saturating_add(done.start as u64), &new[done], what)?;
                }
            }
            _ => {}
        }
    }
    if let Some(done) = run {
        write(storage, offset.saturating_add(done.start as u64), &new[done], what)?;
    }
    Ok(())
}

/// Whether a block has a count that would change.
pub fn changes_counts(
    storage: &dyn Storage,
    plan: &RepairPlan,
    index: ReftableIndex,
    block: HostOffset,
    change: CountChange,
) -> Result<bool> {
    let old = read(storage, block, plan.geometry.cluster_len(), "a refcount block")?;
    Ok(changed_counts(plan, index, &old, change, &mut Vec::new()) != old)
}

/// Brings the wrong counts of a block to what the references ask for.
fn counts(
    storage: &dyn Storage,
    plan: &RepairPlan,
    index: ReftableIndex,
    block: HostOffset,
    change: CountChange,
    released: &mut Vec<Range<HostCluster>>,
) -> Result<()> {
    let what = "a refcount block";
    let old = read(storage, block, plan.geometry.cluster_len(), what)?;
    let new = changed_counts(plan, index, &old, change, released);
    write_changes(storage, block, &old, &new, what)
}

/// The block as it will be; the clusters whose count becomes 0 are added to `released`.
fn changed_counts(
    plan: &RepairPlan,
    index: ReftableIndex,
    old: &[u8],
    change: CountChange,
    released: &mut Vec<Range<HostCluster>>,
) -> Vec<u8> {
    let geometry = &plan.geometry;
    let mut target = vec![0; old.len()];
    plan.target.encode_block(index, geometry, &mut target);
    let first = geometry.first_cluster_of_block(index);
    let order = geometry.refcount_order();
    let entries = usize::try_from(geometry.refblock_entries()).unwrap_or(usize::MAX);
    let mut new = target.clone();
    for entry in 0..entries {
        let (is, should) = (get_refcount(old, order, entry), get_refcount(&target, order, entry));
        let wanted = match change {
            CountChange::Raise => is < should,
            CountChange::Lower => is > should,
            CountChange::Exact => is != should,
        };
        if !wanted {
            crate::format::refcount::set_refcount(&mut new, order, entry, is);
        } else if should == 0 {
            release(released, first + ClusterCount::new(entry as u64));
        }
    }
    new
}

fn release(released: &mut Vec<Range<HostCluster>>, cluster: HostCluster) {
    match released.last_mut() {
        Some(last) if last.end == cluster => last.end = cluster.next(),
        _ => released.push(cluster..cluster.next()),
    }
}

/// Copies a cluster; a copy of an L2 table shares all its clusters with the original.
fn copy(
    storage: &dyn Storage,
    plan: &RepairPlan,
    from: HostOffset,
    to: HostOffset,
    table: bool,
) -> Result<()> {
    let mut bytes = read(storage, from, plan.geometry.cluster_len(), "a cluster")?;
    if table {
        for entry in bytes.chunks_exact_mut(plan.geometry.l2_entry_bytes()) {
            entry[0] &= !(COPIED >> 56).to_be_bytes()[7];
        }
    }
    write(storage, to, &bytes, "a copy of a cluster")
}

/// Sets or clears the flags of a table that disagree with the counts.
fn copied(storage: &dyn Storage, plan: &RepairPlan, table: HostOffset, set: bool) -> Result<()> {
    let what = "an L2 table";
    let geometry = &plan.geometry;
    let old = read(storage, table, geometry.cluster_len(), what)?;
    let mut new = old.clone();
    for bytes in new.chunks_exact_mut(geometry.l2_entry_bytes()) {
        let words = decode_entries(bytes);
        let entry = L2Entry { bits: words[0], bitmap: words.get(1).copied().unwrap_or(0) };
        let alone = match entry.meaning(geometry, plan.data_file) {
            Meaning::Data(_) | Meaning::ZeroAllocated(_) if plan.data_file => true,
            Meaning::Data(at) | Meaning::ZeroAllocated(at) => {
                plan.target.get(geometry.cluster_floor(at)) == 1
            }
            _ => continue,
        };
        if alone == set && entry.copied() != set {
            bytes[..8].copy_from_slice(&(entry.bits ^ COPIED).to_be_bytes());
        }
    }
    write_changes(storage, table, &old, &new, what)
}
