//! New refcount blocks and a new refcount table beside the old ones, then one write that switches
//! to them.

use super::counts::CountCodes;
use super::placement::{self, Free, Placement};
use super::quarantine::{Quarantine, is_empty};
use super::step::{CountChange, RepairPlan, StageKind, Step, Write, codes};
use crate::check::survey::regions::Region;
use crate::check::{Finding, Kind, Place, RegionKind, Survey};
use crate::error::Result;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::{HeaderField, encode_field};
use crate::format::{ClusterCount, Geometry, HostCluster, HostOffset, encode_entries};
use crate::storage::{Capacity, Storage};

/// Plans them. The new refcounts do not include the old structures: they are free once nothing
/// points to them. `extra` clusters are kept free of both, and counted.
pub fn plan(
    plan: &mut RepairPlan,
    storage: &dyn Storage,
    survey: &Survey,
    quarantine: &Quarantine,
    capacity: Capacity,
    extra: ClusterCount,
) -> Result<HostCluster> {
    let geometry = survey.area.geometry;
    let of_counts = [RegionKind::Reftable, RegionKind::Refblock];
    let regions = survey.regions.iter();
    let old: Vec<_> = regions.filter(|r| of_counts.contains(&r.kind)).collect();
    for region in &old {
        plan.target_mut().take(region.first, region.count, region.pointers);
    }
    keep_what_is_not_ours(plan, storage, survey, quarantine, &old)?;
    let avoid = old.iter().map(|r| r.first..r.end()).collect();
    let is_free = |cluster| quarantine.is_free(storage, survey, cluster);
    let free = Free { capacity, file_bytes: survey.file_bytes, is_free: &is_free };
    let placement = placement::place(&geometry, &plan.target, avoid, &free, extra)?;
    for &(first, count) in &placement.taken {
        plan.target_mut().add(first, count, 1);
    }
    plan.rebuilds = true;
    stages(plan, survey, &geometry, &placement);
    Ok(placement.extra)
}

/// Counts clusters that are treated as old refcount structures by a wrong pointer or length, and
/// hold something else.
fn keep_what_is_not_ours(
    plan: &mut RepairPlan,
    storage: &dyn Storage,
    survey: &Survey,
    quarantine: &Quarantine,
    old: &[Region],
) -> Result<()> {
    if plan.given_up {
        return Ok(());
    }
    let geometry = survey.area.geometry;
    let mut doubtful = quarantine.mistaken_blocks(survey);
    doubtful.extend(quarantine.strays());
    let blocks = geometry.refblocks_for(survey.file_bytes);
    let needed = geometry.clusters_for(blocks * TABLE_ENTRY_BYTES).get();
    for region in old {
        let clusters = (0..region.count.get()).map(|n| (n, region.first + ClusterCount::new(n)));
        match region.kind {
            // What the file needs of the table is in use; what follows may be somebody else's.
            RegionKind::Reftable => {
                for (number, cluster) in clusters {
                    let is_ours = number < needed && !quarantine.may_be_no_reftable(cluster);
                    let at = geometry.offset_of(cluster);
                    if !is_ours && !is_empty(&storage, at, geometry.cluster_bytes())? {
                        doubtful.push(cluster);
                    }
                }
            }
            _ if region.told => doubtful.extend(clusters.map(|(_, cluster)| cluster)),
            _ => {}
        }
    }
    for cluster in doubtful {
        if plan.target.get(cluster) == 0 {
            plan.target_mut().add(cluster, ClusterCount::new(1), 1);
        }
    }
    Ok(())
}

/// Whether more refer to a refcount structure than can be counted.
fn is_excess_of_counts(survey: &Survey, finding: &Finding) -> bool {
    let Place::Clusters(first, count) = finding.place else { return false };
    let is_ours = |kind| matches!(kind, RegionKind::Reftable | RegionKind::Refblock);
    matches!(finding.kind, Kind::Overflow { .. })
        && survey.regions.touching(first..first + count).any(|region| is_ours(region.kind))
}

fn stages(plan: &mut RepairPlan, survey: &Survey, geometry: &Geometry, placement: &Placement) {
    let at = |cluster| geometry.offset_of(cluster);
    let structure = codes(&survey.report, |finding| {
        finding.is_about_the_reftable()
            || is_excess_of_counts(survey, finding)
            || finding.kind.is_reftable_entry()
    });
    let counts = CountCodes::of(&survey.report);
    let mut steps = Vec::new();
    for &(index, cluster) in &placement.blocks {
        let mut fixes = structure.clone();
        fixes.extend(counts.of_block(plan, index, CountChange::Exact));
        steps.push(Step::new(Write::NewBlock { index, block: at(cluster) }, fixes));
    }
    let mut fixes = structure;
    fixes.extend(codes(&survey.report, |finding| matches!(finding.kind, Kind::Count { .. })));
    let table = encode_entries(&table_entries(geometry, placement));
    let table_at = at(placement.table);
    plan.stage(StageKind::Structures, steps);
    // Only with its blocks on disk: then a repair that was interrupted is recognised by what it
    // wrote.
    let table = Step::bytes(table_at, table, "the new refcount table", fixes.clone());
    plan.stage(StageKind::StructuresTable, vec![table]);
    let mut pointer = encode_field(HeaderField::ReftableOffset, table_at.get());
    let clusters = placement.table_clusters.get();
    pointer.extend(encode_field(HeaderField::ReftableClusters, clusters));
    let offset = HostOffset::new(HeaderField::ReftableOffset.place().0);
    let what = "the refcount table's offset and length in the header";
    plan.stage(StageKind::StructuresSwitch, vec![Step::bytes(offset, pointer, what, fixes)]);
}

fn table_entries(geometry: &Geometry, placement: &Placement) -> Vec<u64> {
    let entries = geometry.bytes_of(placement.table_clusters) / TABLE_ENTRY_BYTES;
    let mut table = vec![0; usize::try_from(entries).unwrap_or(0)];
    for &(index, cluster) in &placement.blocks {
        if let Some(entry) = usize::try_from(index.get()).ok().and_then(|i| table.get_mut(i)) {
            *entry = geometry.offset_of(cluster).get();
        }
    }
    table
}
