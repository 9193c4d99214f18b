//! What follows a repair's verdict: feature bits, and released clusters that the file system gets
//! back.

use std::collections::HashSet;
use std::ops::Range;

use super::journal::Journal;
use crate::check::{CheckReport, Finding, Kind, Place, Survey, Tally};
use crate::error::{Error, Result};
use crate::format::feature::incompatible::{CORRUPT, DIRTY};
use crate::format::header::{HeaderField, encode_field};
use crate::format::{ClusterCount, HostCluster, HostOffset};
use crate::repair::fix::cross_links;
use crate::repair::plan::purpose::{Purpose, Risk};
use crate::storage::Storage;

/// What the rounds left to be done.
pub struct Left<'a> {
    /// What was found before the first write, where that is not what was found last.
    pub before: Option<&'a CheckReport>,
    /// Clusters whose refcount became 0.
    pub released: Vec<Range<HostCluster>>,
    /// Whether an image that is not consistent keeps the corrupt bit.
    pub keep_mark: bool,
    /// Whether anything was written.
    pub is_written: bool,
    /// What every write from here on risks.
    pub risk: Risk,
}

/// Whether a check found more errors than the one before it.
pub const fn is_worse(now: &Tally, before: &Tally) -> bool {
    now.corruptions > before.corruptions || now.check_errors > before.check_errors
}

/// Reports the verdict. Only after a good one the dirty and corrupt bits are cleared and released
/// clusters given back; after another one the corrupt bit is as it was before the repair, unless
/// the image is worse now.
pub fn finish(
    storage: &dyn Storage,
    survey: &mut Survey,
    left: &Left,
    journal: &mut dyn Journal,
) -> Result<()> {
    let verdict = survey.report.tally;
    let sound = verdict.corruptions == 0 && verdict.check_errors == 0;
    let cleared = match (sound, left.keep_mark) {
        (true, _) => DIRTY | CORRUPT,
        (false, false) => CORRUPT,
        (false, true) => 0,
    };
    let before = left.before.unwrap_or(&survey.report);
    let were_crossed = cross_links::were_there(before);
    let mut step = |what: &str, fixes: Vec<&'static str>| {
        journal.step(&|| Purpose::new(what, fixes.clone(), left.risk));
    };
    if clear_bits(storage, survey, cleared, &before.findings, &mut step)? && left.is_written {
        forget(&mut survey.report, cleared);
    }
    if sound && verdict.is_clean() && !were_crossed {
        give_back(storage, survey, &left.released, &mut step)?;
    }
    Ok(())
}

/// Takes remarks on bits out of a report that are clear by now.
fn forget(report: &mut CheckReport, cleared: u64) {
    let count = report.findings.len();
    report.findings.retain(|finding| match finding.kind {
        Kind::Dirty => cleared & DIRTY == 0,
        Kind::MarkedCorrupt => cleared & CORRUPT == 0,
        _ => true,
    });
    report.tally.notices -= (count - report.findings.len()) as u64;
}

/// Reports a step to the journal: what it writes, and the codes of the findings that it repairs.
type Announce<'a> = &'a mut dyn FnMut(&str, Vec<&'static str>);

/// Clears incompatible feature bits; whether one of them was set.
fn clear_bits(
    storage: &dyn Storage,
    survey: &Survey,
    bits: u64,
    found_before: &[Finding],
    step: Announce,
) -> Result<bool> {
    let header = &survey.area.header;
    let gone = header.incompatible & bits;
    if header.version < 3 || gone == 0 {
        return Ok(false);
    }
    let found = found_before.iter();
    let named = found.filter(|f| matches!(f.kind, Kind::Dirty | Kind::MarkedCorrupt));
    step("the dirty and corrupt bits in the header", named.map(Finding::code).collect());
    let offset = HostOffset::new(HeaderField::Incompatible.place().0);
    let failed = |e| Error::io("clear the dirty and corrupt bits", offset.get(), e);
    let bytes = encode_field(HeaderField::Incompatible, header.incompatible & !bits);
    storage.write_at(offset.get(), &bytes).and_then(|()| storage.sync()).map_err(failed)?;
    Ok(true)
}

/// Reports clusters that guest positions shared by mistake and share still: refcounts and flags
/// agree with that by now, so that a check by itself regards it as intended.
pub fn report_still_shared(report: &mut CheckReport, crossed: &HashSet<HostCluster>) {
    let mut found = Vec::new();
    for finding in report.findings.iter().filter(|finding| finding.kind == Kind::SharedData) {
        if let Place::Clusters(first, count) = finding.place {
            let clusters = (0..count.get()).map(|n| first + ClusterCount::new(n));
            if clusters.into_iter().any(|cluster| crossed.contains(&cluster)) {
                found.push(Finding::new(Kind::StillShared, finding.place));
            }
        }
    }
    found.into_iter().for_each(|finding| report.add(finding, usize::MAX));
}

/// Punches out what was released and is unreferenced in the fresh check too.
fn give_back(
    storage: &dyn Storage,
    survey: &Survey,
    released: &[Range<HostCluster>],
    step: Announce,
) -> Result<()> {
    let geometry = &survey.area.geometry;
    step("clusters that were released and nothing refers to", Vec::new());
    for range in released {
        let mut free = Vec::new();
        survey.map.for_each_run(range.clone(), |first, count, references| {
            if references == 0 {
                free.push((geometry.offset_of(first).get(), geometry.bytes_of(count)));
            }
        });
        for (offset, bytes) in free {
            let bytes = bytes.min(survey.file_bytes.saturating_sub(offset));
            if bytes > 0 {
                let failed = |e| Error::io("punch out released clusters", offset, e);
                storage.discard(offset, bytes).map_err(failed)?;
            }
        }
    }
    Ok(())
}
