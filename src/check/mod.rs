//! The check: passes over the image's structures, findings as data.

pub mod affected;
mod beyond;
mod collector;
mod context;
mod describe;
pub mod finding;
pub(crate) mod lost;
pub mod orphan;
pub mod owners;
pub(crate) mod parallel;
mod pass_bitmaps;
mod pass_compare;
mod pass_compressed;
mod pass_copied;
mod pass_crypto;
mod pass_cut;
mod pass_header;
mod pass_mapping;
mod pass_overlaps;
mod pass_refcounts;
mod pass_shared;
mod pass_snapshots;
pub mod plausible;
pub mod refcount_map;
pub(crate) mod regions;
pub mod report;
pub(crate) mod scan;
pub(crate) mod spots;
mod stored;
mod visits;
mod walk;

pub use affected::Affected;
pub use describe::{Verb, place_text, region_text};
pub use finding::{Finding, GuestRange, Kind, Place, RegionKind, Severity, Source};
use pass_compare::Compared;
pub use pass_refcounts::{Block, Refcounts};
use plausible::Plausible;
pub use report::{Allocation, CheckReport, SnapshotName, Tally};
pub use stored::{Assume, Hold};
pub use visits::{Visit, Visits};

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index, ReftableIndex};
use crate::progress::Progress;
use crate::storage::ReadAt;
use crate::tables::{HeaderArea, SnapshotTable};
use context::Context;
use refcount_map::RefcountMap;
use regions::RegionMap;
use stored::StoredCounts;

/// How to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Threads that read and count; 0 chooses by the machine.
    pub threads: usize,
    /// Runs of findings to keep one by one; further ones are counted only.
    pub keep: usize,
    /// The refcounts by which COPIED flags are judged: those after a repair, when one follows.
    pub assume: Assume,
    /// Whether that repair keeps refcounts that are too high.
    pub hold: Hold,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { threads: 0, keep: 100_000, assume: Assume::Stored, hold: Hold::ByEvidence }
    }
}

/// The result of a check with all that a repair is planned from.
pub struct Survey {
    /// What was found.
    pub report: CheckReport,
    /// The header and its extensions.
    pub area: HeaderArea,
    /// The snapshot table, of the extra data only what has a meaning.
    pub snapshots: SnapshotTable,
    /// The in-memory refcount table.
    pub map: Arc<RefcountMap>,
    /// References of tables that no L1 entry leads to, and those that such tables make.
    pub claims: Arc<RefcountMap>,
    /// References to clusters past the end of the file, as far as they are kept.
    pub beyond: Arc<RefcountMap>,
    /// References of the active disk to data clusters, each table's once.
    pub active: RefcountMap,
    /// References of compressed data, of all disks.
    pub compressed: RefcountMap,
    /// All metadata.
    pub regions: RegionMap,
    /// The refcount structures as they stand.
    pub refcounts: Refcounts,
    /// Refcount blocks with a count that is not as it should be, in order.
    pub differing: Vec<ReftableIndex>,
    /// Something is referenced where no refcount block is.
    pub missing_blocks: bool,
    /// A count is lower than the references ask for.
    pub too_low: bool,
    /// Clusters of the file without a refcount that can be believed, in order.
    pub uncounted: Vec<Range<HostCluster>>,
    /// Refcount blocks of which most is lost: they were overwritten, or the refcount table points to something else.
    pub lost_blocks: Vec<ReftableIndex>,
    /// Whether refcounts that are too high stay as they are.
    pub held: bool,
    /// L2 tables in which most entries are damaged: something else was written there.
    pub garbage: HashSet<HostOffset>,
    /// Entries of the active L1 table whose COPIED flag is wrong, by their positions in `visits`.
    wrong_l1_flags: Vec<u32>,
    /// Active L2 tables with a COPIED flag that is wrong.
    pub wrong_l2_flags: Vec<HostOffset>,
    /// The L1 entries that point to a table.
    pub visits: Visits,
    /// Which refcounts clusters can have.
    pub(crate) plausible: Plausible,
    /// The file's length in bytes.
    pub file_bytes: u64,
}

impl Survey {
    /// Whether a cluster is in the file.
    pub fn has(&self, cluster: HostCluster) -> bool {
        self.area.geometry.offset_of(cluster).get() < self.file_bytes
    }

    /// Whether no refcount of this cluster can be believed.
    pub fn is_uncounted(&self, cluster: HostCluster) -> bool {
        stored::is_within(&self.uncounted, cluster)
    }

    /// Active L1 entries whose COPIED flag is wrong, with their bits.
    pub fn wrong_l1_flags(&self) -> impl Iterator<Item = (L1Index, u64)> + '_ {
        let visits = self.wrong_l1_flags.iter().map(|&at| self.visits.get(at as usize));
        visits.map(|visit| (visit.index, visit.entry.0))
    }
}

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
pub fn survey(
    source: &dyn ReadAt,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<Survey> {
    let area = HeaderArea::load(source)?;
    let file_bytes = source.len().map_err(|e| Error::file("tell the file's length", e))?;
    let mut ctx = Context::new(source, area, file_bytes, options, progress);
    pass_header::run(&mut ctx);
    pass_snapshots::run(&mut ctx);
    let mut mapping = pass_mapping::run(&mut ctx);
    let refcounts = count_the_rest(&mut ctx);
    let (compared, last) = pass_compare::run(&mut ctx, &refcounts);
    let mut counts = StoredCounts::new(
        source,
        ctx.geometry,
        Arc::clone(&ctx.map),
        &refcounts,
        (&compared.differing, &compared.uncounted),
        options.assume,
    );
    ctx.regions.finish();
    pass_cut::run(&mut ctx);
    pass_compare::beyond(&mut ctx, &compared);
    let lost = lost::run(&ctx, &mapping, &counts, &refcounts, &compared);
    let claims = if options.hold == Hold::Never { RefcountMap::default() } else { lost.claims };
    let claims = Arc::new(claims);
    let beyond = ctx.beyond.references();
    let rebuilds = refcounts.is_broken() || compared.missing;
    counts.claim(Arc::clone(&claims), if rebuilds { Arc::clone(&beyond) } else { Arc::default() });
    let overlaps = pass_overlaps::run(&ctx, &mut mapping, &counts);
    let mut found_last = overlaps;
    found_last.extend(lost.findings);
    found_last.extend(lost::unaccounted(&ctx, &mapping, &compared, &found_last));
    let (held, flags) = hold(&ctx, &mapping, &mut counts, &compared, &mut found_last);
    let wrong = pass_copied::report(&mut ctx, &mapping, &counts, flags);
    for (index, (offset, error)) in counts.into_unread() {
        let kind = Kind::Unreadable { what: "refcount block", offset, error };
        ctx.find(kind, Place::Refblock(index));
    }
    found_last.into_iter().for_each(|finding| ctx.found.push(finding));
    let plausible = ctx.plausible();
    let report = report(&mut ctx, last);
    Ok(Survey {
        report,
        area: ctx.area,
        snapshots: ctx.snapshots,
        map: ctx.map,
        claims,
        beyond,
        active: mapping.active,
        compressed: mapping.compressed,
        regions: ctx.regions,
        refcounts,
        differing: compared.differing,
        missing_blocks: compared.missing,
        too_low: compared.too_low,
        uncounted: compared.uncounted,
        lost_blocks: compared.lost_blocks,
        held,
        garbage: mapping.garbage,
        wrong_l1_flags: wrong.l1,
        wrong_l2_flags: wrong.l2,
        visits: mapping.visits,
        plausible,
        file_bytes,
    })
}

/// Compares COPIED flags, and decides whether leaked clusters stay: a wrong flag may be all that shows where one of them
/// belongs.
fn hold(
    ctx: &Context,
    mapping: &walk::Mapping,
    counts: &mut StoredCounts,
    compared: &Compared,
    found_last: &mut Vec<Finding>,
) -> (bool, pass_copied::Flags) {
    let held = keep_refcounts(ctx, counts, compared, found_last);
    let lost_data = if held { None } else { lost::first_lost(ctx, found_last) };
    let flags = pass_copied::find(ctx, mapping, counts, compared, lost_data.is_some());
    let Some(first) = lost_data else { return (held, flags) };
    found_last.extend(lost::misdirected(ctx, first, pass_copied::doubtful(mapping, &flags)));
    match keep_refcounts(ctx, counts, compared, found_last) {
        // Flags are judged by the refcounts that stay.
        true => (true, pass_copied::find(ctx, mapping, counts, compared, false)),
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
    pass_crypto::run(ctx);
    pass_bitmaps::run(ctx);
    pass_refcounts::run(ctx)
}
