//! A bitmap directory without the bitmaps that cannot be read, written aside, then switched to.

use std::collections::HashSet;

use super::plan::{RepairPlan, Step};
use super::room;
use crate::check::{Kind, Place, RegionKind, Survey};
use crate::error::{Error, Result};
use crate::format::bitmap::BitmapsExtension;
use crate::format::feature::autoclear;
use crate::format::header::{HeaderField, encode_field};
use crate::format::{HostOffset, extension};
use crate::storage::Storage;
use crate::tables::BitmapDirectory;

/// Plans the directory that is left; none where the directory itself is damaged.
pub fn plan(plan: &mut RepairPlan, storage: &dyn Storage, survey: &Survey) -> Result<()> {
    let broken = broken(survey);
    let whole = survey.report.findings.iter().any(|finding| {
        matches!(finding.kind, Kind::BitmapDirectory(_))
            || finding.place == Place::BitmapDirectory
            || is_over(&finding.kind, |kind| kind == RegionKind::BitmapDirectory)
    });
    if broken.is_empty() && !whole {
        return Ok(());
    }
    let Some(pointer) = survey.area.bitmaps().filter(|_| !whole) else {
        plan.stage("all bitmaps, dropped", vec![no_bitmaps(survey)]);
        return Ok(());
    };
    let failed = |e| Error::io("read the bitmap directory", pointer.directory.get(), e);
    let directory = BitmapDirectory::load(&storage, &pointer).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut count = 0;
    for (_, entry) in (0u32..).zip(&directory.entries).filter(|(index, _)| !broken.contains(index))
    {
        entry.encode(&mut bytes);
        count += 1;
    }
    if count == 0 {
        plan.stage("all bitmaps, dropped", vec![no_bitmaps(survey)]);
        return Ok(());
    }
    let geometry = survey.area.geometry;
    let clusters = geometry.clusters_for(bytes.len() as u64);
    let Some(first) = room::covered_run(survey, &plan.target, storage.capacity(), clusters) else {
        return Ok(());
    };
    plan.target_mut().add(first, clusters, 1);
    plan.stage("counts of the new bitmap directory", room::raise(survey, first, clusters));
    let at = geometry.offset_of(first);
    let extension =
        BitmapsExtension { count, directory_bytes: bytes.len() as u64, directory: at, ..pointer };
    bytes.resize(geometry.cluster_len() * usize::try_from(clusters.get()).unwrap_or(0), 0);
    let what = "the bitmap directory";
    plan.stage("the new bitmap directory", vec![Step::Write { offset: at, bytes, what }]);
    plan.stage("the switch to it", vec![switch(survey, &extension)]);
    Ok(())
}

/// Bitmaps that cannot be read, by position in the directory.
fn broken(survey: &Survey) -> HashSet<u32> {
    let mut broken = HashSet::new();
    for finding in &survey.report.findings {
        match (&finding.kind, finding.place) {
            (
                Kind::BitmapEntry { .. }
                | Kind::BitmapTable { .. }
                | Kind::BeyondEnd { .. }
                | Kind::CutOff { .. },
                Place::Bitmap(index),
            ) => {
                broken.insert(index);
            }
            (Kind::Overlap { owner, other: Some(other), .. }, _) => {
                let of = |kind: &RegionKind| match kind {
                    RegionKind::BitmapTable(index) | RegionKind::BitmapData(index) => Some(*index),
                    _ => None,
                };
                broken.extend([owner, other].into_iter().filter_map(of));
            }
            _ => {}
        }
    }
    broken
}

/// Whether metadata that satisfies the condition lies over other metadata.
fn is_over(kind: &Kind, what: impl Fn(RegionKind) -> bool) -> bool {
    match kind {
        Kind::Overlap { owner, other: Some(other), .. } => what(*owner) || what(*other),
        _ => false,
    }
}

/// Without the autoclear bit the extension is stale, and its clusters are nobody's.
fn no_bitmaps(survey: &Survey) -> Step {
    let bits = survey.area.header.autoclear & !autoclear::BITMAPS;
    let offset = HostOffset::new(HeaderField::Autoclear.place().0);
    let bytes = encode_field(HeaderField::Autoclear, bits);
    Step::Write { offset, bytes, what: "the header's bit for bitmaps" }
}

fn switch(survey: &Survey, new: &BitmapsExtension) -> Step {
    let place = survey.area.whole_extension(extension::BITMAPS).map_or(0, |e| e.offset);
    let (offset, bytes) = (HostOffset::new(place), new.encode().to_vec());
    Step::Write { offset, bytes, what: "the bitmap directory's place in the header" }
}
