//! A bitmap directory without the bitmaps that cannot be read or were left in use, written aside,
//! then switched to.

use std::collections::HashSet;

use crate::check::{Kind, Place, RegionKind, Survey};
use crate::error::{Error, Result};
use crate::format::bitmap::BitmapsExtension;
use crate::format::feature::autoclear;
use crate::format::header::{HeaderField, encode_field};
use crate::format::{HostOffset, extension};
use crate::repair::plan::room::Space;
use crate::repair::plan::step::{RepairPlan, StageKind, Step, codes};
use crate::tables::BitmapDirectory;

/// Plans the directory that is left; none where the directory itself is damaged.
pub fn plan(plan: &mut RepairPlan, space: &Space) -> Result<()> {
    let survey = space.survey;
    let broken = broken(survey);
    let whole = survey.report.findings.iter().any(|finding| {
        matches!(finding.kind, Kind::BitmapDirectory(_))
            || finding.place == Place::BitmapDirectory
            || is_over(&finding.kind, |kind| kind == RegionKind::BitmapDirectory)
    });
    if broken.is_empty() && !whole {
        return Ok(());
    }
    let fixes = codes(&survey.report, |finding| {
        let overlap = is_over(&finding.kind, |kind| {
            matches!(
                kind,
                RegionKind::BitmapDirectory
                    | RegionKind::BitmapTable(_)
                    | RegionKind::BitmapData(_)
            )
        });
        overlap || matches!(finding.place, Place::Bitmap(_) | Place::BitmapDirectory)
    });
    let Some(pointer) = survey.area.bitmaps().filter(|_| !whole) else {
        plan.stage(StageKind::NoBitmaps, vec![no_bitmaps(survey, fixes)]);
        return Ok(());
    };
    let failed = |e| Error::io("read the bitmap directory", pointer.directory.get(), e);
    let directory = BitmapDirectory::load(&space.storage, &pointer).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut count = 0;
    for (_, entry) in (0u32..).zip(&directory.entries).filter(|(index, _)| !broken.contains(index))
    {
        entry.encode(&mut bytes);
        count += 1;
    }
    if count == 0 {
        plan.stage(StageKind::NoBitmaps, vec![no_bitmaps(survey, fixes)]);
        return Ok(());
    }
    let geometry = survey.area.geometry;
    let clusters = geometry.clusters_for(bytes.len() as u64);
    let Some(first) = space.covered_run(&plan.target, clusters)? else {
        return Ok(());
    };
    plan.target_mut().add(first, clusters, 1);
    plan.stage(StageKind::BitmapCounts, space.raise(first, clusters, &fixes));
    let at = geometry.offset_of(first);
    let extension =
        BitmapsExtension { count, directory_bytes: bytes.len() as u64, directory: at, ..pointer };
    bytes.resize(geometry.cluster_len() * usize::try_from(clusters.get()).unwrap_or(0), 0);
    let what = "the bitmap directory";
    let step = Step::bytes(at, bytes, what, fixes.clone()).lossy();
    plan.stage(StageKind::BitmapDirectory, vec![step]);
    plan.stage(StageKind::BitmapSwitch, vec![switch(survey, &extension, fixes)]);
    Ok(())
}

/// Bitmaps that cannot be read or were left in use, by position in the directory.
fn broken(survey: &Survey) -> HashSet<u32> {
    let mut broken = HashSet::new();
    for finding in &survey.report.findings {
        match (&finding.kind, finding.place) {
            (
                Kind::BitmapEntry { .. }
                | Kind::BitmapTable { .. }
                | Kind::BitmapInUse { .. }
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

/// Whether metadata that satisfies the condition overlaps other metadata.
fn is_over(kind: &Kind, what: impl Fn(RegionKind) -> bool) -> bool {
    match kind {
        Kind::Overlap { owner, other: Some(other), .. } => what(*owner) || what(*other),
        _ => false,
    }
}

/// Without the autoclear bit the extension is stale, and its clusters are nobody's.
fn no_bitmaps(survey: &Survey, fixes: Vec<&'static str>) -> Step {
    let bits = survey.area.header.autoclear & !autoclear::BITMAPS;
    let offset = HostOffset::new(HeaderField::Autoclear.place().0);
    let bytes = encode_field(HeaderField::Autoclear, bits);
    Step::bytes(offset, bytes, "the header's bit for bitmaps", fixes).lossy()
}

fn switch(survey: &Survey, new: &BitmapsExtension, fixes: Vec<&'static str>) -> Step {
    let place = survey.area.whole_extension(extension::BITMAPS).map_or(0, |e| e.offset);
    let (offset, bytes) = (HostOffset::new(place), new.encode().to_vec());
    Step::bytes(offset, bytes, "the bitmap directory's offset in the header", fixes).lossy()
}
