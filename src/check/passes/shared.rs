//! Data clusters of several guest positions. Whether that is an error the refcounts and COPIED
//! flags show; several snapshots that use a cluster at one position are as it should be. Relies on
//! everything being counted and on the regions being in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::check::parallel;
use crate::check::report::{Finding, Kind, Place, RegionKind, Source};
use crate::check::survey::context::Context;
use crate::check::survey::mapping::{MANY_BYTES, Mapping, Table};
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, HostCluster, L1Index};

/// Bytes of the tables at one L1 index that are in memory at a time.
const SLICES_BYTES: usize = 4 << 20;

/// Looks for them on the active disk, then in the snapshots.
pub fn run(ctx: &Context, mapping: &Mapping, found: &mut Vec<Finding>) {
    let room = ctx.found.room();
    let mut shared = Vec::new();
    let mut share = |first, count| {
        if shared.len() < room {
            shared.push(Finding::new(Kind::SharedData, Place::Clusters(first, count)));
        }
    };
    on_the_active_disk(mapping, &mut share);
    found.extend(in_snapshots(ctx, mapping, &mut share));
    found.append(&mut shared);
}

fn on_the_active_disk(mapping: &Mapping, share: &mut dyn FnMut(HostCluster, ClusterCount)) {
    if mapping.active.has_shared() {
        for range in mapping.active.ranges() {
            mapping.active.for_each_run(range, |first, count, uses| {
                if uses > 1 {
                    share(first, count);
                }
            });
        }
    }
    for range in mapping.compressed.ranges() {
        mapping.compressed.for_each_run(range, |first, count, uses| {
            if uses > 0 && !mapping.active.is_unreferenced(first, count) {
                share(first, count);
            }
        });
    }
}

/// The tables at one L1 index.
type Group<'a> = Vec<&'a Table>;

/// Clusters below tables that the active disk does not use: all references to them must come from
/// the same guest position.
fn in_snapshots(
    ctx: &Context,
    mapping: &Mapping,
    share: &mut dyn FnMut(HostCluster, ClusterCount),
) -> Vec<Finding> {
    let groups = groups(ctx, mapping);
    let tables: usize = groups.iter().map(Vec::len).sum();
    let many = tables as u64 * ctx.geometry.cluster_bytes() > MANY_BYTES;
    let look = |buffer: &mut Vec<u8>, number: usize| elsewhere(ctx, &groups[number], many, buffer);
    let mut shared = BTreeSet::new();
    let mut unread = Vec::new();
    for found in parallel::map(ctx.threads, groups.len(), Vec::new, look) {
        match found {
            Ok(clusters) => shared.extend(clusters),
            Err((table, error)) => unread.push(mapping.unreadable(table, &error)),
        }
    }
    let mut run: Option<(HostCluster, ClusterCount)> = None;
    for cluster in shared {
        // Pointers to refcount structures are rebuilt, and the positions share the cluster still.
        let is_rebuilt = |kind| matches!(kind, RegionKind::Reftable | RegionKind::Refblock);
        let mut owners = ctx.regions.touching(cluster..cluster.next());
        let is_reported =
            mapping.active.get(cluster) > 1 || owners.any(|owner| !is_rebuilt(owner.kind));
        if is_reported {
            continue;
        }
        match &mut run {
            Some((first, count)) if *first + *count == cluster => *count += ClusterCount::new(1),
            _ => {
                if let Some((first, count)) = run.replace((cluster, ClusterCount::new(1))) {
                    share(first, count);
                }
            }
        }
    }
    if let Some((first, count)) = run {
        share(first, count);
    }
    unread
}

/// For each L1 index with a table that only snapshots use, all tables there. Tables at several
/// indices are reported already.
fn groups<'a>(ctx: &Context, mapping: &'a Mapping) -> Vec<Group<'a>> {
    let at_one_index =
        |table: &&Table| ctx.geometry.is_aligned(table.offset) && !mapping.is_at_two_places(table);
    let tables = || mapping.tables.iter().filter(at_one_index);
    let index = |table: &Table| mapping.visits_of(table).next().map(|(_, visit)| visit.index);
    let is_inactive =
        |table: &&Table| mapping.visits_of(table).all(|(_, v)| v.source != Source::Active);
    // The active disk alone can have millions of indices.
    let mut groups: BTreeMap<L1Index, Group> = BTreeMap::new();
    groups.extend(tables().filter(is_inactive).filter_map(index).map(|at| (at, Group::new())));
    if !groups.is_empty() {
        for table in tables() {
            if let Some(group) = index(table).and_then(|index| groups.get_mut(&index)) {
                group.push(table);
            }
        }
    }
    groups.into_values().collect()
}

/// Clusters of a group's tables that something outside the guest position references too. The
/// tables are read side by side, a slice of each at a time.
fn elsewhere<'a>(
    ctx: &Context,
    group: &Group<'a>,
    many: bool,
    buffer: &mut Vec<u8>,
) -> Result<Vec<HostCluster>, (&'a Table, io::Error)> {
    let len = ctx.geometry.cluster_len();
    let is_read = |table: &&Table| !(table.unread || many && ctx.is_hole(table.offset, len as u64));
    let tables: Group = group.iter().copied().filter(is_read).collect();
    let slice = (SLICES_BYTES / tables.len().max(1) / 512 * 512).clamp(512, len);
    let mut found = Vec::new();
    for from in (0..len).step_by(slice) {
        let slice = slice.min(len - from);
        buffer.resize(tables.len() * slice, 0);
        for (&table, bytes) in tables.iter().zip(buffer.chunks_exact_mut(slice)) {
            let at = table.offset.get() + from as u64;
            ctx.source.read_padded_at(at, bytes).map_err(|error| (table, error))?;
        }
        compare(ctx, &tables, buffer, slice, &mut found);
    }
    Ok(found)
}

/// Compares the references of each guest position with all references, over slices of the tables.
fn compare(
    ctx: &Context,
    tables: &[&Table],
    slices: &[u8],
    slice: usize,
    found: &mut Vec<HostCluster>,
) {
    let entry_bytes = ctx.geometry.l2_entry_bytes();
    let mut here: Vec<(HostCluster, u64)> = Vec::new();
    for at in (0..slice).step_by(entry_bytes) {
        here.clear();
        for (bytes, table) in slices.chunks_exact(slice).zip(tables) {
            let cluster = cluster_of(ctx, &bytes[at..at + entry_bytes]);
            here.extend(cluster.map(|cluster| (cluster, table.times())));
        }
        here.sort_unstable();
        for same in here.chunk_by(|a, b| a.0 == b.0) {
            let times: u64 = same.iter().map(|&(_, times)| times).sum();
            if ctx.map.get(same[0].0) > times {
                found.push(same[0].0);
            }
        }
    }
}

/// The cluster that an entry with a cluster of its own points to.
fn cluster_of(ctx: &Context, entry: &[u8]) -> Option<HostCluster> {
    match L2Entry::decode(entry).meaning(&ctx.geometry, ctx.area.header.has_data_file()) {
        Meaning::Data(at) | Meaning::ZeroAllocated(at) if !ctx.area.header.has_data_file() => {
            Some(ctx.geometry.cluster_floor(at))
        }
        _ => None,
    }
}
