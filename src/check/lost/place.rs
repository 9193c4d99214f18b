//! Which L1 entries may have pointed to each lost table, and whether the damaged entry proves it.

use std::collections::{BTreeMap, HashMap};

use super::blank::needed;
use super::found::Found;
use super::search::one;
use super::sift::Lost;
use super::slots::{Candidates, Slots};
use crate::check::passes::compare::Compared;
use crate::check::report::{Finding, Kind, Orphan, Slot, Source};
use crate::check::survey::context::Context;
use crate::check::survey::refcount_map::RefcountMap;
use crate::check::survey::refcounts::Refcounts;
use crate::check::survey::stored::StoredCounts;
use crate::format::{ClusterCount, HostOffset};

/// Finds each table's slots. A table that no L1 entry can have pointed to is a leak like others,
/// unless the size of the virtual disk may be what is wrong.
pub fn run(
    ctx: &Context,
    counts: &StoredCounts,
    (refcounts, compared): (&Refcounts, &Compared),
    slots: &Slots,
    tables: Vec<Lost>,
    found: &mut Found,
) {
    let taken = proven(ctx, slots, &tables);
    let was_larger = has_entries_past_end(ctx);
    let mut claimed: HashMap<Slot, u64> = HashMap::new();
    let mut orphans = Vec::new();
    let mut again = vec![0; ctx.geometry.cluster_len()];
    for lost in tables {
        let candidates = slots.for_table(ctx, lost.table, &lost.shape, lost.index, &taken);
        let has_slot = !candidates.named.is_empty() || candidates.more > 0;
        if has_slot || lost.contradicted {
            // Only peeked at so far, and it matters, if only for the others; its content is known.
            let _ = ctx.source.read_padded_at(lost.table.get(), &mut again);
        }
        if has_slot || was_larger {
            candidates.named.iter().for_each(|&slot| *claimed.entry(slot).or_default() += 1);
            orphans.push((lost, candidates));
        }
    }
    for (lost, _) in &orphans {
        lost.claim_what_is_counted(ctx, counts, &found.claims);
        lost.claim_past_end(&found.beyond);
    }
    // Small offsets are often one bit apart: what else is leaked may be what an entry pointed to.
    let certain = orphans.len() == 1 && is_certain(&orphans[0]);
    let explained = (certain || orphans.iter().any(|(_, candidates)| candidates.proven))
        && explains_all_leaks(ctx, counts, (refcounts, compared), &found.claims);
    let room = ctx.found.room();
    let lost_bitmaps = ctx.found.findings().iter().any(|finding| finding.kind.is_of_bitmap());
    for (lost, candidates) in orphans {
        let rivals = candidates.named.iter().map(|slot| claimed[slot] - 1).max().unwrap_or(0);
        let cluster = ctx.geometry.cluster_floor(lost.table);
        let orphan = Orphan {
            table: lost.table,
            entries: lost.shape.entries,
            mapped: lost.shape.mapped,
            alone: counts.stored(cluster) == Some(1),
            // A table with damaged entries would show wrong data where nothing could be read.
            proven: (explained && (candidates.proven || certain) || candidates.names_cluster)
                && lost.shape.damaged == 0
                // The table of a bitmap looks like this.
                && (lost.shape.copied || !lost_bitmaps),
            slots: candidates.named,
            more_slots: candidates.more,
            rivals,
            contradicted: lost.contradicted,
        };
        if found.findings.len() < room {
            found.findings.push(Finding::new(Kind::OrphanTable(orphan), one(ctx, lost.table)));
        }
    }
}

/// Whether the active L1 table has entries past the end of the virtual disk: the size may be
/// damaged.
fn has_entries_past_end(ctx: &Context) -> bool {
    u64::from(ctx.area.header.l1_entries) > needed(ctx, Source::Active)
}

/// The slots whose damaged entry itself proves to which table it pointed.
fn proven(ctx: &Context, slots: &Slots, tables: &[Lost]) -> BTreeMap<Slot, HostOffset> {
    let mut taken = BTreeMap::new();
    for lost in tables.iter().filter(|lost| !lost.contradicted && lost.shape.damaged == 0) {
        let found = slots.for_table(ctx, lost.table, &lost.shape, lost.index, &taken);
        if let (true, [slot]) = (found.proven, &found.named[..]) {
            taken.insert(*slot, lost.table);
        }
    }
    taken
}

/// Whether one entry alone is left, and nothing can be read through it.
fn is_certain((lost, candidates): &(Lost, Candidates)) -> bool {
    let sole = candidates.named.len() == 1 && candidates.more == 0 && candidates.unreadable;
    sole && !lost.contradicted
}

/// Whether nothing is leaked but what these claims account for.
fn explains_all_leaks(
    ctx: &Context,
    counts: &StoredCounts,
    (refcounts, compared): (&Refcounts, &Compared),
    claims: &RefcountMap,
) -> bool {
    let end = ctx.file_clusters();
    let explained = |index: &_| {
        let first = ctx.geometry.first_cluster_of_block(*index);
        let inside = end.get().saturating_sub(first.get());
        (0..ctx.geometry.refblock_entries().min(inside)).all(|entry| {
            let cluster = first + ClusterCount::new(entry);
            let stored = counts.stored(cluster).unwrap_or(0);
            stored <= ctx.map.get(cluster) + claims.get(cluster)
        })
    };
    !refcounts.is_broken()
        && compared.uncounted.is_empty()
        && compared.differing.iter().all(explained)
}
