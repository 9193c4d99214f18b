//! L2 tables without an L1 entry go back where exactly one entry can own them.

use std::collections::HashSet;

use super::plan::Step;
use super::{RepairMode, pointers};
use crate::check::orphans::{Orphan, Slot};
use crate::check::{Kind, Source, Survey};
use crate::format::l1::L1Entry;

/// The L1 entries that lead to them again. Counts are right: such a table and its clusters are counted
/// once more than they are referenced.
pub fn attach(survey: &Survey, mode: RepairMode) -> Vec<Step> {
    let orphans = survey.report.findings.iter().filter_map(|finding| match &finding.kind {
        Kind::OrphanTable(orphan) => Some(orphan),
        _ => None,
    });
    let write = |orphan: &Orphan| {
        let (source, index) = orphan.owner()?;
        if orphan.readable && mode != RepairMode::Lossy {
            return None; // What a guest reads now would change.
        }
        let offset = pointers::l1_entry(survey, source, index)?;
        let copied = source == Source::Active && orphan.alone;
        let bytes = L1Entry::new(orphan.table, copied).0.to_be_bytes().to_vec();
        Some(Step::Write { offset, bytes, what: "an L1 entry that leads to a lost L2 table" })
    };
    orphans.filter_map(write).collect()
}

/// The L1 entries that an orphan may belong to: until that is settled, nothing is made of them.
pub fn contested(survey: &Survey, mode: RepairMode) -> HashSet<Slot> {
    if mode == RepairMode::Lossy {
        return HashSet::new();
    }
    let slots = survey.report.findings.iter().filter_map(|finding| match &finding.kind {
        Kind::OrphanTable(orphan) => Some(orphan.slots.iter().copied()),
        _ => None,
    });
    slots.flatten().collect()
}
