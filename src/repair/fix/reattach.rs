//! Lost L2 tables back in their L1 entries: where the damaged entry proves it, and where a person
//! decided it.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::report::kind::tables::ORPHAN_L2_TABLE;
use crate::check::report::{Orphan, Slot};
use crate::check::{Finding, Kind, Place, Source, Survey};
use crate::error::{Error, Result};
use crate::format::l1::L1Entry;
use crate::format::{HostCluster, L1Index};
use crate::repair::plan::pointers;
use crate::repair::plan::step::Step;

/// A lost L2 table and the L1 entry that a person chose for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reattachment {
    /// The cluster of the table.
    pub table: HostCluster,
    /// The index of the L1 entry.
    pub index: L1Index,
    /// The id of the snapshot whose L1 table it is in; `None` for the active one.
    pub snapshot: Option<String>,
}

/// Which lost L2 tables are put back, beside those whose damaged entry proves where they belong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reattach {
    /// None.
    #[default]
    Proven,
    /// Each that only one L1 entry can have pointed to.
    Sole,
    /// These.
    These(Vec<Reattachment>),
}

/// The L1 entries that point to lost tables again. Refcounts are right: such a table and its
/// clusters are counted once more than they are referenced. `proves`: whether they are as they were
/// before the repair, and so evidence.
pub fn plan(survey: &Survey, reattach: &Reattach, proves: bool) -> Result<Vec<Step>> {
    let orphans = survey.report.findings.iter().filter_map(orphan);
    let mut chosen: BTreeMap<Slot, &Orphan> = BTreeMap::new();
    let sole = |orphan: &Orphan| orphan.sole_slot().filter(|_| *reattach == Reattach::Sole);
    let mut disputed = BTreeSet::new();
    for orphan in orphans {
        let proven = orphan.proven_owner().filter(|_| proves);
        if let Some(slot) = proven.or_else(|| sole(orphan)) {
            if chosen.insert(slot, orphan).is_some() {
                disputed.insert(slot);
            }
        }
    }
    chosen.retain(|slot, _| !disputed.contains(slot));
    if let Reattach::These(these) = reattach {
        for one in these {
            if let Some((slot, orphan)) = wanted(survey, one)? {
                chosen.insert(slot, orphan);
            }
        }
    }
    let write = |(&(source, index), orphan): (&Slot, &&Orphan)| {
        let offset = pointers::l1_entry(survey, source, index)?;
        let copied = source == Source::Active && orphan.alone;
        let bytes = L1Entry::new(orphan.table, copied).0.to_be_bytes().to_vec();
        let what = "an L1 entry that points to a lost L2 table";
        Some(Step::bytes(offset, bytes, what, fixes(survey, (source, index))))
    };
    Ok(chosen.iter().filter_map(write).collect())
}

fn orphan(finding: &Finding) -> Option<&Orphan> {
    match &finding.kind {
        Kind::OrphanTable(orphan) => Some(orphan),
        _ => None,
    }
}

/// What putting a table back repairs: the loss, and what is wrong with the entry.
fn fixes(survey: &Survey, (source, index): Slot) -> Vec<&'static str> {
    let mut codes = vec![ORPHAN_L2_TABLE.code];
    let entry = survey.report.findings.iter().filter(|f| f.place == Place::L1(source, index));
    codes.extend(entry.map(Finding::code));
    codes
}

/// The entry and the table that a person chose; `None` where the table is in that entry already.
fn wanted<'a>(survey: &'a Survey, one: &Reattachment) -> Result<Option<(Slot, &'a Orphan)>> {
    let refused = |why: String| Err(Error::Refused(format!("cluster {}: {why}", one.table)));
    let source = match &one.snapshot {
        None => Source::Active,
        Some(id) => {
            let named = |entry: &crate::format::snapshot::SnapshotEntry| entry.id_text() == *id;
            match survey.snapshots.entries.iter().position(named).map(u32::try_from) {
                Some(Ok(index)) => Source::Snapshot(index),
                _ => return refused(format!("no snapshot has the id {id}")),
            }
        }
    };
    let slot = (source, one.index);
    let entries = match source {
        Source::Active => survey.area.header.l1_entries,
        Source::Snapshot(at) => survey.snapshots.entries[at as usize].header.l1_entries,
    };
    if one.index.get() >= entries {
        return refused(format!("the L1 table has no entry {}: it has {entries}", one.index));
    }
    let geometry = &survey.area.geometry;
    let here = |visit: &crate::check::Visit| (visit.source, visit.index) == slot;
    let present = survey.visits.iter().find(here);
    if present.is_some_and(|v| geometry.cluster_exact(v.entry.offset()) == Some(one.table)) {
        return Ok(None);
    }
    let lost = survey.report.findings.iter().filter_map(orphan);
    let Some(found) = lost.into_iter().find(|o| geometry.cluster_floor(o.table) == one.table)
    else {
        return refused("is not a lost L2 table".into());
    };
    if pointers::l1_entry(survey, source, one.index).is_none() {
        return refused(format!("L1 entry {} cannot be written", one.index));
    }
    if present.is_some() && !found.slots.contains(&slot) {
        return refused(format!("L1 entry {} points to another L2 table", one.index));
    }
    Ok(Some((slot, found)))
}
