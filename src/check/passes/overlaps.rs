//! Clusters that more than one structure claims. Relies on everything being counted and compared.

use super::{compressed, shared};
use crate::check::report::{Finding, Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::check::survey::mapping::Mapping;
use crate::check::survey::regions::Region;
use crate::check::survey::stored::StoredCounts;
use crate::format::{ClusterCount, HostCluster};

/// Clusters of metadata that are looked at, far more than any consistent image has: structures that
/// are over each other can be made in any number by a few bytes.
const MAX_CLUSTERS: u64 = 1 << 26;

/// Looks for every kind of double use.
pub fn run(ctx: &Context, mapping: &mut Mapping, counts: &StoredCounts) -> Vec<Finding> {
    let mut found = Vec::new();
    metadata(ctx, counts, &mut found);
    tables_at_two_places(ctx, mapping, counts, &mut found);
    shared::run(ctx, mapping, &mut found);
    compressed::run(ctx, mapping, counts, &mut found);
    found
}

/// A metadata cluster has one reference for each pointer to it; more come from elsewhere.
fn metadata(ctx: &Context, counts: &StoredCounts, found: &mut Vec<Finding>) {
    let mut budget = MAX_CLUSTERS;
    for (number, region) in ctx.regions.iter().enumerate() {
        if is_wrong_block(&region) {
            continue; // The refcount table's entry is reported.
        }
        let Some(left) = budget.checked_sub(region.count.get()) else { return };
        budget = left;
        let mut over: Vec<(HostCluster, ClusterCount)> = Vec::new();
        ctx.map.for_each_run(region.first..region.end(), |first, count, references| {
            if references <= region.pointers {
                return;
            }
            match over.last_mut() {
                Some((run, so_far)) if *run + *so_far == first => *so_far += count,
                _ => over.push((first, count)),
            }
        });
        for (first, count) in over {
            let other = ctx.regions.overlapping(first..first + count, number);
            if other.as_ref().is_some_and(is_wrong_block)
                && ctx.map.get(first) <= region.pointers + 1
            {
                continue;
            }
            if other.is_some_and(|other| precedes(&other, &region)) {
                continue; // Reported with the other one.
            }
            let told = region.told || other.is_some_and(|o| o.told);
            let other = other.map(|o| o.kind);
            let blocks = [Some(region.kind), other].contains(&Some(RegionKind::Refblock));
            let counted = blocks || told || !counts.is_equal(first, count);
            let kind = Kind::Overlap { owner: region.kind, other, counted };
            let finding = Finding::new(kind, Place::Clusters(first, count));
            // A million entries can point to one cluster.
            if found.last() != Some(&finding) {
                found.push(finding);
            }
        }
    }
}

/// Whether an entry of the refcount table points there, to what is not a refcount block.
fn is_wrong_block(region: &Region) -> bool {
    region.kind == RegionKind::Refblock && region.told
}

fn precedes(a: &Region, b: &Region) -> bool {
    (a.first, a.count, a.kind) < (b.first, b.count, b.kind)
}

/// An L2 table maps one guest range; at a second L1 index it maps another with the same clusters.
fn tables_at_two_places(
    ctx: &Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    found: &mut Vec<Finding>,
) {
    for table in mapping.tables.iter().filter(|table| mapping.is_at_two_places(table)) {
        let Some((_, first)) = mapping.visits_of(table).next() else { continue };
        let cluster = ctx.geometry.cluster_floor(table.offset);
        let told = !ctx.geometry.is_aligned(table.offset);
        let counted = told || !counts.is_equal(cluster, ClusterCount::new(1));
        let kind = Kind::L2TableTwice { table: table.offset, counted };
        found.push(Finding::new(kind, Place::L1(first.source, first.index)));
    }
}
