//! The check: passes over the image's structures, findings as data.

pub mod affected;
pub(crate) mod lost;
mod options;
pub(crate) mod parallel;
mod passes;
pub mod report;
pub(crate) mod survey;

pub use crate::format::header::HeaderField;
pub use affected::Affected;
pub use options::{Assume, CheckOptions, Hold};
pub use report::{
    Allocation, CheckReport, Finding, GuestRange, Kind, Place, RegionKind, Remedy, Row, Severity,
    SnapshotName, Source, Tally, Verb, place_text, region_text,
};
#[doc(hidden)]
pub use survey::Survey;
pub(crate) use survey::refcounts::{Block, Refcounts};
pub(crate) use survey::visits::{Visit, Visits};

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{ClusterCount, HostCluster, HostOffset};
use crate::progress::Progress;
use crate::storage::ReadAt;
use crate::tables::HeaderArea;
use passes::compare::Compared;
use passes::{
    bitmaps, compare, copied, crypto, cut, header, mapping, overlaps, refcounts, snapshots,
};
use survey::context::Context;
use survey::mapping::Mapping;
use survey::refcount_map::RefcountMap;
use survey::stored::StoredCounts;

/// Checks an image. `Err` means that there is no verdict; what is wrong with the image is in the
/// report.
pub fn check(
    source: &dyn ReadAt,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<CheckReport> {
    survey(source, options, progress).map(|survey| survey.report)
}

/// Checks an image and keeps what a repair needs.
#[doc(hidden)]
pub fn survey(
    source: &dyn ReadAt,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<Survey> {
    let area = HeaderArea::load(source)?;
    let file_bytes = source.len().map_err(|e| Error::file("determine the file's length", e))?;
    let mut ctx = Context::new(source, area, file_bytes, options, progress);
    header::run(&mut ctx);
    snapshots::run(&mut ctx);
    let mut mapping = mapping::run(&mut ctx);
    let refcounts = count_the_rest(&mut ctx);
    let (compared, last) = compare::run(&mut ctx, &refcounts);
    let mut counts = StoredCounts::new(
        source,
        ctx.geometry,
        Arc::clone(&ctx.map),
        &refcounts,
        (&compared.differing, &compared.uncounted),
        options.assume,
    );
    ctx.regions.finish();
    cut::run(&mut ctx);
    compare::beyond(&mut ctx, &compared);
    let lost = lost::run(&ctx, &mapping, &counts, &refcounts, &compared);
    let (claims, claims_beyond) = match options.hold {
        Hold::Never => (Arc::default(), Arc::default()),
        Hold::ByEvidence | Hold::Always => (Arc::new(lost.claims), lost.beyond.references()),
    };
    let beyond = ctx.beyond.references();
    let rebuilds = refcounts.is_broken() || compared.missing;
    counts.claim(Arc::clone(&claims), if rebuilds { Arc::clone(&beyond) } else { Arc::default() });
    let overlaps = overlaps::run(&ctx, &mut mapping, &counts);
    let mut found_last = overlaps;
    found_last.extend(lost.findings);
    found_last.extend(lost::unaccounted(&ctx, &mapping, &compared, &found_last));
    let (held, flags) = hold(&ctx, &mapping, &mut counts, &compared, &mut found_last);
    let wrong_flags = copied::report(&mut ctx, &mapping, &counts, flags);
    for (index, (offset, error)) in counts.into_unread() {
        let kind = Kind::Unreadable { what: "refcount block", offset, error };
        ctx.find(kind, Place::Refblock(index));
    }
    found_last.into_iter().for_each(|finding| ctx.found.push(finding));
    let report = report(&mut ctx, last);
    // What could not be read for this reason is not a finding.
    source.require_reachable()?;
    let claims = Claims { claims, claims_beyond, beyond };
    let seen = Seen { mapping, refcounts, compared, claims, held, wrong_flags };
    Ok(seen.into_survey(ctx, report))
}

/// References that were not counted.
struct Claims {
    claims: Arc<RefcountMap>,
    claims_beyond: Arc<RefcountMap>,
    beyond: Arc<RefcountMap>,
}

/// What the passes left beside their context.
struct Seen {
    mapping: Mapping,
    refcounts: Refcounts,
    compared: Compared,
    claims: Claims,
    held: bool,
    wrong_flags: copied::WrongFlags,
}

impl Seen {
    /// What a repair needs of it.
    fn into_survey(self, ctx: Context, report: CheckReport) -> Survey {
        let Self { mapping, compared, claims, .. } = self;
        Survey {
            report,
            plausible: ctx.plausible(),
            file_bytes: ctx.true_bytes,
            area: ctx.area,
            snapshots: ctx.snapshots,
            map: ctx.map,
            claims: claims.claims,
            claims_beyond: claims.claims_beyond,
            beyond: claims.beyond,
            active: mapping.active,
            compressed: mapping.compressed,
            regions: ctx.regions,
            refcounts: self.refcounts,
            differing: compared.differing,
            missing_blocks: compared.missing,
            too_low: compared.too_low,
            uncounted: compared.uncounted,
            lost_blocks: compared.lost_blocks,
            held: self.held,
            garbage: mapping.garbage,
            wrong_l1_flags: self.wrong_flags.l1,
            wrong_l2_flags: self.wrong_flags.l2,
            visits: mapping.visits,
        }
    }
}

/// Compares COPIED flags, and decides whether leaked clusters stay: a wrong flag, or the refcount
/// of the leak itself, may be all that shows that a reference was lost.
fn hold(
    ctx: &Context,
    mapping: &Mapping,
    counts: &mut StoredCounts,
    compared: &Compared,
    found_last: &mut Vec<Finding>,
) -> (bool, copied::Flags) {
    let held = keep_refcounts(ctx, counts, compared, found_last);
    let lost_data = if held { None } else { lost::first_lost(ctx, found_last) };
    let flags = copied::find(ctx, mapping, counts, compared, lost_data.is_some());
    let Some(first) = lost_data else { return (held, flags) };
    let mut doubtful = copied::doubtful(ctx, mapping, &flags);
    doubtful.extend(lost::doubtful(ctx, compared, found_last));
    found_last.extend(lost::misdirected(ctx, first, doubtful));
    match keep_refcounts(ctx, counts, compared, found_last) {
        // Flags are compared with the refcounts that stay.
        true => (true, copied::find(ctx, mapping, counts, compared, false)),
        false => (false, flags),
    }
}

/// Decides which refcounts that are too high stay, and whether those of leaked clusters do.
fn keep_refcounts(
    ctx: &Context,
    counts: &mut StoredCounts,
    compared: &Compared,
    found_last: &[Finding],
) -> bool {
    let hides = ctx.found.hides_references() || found_last.iter().any(Finding::may_hide_references);
    let leaks = ctx.found.tally().leaks > 0 || !compared.uncounted.is_empty();
    let held = match ctx.hold {
        Hold::ByEvidence => hides && leaks,
        Hold::Always => true,
        Hold::Never => false,
    };
    if held {
        counts.hold();
    }
    if ctx.hold != Hold::Never && !compared.beyond.is_empty() {
        counts.keep_from(HostCluster::new(ctx.file_clusters().get()));
    }
    held
}

/// The report of a check that has come to its end; `last` is the last cluster in use.
fn report(ctx: &mut Context, last: HostCluster) -> CheckReport {
    let geometry = ctx.geometry;
    let image_end = HostOffset::new(geometry.bytes_of(ClusterCount::new(last.get() + 1)));
    let found = std::mem::take(&mut ctx.found);
    let hides_references = found.hides_references();
    let (findings, unlisted, tally) = found.into_parts();
    let names = ctx.snapshots.entries.iter();
    let snapshots = names.map(|e| SnapshotName { id: e.id_text(), name: e.name_text() }).collect();
    let allocation = Allocation { total: geometry.guest_clusters().get(), ..ctx.allocation };
    CheckReport {
        findings,
        unlisted,
        tally,
        hides_references,
        allocation,
        image_end,
        geometry,
        snapshots,
    }
}

/// What is neither header nor mapping, in the order in which qemu-img counts it.
fn count_the_rest(ctx: &mut Context) -> Refcounts {
    // The refcount table comes before encryption and bitmaps, its blocks after everything.
    crypto::run(ctx);
    bitmaps::run(ctx);
    refcounts::run(ctx)
}
