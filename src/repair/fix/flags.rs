//! COPIED flags in the active L1 table and in its L2 tables.

use std::collections::{BTreeMap, HashSet};

use crate::check::survey::visits::Visit;
use crate::check::{Kind, Place, Source, Survey};
use crate::error::{Error, Result};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::L1Entry;
use crate::format::l2::L2Entry;
use crate::format::{HostOffset, L1Index, L2Index};
use crate::repair::plan::pointers;
use crate::repair::plan::step::{RepairPlan, Step, Write, codes};
use crate::storage::Storage;

/// The flags that are to be set, or cleared.
pub fn plan(
    plan: &RepairPlan,
    storage: &dyn Storage,
    survey: &Survey,
    set: bool,
) -> Result<Vec<Step>> {
    if !plan.flags {
        return Ok(Vec::new());
    }
    let of_l1 = |kind: &Kind| matches!(kind, Kind::L2TableCopied { .. });
    let of_l2 = |kind: &Kind| matches!(kind, Kind::DataCopied { .. });
    let l1_fixes = codes(&survey.report, |f| of_l1(&f.kind));
    let l2_fixes = codes(&survey.report, |f| {
        of_l2(&f.kind) && matches!(f.place, Place::L2(Source::Active, ..))
    });
    let mut steps = Vec::new();
    let l1_table = survey.area.header.l1_table;
    let unconfirmed = unconfirmed(survey);
    // Without a flag nobody writes in place: one that is missing does no harm.
    let writable = pointers::is_undisputed_l1(survey) && !(set && leads_nowhere(survey));
    for (index, bits) in survey.wrong_l1_flags().filter(|_| writable) {
        let entry = L1Entry(bits);
        let geometry = &survey.area.geometry;
        let to_table = !entry.is_unaligned(geometry) && entry.offset().get() < survey.file_bytes;
        if entry.copied() != set && to_table && !unconfirmed.contains(&entry.offset()) {
            let offset = l1_table.saturating_add(u64::from(index.get()) * TABLE_ENTRY_BYTES);
            let bytes = entry.with_copied(set).0.to_be_bytes().to_vec();
            steps.push(Step::bytes(offset, bytes, "an L1 entry", l1_fixes.clone()));
        }
    }
    let misplaced = misplaced(storage, survey)?;
    for &table in &survey.wrong_l2_flags {
        let is_other = misplaced.contains(&table) || unconfirmed.contains(&table);
        if pointers::is_l2_table(survey, table) && !is_other {
            steps.push(Step::new(Write::Copied { table, set }, l2_fixes.clone()));
        }
    }
    Ok(steps)
}

/// Whether the active L1 table may be something else: it points to blank tables alone, while lost
/// tables belong somewhere.
fn leads_nowhere(survey: &Survey) -> bool {
    let findings = &survey.report.findings;
    let blank = findings.iter().filter_map(|finding| match (&finding.kind, finding.place) {
        (Kind::BlankTable { .. }, Place::L1(Source::Active, index)) => Some(index),
        _ => None,
    });
    let blank: HashSet<L1Index> = blank.collect();
    let in_file = |visit: &Visit| visit.entry.offset().get() < survey.file_bytes;
    let active = survey.visits.iter().filter(|visit| visit.source == Source::Active);
    let mut active = active.filter(in_file);
    findings.iter().any(|finding| matches!(finding.kind, Kind::OrphanTable(_)))
        && active.all(|visit| blank.contains(&visit.index))
}

/// Tables whose only L1 entry lacks COPIED, while what bitmaps had is unknown: the entry may be
/// wrong, and the table what a bitmap refers to. A missing flag does no harm.
fn unconfirmed(survey: &Survey) -> HashSet<HostOffset> {
    if !survey.report.findings.iter().any(|finding| finding.kind.is_of_bitmap()) {
        return HashSet::new();
    }
    let entries = survey.wrong_l1_flags().map(|(_, bits)| L1Entry(bits));
    entries.filter(|entry| !entry.copied()).map(L1Entry::offset).collect()
}

/// Tables in which every entry is for another guest offset, by its offset in the external data
/// file: the L1 entries that point to them may be wrong.
fn misplaced(storage: &dyn Storage, survey: &Survey) -> Result<HashSet<HostOffset>> {
    if !survey.area.header.has_data_file() {
        return Ok(HashSet::new());
    }
    let tables = pointers::Tables::of(survey);
    let suspects = survey.report.findings.iter().filter_map(|f| match (&f.kind, f.place) {
        (Kind::DataFileOffset(_), Place::L2(source, index, _)) => {
            Some((tables.get(source, index)?, index))
        }
        _ => None,
    });
    let suspects: BTreeMap<HostOffset, L1Index> = suspects.collect();
    let mut misplaced = HashSet::new();
    for (table, index) in suspects {
        if !has_own_entry(storage, survey, table, index)? {
            misplaced.insert(table);
        }
    }
    Ok(misplaced)
}

/// Whether an entry of the table is for the guest offset at which the table is.
fn has_own_entry(
    storage: &dyn Storage,
    survey: &Survey,
    table: HostOffset,
    index: L1Index,
) -> Result<bool> {
    let geometry = &survey.area.geometry;
    let mut bytes = vec![0; geometry.cluster_len()];
    let failed = |e| Error::io("read an L2 table", table.get(), e);
    storage.read_padded_at(table.get(), &mut bytes).map_err(failed)?;
    let entries = bytes.chunks_exact(geometry.l2_entry_bytes()).map(L2Entry::decode);
    let mut entries = (0..).map(L2Index::new).zip(entries);
    Ok(entries.any(|(l2, entry)| {
        entry.bits != 0 && entry.offset().get() == geometry.guest_offset(index, l2).get()
    }))
}
