//! What a step writes, in words.

use super::step::{CountChange, RepairPlan, Write};
use crate::format::{ClusterCount, ReftableIndex};

/// What a step writes, as a phrase.
pub fn phrase(plan: &RepairPlan, write: &Write) -> String {
    let described = |index: &ReftableIndex| {
        let count = ClusterCount::new(plan.geometry.refblock_entries());
        let first = plan.geometry.first_cluster_of_block(*index);
        format!("of clusters {} - {}", first.get(), (first + count).get() - 1)
    };
    match write {
        Write::Bytes { what, .. } => (*what).to_owned(),
        Write::Counts { index, change, .. } => {
            let change = match change {
                CountChange::Raise => "too low",
                CountChange::Lower => "too high",
                CountChange::Exact => "wrong",
            };
            format!("refcounts that are {change} in the refcount block {}", described(index))
        }
        Write::NewBlock { index, .. } => format!("a new refcount block {}", described(index)),
        Write::Copy { from, table: true, .. } => {
            format!("a copy of the L2 table at {:#x}", from.get())
        }
        Write::Copy { from, table: false, .. } => {
            format!("a copy of the cluster at {:#x}", from.get())
        }
        Write::Copied { set: true, .. } => "COPIED flags that are missing in an L2 table".into(),
        Write::Copied { set: false, .. } => "COPIED flags that are wrong in an L2 table".into(),
    }
}
