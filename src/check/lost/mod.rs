//! What may be lost: L2 tables that no L1 entry points to, tables that are blank beside leaked
//! data, snapshots that the header does not count. Where something of it is found, leaked clusters
//! are not waste. Relies on the comparison and on the regions being in order.

mod blank;
mod doubt;
mod found;
mod place;
pub(crate) mod reftable;
mod search;
mod shape;
mod sift;
mod slots;
mod too_low;

use crate::check::passes::compare::Compared;
use crate::check::report::{Finding, Kind, Place};
use crate::check::survey::context::Context;
use crate::check::survey::mapping::Mapping;
use crate::check::survey::refcounts::Refcounts;
use crate::check::survey::stored::StoredCounts;
use found::Found;
use slots::Slots;

pub use doubt::doubtful;

/// Looks for what may be lost.
pub fn run(
    ctx: &Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    refcounts: &Refcounts,
    compared: &Compared,
) -> Found {
    let mut found = Found::new(ctx);
    let leaks = ctx.found.tally().leaks > 0 || !compared.uncounted.is_empty();
    if !leaks && !ctx.found.hides_references() {
        return found;
    }
    let mut sighted = search::run(ctx, mapping, counts, refcounts, compared);
    found.findings.append(&mut sighted.findings);
    sighted.hollow.iter().for_each(|lost| lost.claim_past_end(&found.beyond));
    sift::sift(ctx, counts, &mut sighted.tables);
    if !sighted.tables.is_empty() {
        let slots = Slots::of(ctx, mapping, counts);
        place::run(ctx, counts, (refcounts, compared), &slots, sighted.tables, &mut found);
    }
    blank::run(ctx, mapping, counts, compared, &mut found.findings);
    found
}

/// What leaked clusters may be, where something else is damaged: one of the damaged entries may
/// have pointed to them.
pub fn unaccounted(
    ctx: &Context,
    mapping: &Mapping,
    compared: &Compared,
    findings: &[Finding],
) -> Option<Finding> {
    let all = || ctx.found.findings().iter().chain(findings);
    let is_leak = |stored, referenced| stored > referenced;
    let first = first_leak(ctx, findings, is_leak)?;
    let hides =
        all().filter(|f| f.may_hide_references() && !matches!(f.kind, Kind::OrphanTable(_)));
    let hides = hides.map(|f| f.place).chain(too_low::doubtful(ctx, mapping, compared));
    named(ctx, first, hides)
}

/// The first clusters that are counted though nothing refers to them.
pub fn first_lost(ctx: &Context, findings: &[Finding]) -> Option<Place> {
    first_leak(ctx, findings, |stored, referenced| stored > 0 && referenced == 0)
}

/// What such clusters may be, where nothing shows that a pointer is wrong but its COPIED flag.
pub fn misdirected(ctx: &Context, first: Place, doubtful: Vec<Place>) -> Option<Finding> {
    named(ctx, first, doubtful.into_iter())
}

/// The first clusters with such a stored and such a right refcount.
fn first_leak(
    ctx: &Context,
    findings: &[Finding],
    is_leak: impl Fn(u64, u64) -> bool,
) -> Option<Place> {
    let mut all = ctx.found.findings().iter().chain(findings);
    let leaks = |f: &&Finding| matches!(f.kind, Kind::Count { stored, referenced } if is_leak(stored, referenced));
    all.find(leaks).map(|finding| finding.place)
}

/// All leaked clusters, and the entries that may have pointed to them; `None` without any entry.
fn named(ctx: &Context, first: Place, places: impl Iterator<Item = Place>) -> Option<Finding> {
    const NAMED: usize = 8;
    let (mut entries, mut more) = (Vec::new(), 0);
    for place in places {
        if entries.len() < NAMED {
            entries.push(place);
        } else {
            more += 1;
        }
    }
    let clusters = ctx.found.tally().leaks;
    (!entries.is_empty())
        .then(|| Finding::new(Kind::Unaccounted { clusters, entries, more }, first))
}
