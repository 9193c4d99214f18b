//! What cannot be mended is dropped, where that was allowed: entries that lead nowhere. What they led
//! to reads as zeroes, or as the backing file has it.

use std::collections::{HashMap, HashSet};

use super::RepairMode;
use super::plan::{RepairPlan, Step};
use super::pointers::{self, Tables};
use super::{bitmap_directory, snapshot_table};
use crate::check::owners::{self, Owner};
use crate::check::{Kind, Place, RegionKind, Source, Survey};
use crate::error::Result;
use crate::format::crypto::CryptMethod;
use crate::format::geometry::SUBCLUSTERS;
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, HostOffset, L1Index, L2Index};
use crate::storage::{ReadAt, Storage};

/// Plans it: comes when nothing else is left to mend.
pub fn plan(plan: &mut RepairPlan, storage: &dyn Storage, survey: &Survey) -> Result<()> {
    let tables = Tables::of(survey);
    plan.stage("zeroes for what was cut off", cut_off(survey));
    if plan.stages.is_empty() {
        plan.stage("L1 entries that lead nowhere, dropped", l1_entries(survey, &tables));
    }
    if plan.stages.is_empty() {
        plan.stage("L2 entries that lead nowhere, dropped", l2_entries(storage, survey, &tables)?);
        plan.stage("encrypted clusters in metadata, dropped", encrypted(&storage, survey));
    }
    if plan.stages.is_empty() {
        snapshot_table::plan(plan, &storage, survey, storage.capacity(), RepairMode::Lossy)?;
    }
    if plan.stages.is_empty() {
        bitmap_directory::plan(plan, storage, survey)?;
    }
    Ok(())
}

/// The rest of a table where the file ends within it: as QEMU reads it, nothing. A bitmap goes as a whole.
fn cut_off(survey: &Survey) -> Vec<Step> {
    let missing = survey.report.findings.iter().filter_map(|finding| match finding.kind {
        Kind::CutOff { bytes, .. } if !matches!(finding.place, Place::Bitmap(_)) => Some(bytes),
        _ => None,
    });
    let missing = missing.max().and_then(|bytes| usize::try_from(bytes).ok());
    let offset = HostOffset::new(survey.file_bytes);
    let write = |bytes| Step::Write { offset, bytes: vec![0; bytes], what: "what was cut off" };
    missing.map(write).into_iter().collect()
}

fn l1_entries(survey: &Survey, tables: &Tables) -> Vec<Step> {
    let mut dropped: HashSet<(Source, L1Index)> = HashSet::new();
    let mut over_metadata: HashSet<HostOffset> = HashSet::new();
    let geometry = &survey.area.geometry;
    for finding in &survey.report.findings {
        match (&finding.kind, finding.place) {
            (
                Kind::L1Reserved(_) | Kind::L2TableUnaligned(_) | Kind::BeyondEnd { .. },
                Place::L1(source, index),
            ) => {
                dropped.insert((source, index));
            }
            (Kind::Overlap { owner, other: Some(other), .. }, Place::Clusters(first, count)) => {
                let both = [*owner, *other];
                let table = both.contains(&RegionKind::L2Table);
                if table && both.iter().any(|&kind| kind != RegionKind::L2Table) {
                    let here = survey.regions.touching(first..first + count);
                    let here = here.filter(|r| r.kind == RegionKind::L2Table);
                    over_metadata.extend(here.map(|r| geometry.offset_of(r.first)));
                }
            }
            // A table that is somebody's data too must not be written: its L1 entry goes.
            (_, Place::L2(source, l1, _)) if is_lost_entry(&finding.kind) => {
                let table = tables.get(source, l1);
                if table.is_some_and(|table| !pointers::is_undisputed(survey, table)) {
                    dropped.insert((source, l1));
                }
            }
            _ => {}
        }
    }
    let over = survey.visits.iter().filter(|v| over_metadata.contains(&v.entry.offset()));
    dropped.extend(over.map(|visit| (visit.source, visit.index)));
    let mut dropped: Vec<_> = dropped.into_iter().collect();
    dropped.sort_unstable();
    let write = |(source, index)| {
        let offset = match source {
            Source::Active => pointers::disputed_l1_entry(survey, source, index)?,
            Source::Snapshot(_) => pointers::l1_entry(survey, source, index)?,
        };
        Some(Step::Write { offset, bytes: vec![0; 8], what: "an L1 entry that leads nowhere" })
    };
    dropped.into_iter().filter_map(write).collect()
}

const fn is_lost_entry(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::L2Reserved(_)
            | Kind::L2ZeroReserved(_)
            | Kind::CompressedCopied { .. }
            | Kind::CompressedWithDataFile(_)
            | Kind::CompressedWithBitmap(_)
            | Kind::SubclusterConflict(_)
            | Kind::SubclustersWithoutCluster
            | Kind::DataUnaligned(_)
            | Kind::DataFileOffset(_)
            | Kind::BeyondEnd { .. }
    )
}

/// The entries with something wrong, each with all that is wrong with it.
fn l2_entries(storage: &dyn Storage, survey: &Survey, tables: &Tables) -> Result<Vec<Step>> {
    let mut found: HashMap<HostOffset, (L1Index, L2Index, Vec<&Kind>)> = HashMap::new();
    for finding in survey.report.findings.iter().filter(|f| is_lost_entry(&f.kind)) {
        let Place::L2(source, l1, l2) = finding.place else { continue };
        let Some(table) = tables.get(source, l1) else { continue };
        if pointers::is_undisputed(survey, table) {
            let at = pointers::l2_entry(survey, table, l2);
            found.entry(at).or_insert_with(|| (l1, l2, Vec::new())).2.push(&finding.kind);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_unstable_by_key(|(at, _)| *at);
    let mut steps = Vec::new();
    for (at, (l1, l2, kinds)) in found {
        let entry = pointers::read_l2_entry(&storage, survey, at)?;
        let left = what_is_left(survey, entry, (l1, l2), &kinds);
        let bytes = left.encode(&survey.area.geometry);
        steps.push(Step::Write { offset: at, bytes, what: "what is left of an L2 entry" });
    }
    Ok(steps)
}

/// Entries of encrypted guest clusters that are metadata: their data can be read at its place only, so
/// that no copy can be made of it.
fn encrypted(source: &dyn ReadAt, survey: &Survey) -> Vec<Step> {
    if survey.area.header.crypt_method != CryptMethod::Luks {
        return Vec::new();
    }
    let mut wanted = HashSet::new();
    for finding in &survey.report.findings {
        if let (Kind::Overlap { other: None, .. }, Place::Clusters(first, count)) =
            (&finding.kind, finding.place)
        {
            wanted.extend((0..count.get().min(1 << 16)).map(|n| first + ClusterCount::new(n)));
        }
    }
    let owners = owners::find(source, survey, &wanted);
    let written = owners.iter().filter(|owner| pointers::is_undisputed(survey, owner.table));
    let bytes = nothing(survey).encode(&survey.area.geometry);
    let write = |owner: &Owner| Step::Write {
        offset: pointers::l2_entry(survey, owner.table, owner.index),
        bytes: bytes.clone(),
        what: "an L2 entry of an encrypted cluster",
    };
    written.map(write).collect()
}

/// The entry with as much of its mapping as makes sense.
fn what_is_left(
    survey: &Survey,
    entry: L2Entry,
    (l1, l2): (L1Index, L2Index),
    kinds: &[&Kind],
) -> L2Entry {
    let geometry = &survey.area.geometry;
    match kinds {
        // What is allocated is there: it reads as data.
        [Kind::SubclusterConflict(_)] => {
            L2Entry { bitmap: entry.bitmap & !(entry.allocated() << 32), ..entry }
        }
        [Kind::SubclustersWithoutCluster] => {
            L2Entry { bitmap: entry.bitmap & !L2Entry::ALLOCATED_SUBCLUSTERS, ..entry }
        }
        [Kind::DataFileOffset(_)] => {
            entry.moved(geometry, HostOffset::new(geometry.guest_offset(l1, l2).get()))
        }
        // Subclusters that are not allocated have not lost anything.
        _ if geometry.extended_l2() && !entry.is_compressed() && reads_as_zeroes(survey) => {
            L2Entry { bits: 0, bitmap: (entry.zero() | entry.allocated()) << SUBCLUSTERS }
        }
        _ => nothing(survey),
    }
}

/// An entry without a cluster. Over a backing file it reads as zeroes where the format can say so: what
/// the backing file has there is older than what was lost.
fn nothing(survey: &Survey) -> L2Entry {
    match reads_as_zeroes(survey) {
        true => L2Entry::all_zero(&survey.area.geometry),
        false => L2Entry::standard(0),
    }
}

fn reads_as_zeroes(survey: &Survey) -> bool {
    survey.area.header.version >= 3 && survey.area.backing_name.is_some()
}
