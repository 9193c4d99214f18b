//! Looks for L2 tables that no L1 entry points to among the clusters that nothing references.

use std::collections::HashMap;
use std::io;

use super::reftable::Reftable;
use super::shape::{Evidence, Shape};
use super::sift::{HEAD_BYTES, Lost};
use crate::check::parallel;
use crate::check::passes::compare::Compared;
use crate::check::report::{Finding, Kind, Place};
use crate::check::survey::context::Context;
use crate::check::survey::data;
use crate::check::survey::mapping::{Mapping, Table};
use crate::check::survey::refcounts::{Block, Refcounts};
use crate::check::survey::stored::StoredCounts;
use crate::format::refcount;
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index};
use crate::storage::Peeked;

/// Suspects that are looked at by one thread in one go.
const RUN_CLUSTERS: u64 = 64;
/// So many runs of suspects are worth a second thread.
const FEW_SUSPECTS: usize = 64;
/// Clusters without a refcount that are looked at, at most.
const MAX_UNCOUNTED: u64 = 1 << 16;

/// Clusters that may be lost tables.
#[derive(Debug, Clone, Copy)]
struct Suspects {
    first: HostCluster,
    count: u64,
    evidence: Evidence,
    /// The L1 index where other L1 tables have it: snapshots share tables.
    index: Option<L1Index>,
}

/// The tables that were found, and what could not be read.
#[derive(Default)]
pub struct Sighted {
    /// In no order.
    pub tables: Vec<Lost>,
    /// Those of which nothing is in the file.
    pub hollow: Vec<Lost>,
    /// What could not be read.
    pub findings: Vec<Finding>,
}

/// Looks at every cluster that may be a lost table.
pub fn run(
    ctx: &Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    refcounts: &Refcounts,
    compared: &Compared,
) -> Sighted {
    let mut found = Sighted::default();
    let mut suspects = misread(ctx, mapping);
    suspects.extend(leaked(ctx, mapping, refcounts, compared, &mut found.findings));
    suspects.extend(uncounted(ctx, compared));
    // Each thread has a buffer of a cluster.
    let threads = if suspects.len() < FEW_SUSPECTS { 1 } else { ctx.threads };
    let looked = parallel::map(threads, suspects.len(), Vec::new, |bytes, number| {
        look(ctx, counts, &suspects[number], bytes)
    });
    for (table, result) in looked.into_iter().flatten() {
        match result {
            Ok(lost) if lost.shape.is_hollow => found.hollow.push(lost),
            Ok(lost) => found.tables.push(lost),
            Err(error) => {
                let what = "leaked cluster";
                let kind = Kind::Unreadable { what, offset: table, error: error.to_string() };
                found.findings.push(Finding::new(kind, one(ctx, table)));
            }
        }
    }
    found
}

/// The cluster of a table.
pub fn one(ctx: &Context, table: HostOffset) -> Place {
    Place::Clusters(ctx.geometry.cluster_floor(table), ClusterCount::new(1))
}

/// Clusters in whose middle a table was read, since an L1 entry pointed there.
fn misread(ctx: &Context, mapping: &Mapping) -> Vec<Suspects> {
    let unaligned = mapping.tables.iter().filter(|t| !ctx.geometry.is_aligned(t.offset));
    // Tables are in the order of the file.
    let mut clusters: Vec<HostCluster> = Vec::new();
    for cluster in unaligned.map(|t| ctx.geometry.cluster_floor(t.offset)) {
        if clusters.last() != Some(&cluster) {
            clusters.push(cluster);
        }
    }
    clusters.retain(|&cluster| {
        cluster.get() > 0 && ctx.map.get(cluster) == ctx.regions.wrong_claims(cluster)
    });
    let evidence = Evidence::Counted;
    let suspects = clusters.into_iter();
    suspects.map(|first| Suspects { first, count: 1, evidence, index: None }).collect()
}

/// Clusters with a refcount higher than the references found.
fn leaked(
    ctx: &Context,
    mapping: &Mapping,
    refcounts: &Refcounts,
    compared: &Compared,
    unread: &mut Vec<Finding>,
) -> Vec<Suspects> {
    let shared = shared_tables(ctx, mapping);
    let sound = |&index| refcounts.block(index).filter(|block| block.sound);
    let differing: Vec<Block> = compared.differing.iter().filter_map(sound).collect();
    let blocks = parallel::map(ctx.threads, differing.len(), Vec::new, |bytes, number| {
        suspects_of(ctx, &differing[number], compared, &shared, bytes)
    });
    let mut suspects = Vec::new();
    for (block, result) in differing.iter().zip(blocks) {
        match result {
            Ok(found) => suspects.extend(found),
            Err(error) => {
                let (what, offset) = ("refcount block", block.offset);
                let kind = Kind::Unreadable { what, offset, error: error.to_string() };
                unread.push(Finding::new(kind, Place::Refblock(block.index)));
            }
        }
    }
    suspects
}

/// Tables that some L1 tables have and others lack, by cluster, with their index.
fn shared_tables(ctx: &Context, mapping: &Mapping) -> HashMap<HostCluster, L1Index> {
    let disks = ctx.snapshots.entries.len() as u64 + 1;
    let tables = mapping.tables.iter().filter(|t| disks > 1 && t.times() < disks);
    let place = |table: &Table| {
        let (_, visit) = mapping.visits_of(table).next()?;
        Some((ctx.geometry.cluster_exact(table.offset)?, visit.index))
    };
    tables.filter_map(place).collect()
}

/// The clusters of a block whose refcount is higher than the references found.
fn suspects_of(
    ctx: &Context,
    block: &Block,
    compared: &Compared,
    shared: &HashMap<HostCluster, L1Index>,
    bytes: &mut Vec<u8>,
) -> io::Result<Vec<Suspects>> {
    let geometry = &ctx.geometry;
    bytes.resize(geometry.cluster_len(), 0);
    let mut expected = bytes.clone();
    ctx.source.read_padded_at(block.offset.get(), bytes)?;
    ctx.map.encode_block(block.index, geometry, &mut expected);
    let (order, start) = (geometry.refcount_order(), geometry.first_cluster_of_block(block.index));
    let entries = 0..geometry.refblock_entries_before(block.index, ctx.file_bytes);
    let mut found: Vec<Suspects> = Vec::new();
    for (entry, is, should) in refcount::differing((bytes, &expected), order, entries) {
        let first = start + ClusterCount::new(entry as u64);
        if is <= should || compared.is_uncounted(first) {
            continue;
        }
        if should == 0 {
            add(&mut found, first, Evidence::Unreferenced);
        } else if let Some(&index) = shared.get(&first) {
            let evidence = Evidence::Unreferenced;
            found.push(Suspects { first, count: 1, evidence, index: Some(index) });
        }
    }
    Ok(found)
}

/// Adds a cluster that nothing references, to the last run where it goes on from there.
fn add(found: &mut Vec<Suspects>, first: HostCluster, evidence: Evidence) {
    match found.last_mut() {
        Some(run)
            if run.index.is_none()
                && run.first.get() + run.count == first.get()
                && run.count < RUN_CLUSTERS =>
        {
            run.count += 1;
        }
        _ => found.push(Suspects { first, count: 1, evidence, index: None }),
    }
}

/// Clusters with content that nothing references, where no refcount shows whether they are in use.
fn uncounted(ctx: &Context, compared: &Compared) -> Vec<Suspects> {
    let mut found = Vec::new();
    let mut left = MAX_UNCOUNTED;
    for range in &compared.uncounted {
        let runs = data::unreferenced(ctx.source, &ctx.geometry, &ctx.map, range.clone());
        for run in runs.filter_map(Result::ok) {
            let mut at = run.start;
            while at < run.end && left > 0 {
                add(&mut found, at, Evidence::Uncounted);
                left -= 1;
                at = at.next();
            }
        }
    }
    found
}

/// Reads suspects; returns those that are formed like tables, and those that could not be read.
fn look(
    ctx: &Context,
    counts: &StoredCounts,
    suspects: &Suspects,
    bytes: &mut Vec<u8>,
) -> Vec<(HostOffset, io::Result<Lost>)> {
    let mut found = Vec::new();
    let clusters = suspects.first..suspects.first + ClusterCount::new(suspects.count);
    for table in ctx.data_clusters(clusters).map(|cluster| ctx.geometry.offset_of(cluster)) {
        match read_shape(ctx, counts, table, suspects.evidence, bytes) {
            Ok(None) => {}
            Ok(Some(shape)) => {
                let (index, evidence) = (suspects.index, suspects.evidence);
                let lost = Lost { table, shape, index, evidence, contradicted: false };
                found.push((table, Ok(lost)));
            }
            Err(error) => found.push((table, Err(error))),
        }
    }
    found
}

fn read_shape(
    ctx: &Context,
    counts: &StoredCounts,
    table: HostOffset,
    evidence: Evidence,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<Shape>> {
    let len = ctx.geometry.cluster_len();
    let head = len.min(HEAD_BYTES);
    bytes.resize(len, 0);
    ctx.source.peek_at(table.get(), &mut bytes[..head])?;
    if !Shape::begins_like(ctx, &bytes[..head]) {
        return Ok(None);
    }
    ctx.source.peek_at(table.get(), bytes)?;
    let shape = Shape::of(ctx, counts, bytes, evidence);
    match shape {
        // The header points to it, though what it has of the refcount table cannot be right.
        Some(shape) if !shape.copied && ctx.area.header.reftable == table => Ok(None),
        // A rebuild that counts all data counts the refcount structures of former times too.
        Some(shape) if !shape.copied => {
            let former = Reftable::at(&Peeked(ctx.source), table, ctx.geometry)?;
            Ok(former.is_none().then_some(shape))
        }
        shape => Ok(shape),
    }
}
