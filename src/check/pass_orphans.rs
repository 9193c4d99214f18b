//! Looks for L2 tables that no L1 entry leads to among the clusters that nothing references, and for
//! the L1 entries that can own them. Relies on the comparison and on the regions being in order.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::context::Context;
use super::finding::{Finding, Kind, Place};
use super::lost::{self, HEAD_BYTES, Lost};
use super::orphans::{Evidence, Orphan, Shape, Slot};
use super::parallel;
use super::pass_compare::Compared;
use super::pass_refcounts::{Block, Refcounts};
use super::refcount_map::RefcountMap;
use super::reftable::Reftable;
use super::slots::Slots;
use super::stored::StoredCounts;
use super::walk::Mapping;
use crate::format::refcount::get_refcount;
use crate::format::{ClusterCount, HostCluster, HostOffset, L1Index};
use crate::storage::Peeked;

/// Suspects that are looked at by one thread in one go.
const RUN_CLUSTERS: u64 = 64;

/// How often it is thought over again what places are left.
const MAX_DEDUCTIONS: usize = 32;

/// Clusters that may be lost tables.
#[derive(Debug, Clone, Copy)]
struct Suspects {
    first: HostCluster,
    count: u64,
    evidence: Evidence,
    /// The L1 index where other L1 tables have it: snapshots share tables.
    index: Option<L1Index>,
}

/// What the search found.
#[derive(Debug, Default)]
pub struct Found {
    /// The orphans, and what could not be read.
    pub findings: Vec<Finding>,
    /// References that the orphans would have and make if they were in their places.
    pub claims: RefcountMap,
}

/// Finds orphans.
pub fn run(
    ctx: &Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    refcounts: &Refcounts,
    compared: &Compared,
) -> Found {
    let mut found = Found::default();
    let nothing_lost = ctx.found.tally().leaks == 0 && !ctx.found.hides_references();
    if nothing_lost || refcounts.unreadable {
        return found;
    }
    let slots = Slots::of(ctx, mapping, counts);
    if slots.is_empty() {
        return found;
    }
    let shared = shared_tables(ctx, mapping);
    let sound = |&index| refcounts.block(index).filter(|block| block.sound);
    let differing: Vec<Block> = compared.differing.iter().filter_map(sound).collect();
    let blocks = parallel::map(ctx.threads, differing.len(), Vec::new, |bytes, number| {
        suspects_of(ctx, &differing[number], &shared, bytes)
    });
    let mut suspects = misread(ctx, mapping);
    for (block, result) in differing.iter().zip(blocks) {
        match result {
            Ok(found) => suspects.extend(found),
            Err(error) => {
                let (what, offset) = ("refcount block", block.offset);
                let kind = Kind::Unreadable { what, offset, error: error.to_string() };
                found.findings.push(Finding::new(kind, Place::Refblock(block.index)));
            }
        }
    }
    let mut tables = Vec::new();
    let looked = parallel::map(ctx.threads, suspects.len(), Vec::new, |bytes, number| {
        look(ctx, counts, &suspects[number], bytes)
    });
    for (table, result) in looked.into_iter().flatten() {
        match result {
            Ok(lost) => tables.push(lost),
            Err(error) => {
                let what = "leaked cluster";
                let kind = Kind::Unreadable { what, offset: table, error: error.to_string() };
                found.findings.push(Finding::new(kind, one(ctx, table)));
            }
        }
    }
    lost::sift(ctx, counts, &mut tables);
    with_owners(ctx, counts, &slots, tables, &mut found);
    found
}

fn one(ctx: &Context, table: HostOffset) -> Place {
    Place::Clusters(ctx.geometry.cluster_floor(table), ClusterCount::new(1))
}

/// Tables that some L1 tables have and others lack, by cluster, with their index.
fn shared_tables(ctx: &Context, mapping: &Mapping) -> HashMap<HostCluster, L1Index> {
    let disks = ctx.snapshots.entries.len() as u64 + 1;
    let tables = mapping.tables.iter().filter(|t| disks > 1 && t.times() < disks);
    let place = |table: &super::walk::Table| {
        let (_, visit) = mapping.visits_of(table).next()?;
        Some((ctx.geometry.cluster_exact(table.offset)?, visit.index))
    };
    tables.filter_map(place).collect()
}

/// Clusters in whose middle a table was read, since an L1 entry said so.
fn misread(ctx: &Context, mapping: &Mapping) -> Vec<Suspects> {
    let unaligned = mapping.tables.iter().filter(|t| !ctx.geometry.is_aligned(t.offset));
    let clusters = unaligned.map(|t| ctx.geometry.cluster_floor(t.offset));
    let nobodys = clusters.filter(|&cluster| {
        cluster.get() > 0 && ctx.map.get(cluster) == ctx.regions.wrong_claims(cluster)
    });
    let evidence = Evidence::Counted;
    nobodys.map(|first| Suspects { first, count: 1, evidence, index: None }).collect()
}

/// The clusters of a block that are counted more often than they are referenced.
fn suspects_of(
    ctx: &Context,
    block: &Block,
    shared: &HashMap<HostCluster, L1Index>,
    bytes: &mut Vec<u8>,
) -> io::Result<Vec<Suspects>> {
    let geometry = &ctx.geometry;
    bytes.resize(geometry.cluster_len(), 0);
    let mut expected = bytes.clone();
    ctx.source.read_padded_at(block.offset.get(), bytes)?;
    ctx.map.encode_block(block.index, geometry, &mut expected);
    let (order, start) = (geometry.refcount_order(), geometry.first_cluster_of_block(block.index));
    let end = ctx.file_clusters().get().saturating_sub(start.get());
    let evidence = Evidence::Unreferenced;
    let mut found: Vec<Suspects> = Vec::new();
    for entry in 0..geometry.refblock_entries().min(end) {
        let at = usize::try_from(entry).unwrap_or(usize::MAX);
        let (is, should) = (get_refcount(bytes, order, at), get_refcount(&expected, order, at));
        if is <= should {
            continue;
        }
        let first = start + ClusterCount::new(entry);
        match found.last_mut() {
            Some(run)
                if should == 0
                    && run.index.is_none()
                    && run.first.get() + run.count == first.get()
                    && run.count < RUN_CLUSTERS =>
            {
                run.count += 1;
            }
            _ if should == 0 => found.push(Suspects { first, count: 1, evidence, index: None }),
            _ => {
                if let Some(&index) = shared.get(&first) {
                    found.push(Suspects { first, count: 1, evidence, index: Some(index) });
                }
            }
        }
    }
    Ok(found)
}

/// Reads suspects; gives those that are made like tables, and those that could not be read.
fn look(
    ctx: &Context,
    counts: &StoredCounts,
    suspects: &Suspects,
    bytes: &mut Vec<u8>,
) -> Vec<(HostOffset, io::Result<Lost>)> {
    let len = ctx.geometry.cluster_len();
    let mut found = Vec::new();
    for number in 0..suspects.count {
        let table = ctx.geometry.offset_of(suspects.first + ClusterCount::new(number));
        if ctx.is_hole(table, len as u64) {
            continue;
        }
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
        // A repair that built refcounts anew counts all data once, the refcount structures of former times too.
        Some(shape) if shape.only_snapshot => {
            let former = Reftable::at(&Peeked(ctx.source), table, ctx.geometry)?;
            Ok(former.is_none().then_some(shape))
        }
        shape => Ok(shape),
    }
}

/// The slots whose table is settled: first those where the damaged entry itself tells it.
fn settled(ctx: &Context, slots: &Slots, tables: &[Lost]) -> BTreeMap<Slot, HostOffset> {
    let candidates = |lost: &Lost, taken: &BTreeMap<Slot, HostOffset>| {
        slots.for_table(ctx, lost.table, &lost.shape, lost.index, taken)
    };
    let mut taken = BTreeMap::new();
    for lost in tables.iter().filter(|lost| !lost.contradicted) {
        let sure = Some(candidates(lost, &taken)).filter(|candidates| candidates.sure);
        if let Some(&slot) = sure.as_ref().and_then(|sure| sure.named.first()) {
            taken.insert(slot, lost.table);
        }
    }
    // A table that can be in one place only leaves the other places to the others.
    for _ in 0..MAX_DEDUCTIONS {
        let mut only: BTreeMap<Slot, Vec<&Lost>> = BTreeMap::new();
        for lost in tables {
            let found = candidates(lost, &taken);
            if let ([slot], 0) = (&found.named[..], found.more) {
                only.entry(*slot).or_default().push(lost);
            }
        }
        let before = taken.len();
        let sole = only.into_iter().filter(|(_, tables)| tables.len() == 1);
        let sole = sole.filter(|(_, tables)| !tables[0].contradicted);
        taken.extend(sole.map(|(slot, tables)| (slot, tables[0].table)));
        if taken.len() == before {
            break;
        }
    }
    taken
}

/// Finds each table's slots.
fn with_owners(
    ctx: &Context,
    counts: &StoredCounts,
    slots: &Slots,
    tables: Vec<Lost>,
    found: &mut Found,
) {
    let taken = settled(ctx, slots, &tables);
    let mut claimed: HashMap<Slot, u64> = HashMap::new();
    let mut orphans = Vec::new();
    let mut again = vec![0; ctx.geometry.cluster_len()];
    for lost in tables {
        let candidates = slots.for_table(ctx, lost.table, &lost.shape, lost.index, &taken);
        let has_place = !candidates.named.is_empty() || candidates.more > 0;
        if has_place || lost.contradicted {
            // Only peeked at so far, and it matters, if only for the others; what it says is known.
            let _ = ctx.source.read_padded_at(lost.table.get(), &mut again);
        }
        if !has_place {
            continue; // In no disk.
        }
        candidates.named.iter().for_each(|&slot| *claimed.entry(slot).or_default() += 1);
        orphans.push((lost, candidates));
    }
    let room = ctx.found.room();
    for (lost, candidates) in orphans {
        let rivals = candidates.named.iter().map(|slot| claimed[slot] - 1).max().unwrap_or(0);
        let cluster = ctx.geometry.cluster_floor(lost.table);
        lost.claim_what_is_counted(ctx, counts, &found.claims);
        let orphan = Orphan {
            table: lost.table,
            entries: lost.shape.entries,
            mapped: lost.shape.mapped,
            alone: counts.stored(cluster) == Some(1),
            slots: candidates.named,
            more_slots: candidates.more,
            rivals,
            readable: candidates.readable,
            contradicted: lost.contradicted,
        };
        if found.findings.len() < room {
            found.findings.push(Finding::new(Kind::OrphanTable(orphan), one(ctx, lost.table)));
        }
    }
}
