//! Clusters with more references than their refcount: the refcount may be wrong, or a pointer to
//! the cluster.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::check::passes::compare::Compared;
use crate::check::passes::copied::continues;
use crate::check::report::{Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::check::survey::mapping::{Mapping, Table};
use crate::format::feature::incompatible;
use crate::format::l2::L2Entry;
use crate::format::{ClusterCount, HostCluster};

/// L2 tables that are read to find which entries point to such clusters, at most.
const MAX_TABLES: usize = 1 << 12;

/// Clusters that are looked for, at most.
const MAX_CLUSTERS: usize = 1 << 16;

/// The places of clusters whose refcount is too low because a pointer may be wrong. With lazy
/// refcounts that is how an image looks until it is closed.
pub fn doubtful(ctx: &Context, mapping: &Mapping, compared: &Compared) -> Vec<Place> {
    if ctx.area.header.has_incompatible(incompatible::DIRTY) {
        return Vec::new();
    }
    let low =
        ctx.found.findings().iter().filter_map(|finding| match (&finding.kind, finding.place) {
            (&Kind::Count { stored, referenced }, Place::Clusters(first, count)) => {
                (stored < referenced && !compared.is_uncounted(first))
                    .then_some((stored, first..first + count))
            }
            (Kind::Overflow { .. }, Place::Clusters(first, count)) => {
                Some((1, first..first + count))
            }
            _ => None,
        });
    // A crash leaves references that are not counted, but none to what is another's.
    let (others, uncounted): (Vec<_>, Vec<_>) =
        low.filter(|(_, range)| !describes_itself(ctx, range)).partition(|&(stored, _)| stored > 0);
    let others = others.into_iter().map(|(_, range)| range);
    let mut low: Vec<Range<HostCluster>> = uncounted.into_iter().map(|(_, range)| range).collect();
    if let Some(in_sequence) = in_sequence(ctx, mapping, &low) {
        low.retain(|range| {
            let clusters =
                (0..(range.end - range.start).get()).map(|n| range.start + ClusterCount::new(n));
            !clusters.into_iter().all(|cluster| in_sequence.get(&cluster) == Some(&true))
        });
    }
    low.extend(others);
    low.into_iter().map(|range| Place::Clusters(range.start, range.end - range.start)).collect()
}

/// Whether the header or refcount structures are here: were the pointer wrong, most refcounts were.
/// And a pointer of the refcount table that is wrong referred to nothing else.
fn describes_itself(ctx: &Context, range: &Range<HostCluster>) -> bool {
    let kinds = [RegionKind::Header, RegionKind::Reftable, RegionKind::Refblock];
    let owners = || ctx.regions.touching(range.clone());
    owners().any(|region| region.kind == RegionKind::Refblock && region.told)
        || owners().next().is_some() && owners().all(|region| kinds.contains(&region.kind))
}

/// The clusters of these ranges that L2 entries point to, and whether each such entry continues its
/// neighbours: guests write in sequence, and a pointer that is damaged does not fit between those
/// beside it. `None` where this takes too long.
fn in_sequence(
    ctx: &Context,
    mapping: &Mapping,
    low: &[Range<HostCluster>],
) -> Option<BTreeMap<HostCluster, bool>> {
    if low.is_empty() {
        return None;
    }
    let tables: Vec<&Table> = mapping.usable_tables(&ctx.geometry).collect();
    if tables.len() > MAX_TABLES {
        return None;
    }
    let is_low = |cluster: HostCluster| {
        let behind = low.partition_point(|range| range.start <= cluster);
        behind.checked_sub(1).is_some_and(|n| cluster < low[n].end)
    };
    let mut found = BTreeMap::new();
    let mut bytes = vec![0; ctx.geometry.cluster_len()];
    for table in tables {
        ctx.source.peek_at(table.offset.get(), &mut bytes).ok()?;
        let entries: Vec<L2Entry> =
            bytes.chunks_exact(ctx.geometry.l2_entry_bytes()).map(L2Entry::decode).collect();
        for (n, &entry) in entries.iter().enumerate() {
            let host = entry.host_cluster(&ctx.geometry);
            if let Some(host) = host.filter(|&host| is_low(host)) {
                if found.len() > MAX_CLUSTERS {
                    return None;
                }
                *found.entry(host).or_insert(true) &= continues(ctx, &entries, n);
            }
        }
    }
    Some(found)
}
