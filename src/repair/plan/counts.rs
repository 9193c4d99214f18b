//! Refcounts patched in existing blocks, and which findings that repairs.

use std::ops::Range;
use std::sync::Arc;

use super::pointers;
use super::step::{CountChange, RepairPlan, Step, Write};
use crate::check::{Block, CheckReport, Finding, Kind, Place, Survey};
use crate::error::{Error, Result};
use crate::format::refcount::{differing, set_refcount};
use crate::format::{ClusterCount, HostCluster, HostOffset, ReftableIndex};
use crate::repair::RepairMode;
use crate::storage::Storage;

/// The blocks with a refcount that changes.
pub fn plan(plan: &RepairPlan, storage: &dyn Storage, survey: &Survey) -> Result<Vec<Step>> {
    let change = match (plan.mode, plan.held) {
        (RepairMode::Leaks, true) => return Ok(Vec::new()),
        (RepairMode::Leaks, false) => CountChange::Lower,
        (RepairMode::All | RepairMode::Lossy, _) => CountChange::Exact,
    };
    let blocks = survey.differing.iter().filter_map(|&index| survey.refcounts.block(index));
    let usable = blocks.filter(|block| block.sound && pointers::is_refblock(survey, block.offset));
    // What a wrong pointer reads in a block is somebody's until the pointer is right, or has a copy
    // of it.
    let usable = usable.filter(|block| !pointers::is_shared(survey, block.offset));
    // Blocks can differ from the references for good: where refcounts are kept, or can't be that
    // large.
    let overflow = |f: &Finding| matches!(f.kind, Kind::Overflow { .. });
    let kept = plan.held
        || !Arc::ptr_eq(&plan.target, &survey.map)
        || survey.report.findings.iter().any(overflow)
        || survey.report.findings.iter().any(|f| matches!(f.kind, Kind::CountedBeyondEnd));
    let codes = CountCodes::of(&survey.report);
    let mut steps = Vec::new();
    for Block { index, offset, .. } in usable {
        if !kept || changes(storage, plan, index, offset, change)? {
            let write = Write::Counts { index, block: offset, change };
            steps.push(Step::new(write, codes.of_block(plan, index, change)));
        }
    }
    Ok(steps)
}

/// The findings about refcounts, by the clusters that they are about.
pub struct CountCodes {
    /// The clusters, whether their refcount is too low, and the finding's code.
    found: Vec<(Range<HostCluster>, bool, &'static str)>,
}

impl CountCodes {
    /// Those of a report.
    pub fn of(report: &CheckReport) -> Self {
        let range = |finding: &Finding| match (&finding.kind, finding.place) {
            (Kind::Count { stored, referenced }, Place::Clusters(first, count)) => {
                Some((first..first + count, stored < referenced, finding.code()))
            }
            _ => None,
        };
        Self { found: report.findings.iter().filter_map(range).collect() }
    }

    /// The codes of what a change of a block's refcounts repairs.
    pub fn of_block(
        &self,
        plan: &RepairPlan,
        index: ReftableIndex,
        change: CountChange,
    ) -> Vec<&'static str> {
        let first = plan.geometry.first_cluster_of_block(index);
        let end = first + ClusterCount::new(plan.geometry.refblock_entries());
        let mut codes = Vec::new();
        for (range, low, code) in &self.found {
            let inside = range.start < end && first < range.end;
            let wanted = match change {
                CountChange::Raise => *low,
                CountChange::Lower => !low,
                CountChange::Exact => *low || !plan.held,
            };
            if inside && wanted && !codes.contains(code) {
                codes.push(*code);
            }
        }
        codes
    }
}

/// Whether a block has a refcount that would change.
fn changes(
    storage: &dyn Storage,
    plan: &RepairPlan,
    index: ReftableIndex,
    block: HostOffset,
    change: CountChange,
) -> Result<bool> {
    let mut old = vec![0; plan.geometry.cluster_len()];
    let failed = |e| Error::io("read a refcount block", block.get(), e);
    storage.read_padded_at(block.get(), &mut old).map_err(failed)?;
    Ok(changed(plan, index, &old, change, &mut Vec::new()) != old)
}

/// The block as it will be; the clusters whose refcount becomes 0 are added to `released`.
/// Refcounts past the end of the file are kept: they are the only sign that it was cut off.
pub fn changed(
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
    let in_file = geometry.refblock_entries_before(index, plan.file_bytes);
    let mut new = target.clone();
    let entries = 0..geometry.refblock_len();
    for (entry, is, should) in differing((old, &target), order, entries) {
        let lowers = is > should && (entry < in_file || plan.given_up);
        let wanted = match change {
            CountChange::Raise => is < should,
            CountChange::Lower => lowers,
            CountChange::Exact => is < should || lowers,
        };
        if !wanted {
            set_refcount(&mut new, order, entry, is);
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
