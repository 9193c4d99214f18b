//! A file that ends within a table. Relies on every region being known.

use crate::check::report::{Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::format::{ClusterCount, HostOffset};

/// Reports each kind of structure that takes whole clusters, of which the last one is not whole.
/// QEMU reads zeroes where the file ends, so that what the table held there reads as if it had
/// never been written. Guest data may end anywhere: QEMU writes no more of a last cluster than a
/// guest did.
pub fn run(ctx: &mut Context) {
    let last = ctx.geometry.cluster_floor(HostOffset::new(ctx.true_bytes));
    let end = ctx.geometry.offset_of(last.next()).get();
    if ctx.true_bytes % ctx.geometry.cluster_bytes() == 0 {
        return;
    }
    let mut owners: Vec<RegionKind> = Vec::new();
    for region in ctx.regions.touching(last..last.next()) {
        let kind = std::mem::discriminant(&region.kind);
        let is_told = region.told || owners.iter().any(|o| std::mem::discriminant(o) == kind);
        if takes_whole_clusters(region.kind) && !is_told {
            owners.push(region.kind);
        }
    }
    for owner in owners {
        let kind = Kind::CutOff { owner, bytes: end - ctx.true_bytes };
        ctx.find(kind, Place::Clusters(last, ClusterCount::new(1)));
    }
}

const fn takes_whole_clusters(kind: RegionKind) -> bool {
    matches!(
        kind,
        RegionKind::L2Table
            | RegionKind::Reftable
            | RegionKind::Refblock
            | RegionKind::BitmapData(_)
    )
}
