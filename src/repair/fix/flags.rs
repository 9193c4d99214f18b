//! COPIED flags in the active L1 table and in its L2 tables.

use crate::check::{Kind, Place, Source, Survey};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::L1Entry;
use crate::repair::plan::pointers;
use crate::repair::plan::step::{RepairPlan, Step, Write, codes};

/// The flags that are to be set, or cleared.
pub fn plan(plan: &RepairPlan, survey: &Survey, set: bool) -> Vec<Step> {
    if !plan.flags {
        return Vec::new();
    }
    let of_l1 = |kind: &Kind| matches!(kind, Kind::L2TableCopied { .. });
    let of_l2 = |kind: &Kind| matches!(kind, Kind::DataCopied { .. });
    let l1_fixes = codes(&survey.report, |f| of_l1(&f.kind));
    let l2_fixes = codes(&survey.report, |f| {
        of_l2(&f.kind) && matches!(f.place, Place::L2(Source::Active, ..))
    });
    let mut steps = Vec::new();
    let l1_table = survey.area.header.l1_table;
    let writable = pointers::is_undisputed_l1(survey);
    for (index, bits) in survey.wrong_l1_flags().filter(|_| writable) {
        let entry = L1Entry(bits);
        let geometry = &survey.area.geometry;
        let to_table = !entry.is_unaligned(geometry) && entry.offset().get() < survey.file_bytes;
        if entry.copied() != set && to_table {
            let offset = l1_table.saturating_add(u64::from(index.get()) * TABLE_ENTRY_BYTES);
            let bytes = entry.with_copied(set).0.to_be_bytes().to_vec();
            steps.push(Step::bytes(offset, bytes, "an L1 entry", l1_fixes.clone()));
        }
    }
    for &table in &survey.wrong_l2_flags {
        if pointers::is_l2_table(survey, table) {
            steps.push(Step::new(Write::Copied { table, set }, l2_fixes.clone()));
        }
    }
    steps
}
