//! The active and all snapshots' L1 tables and the L2 tables below them: every table is read once,
//! in file order, and counts as often as L1 entries point to it. Relies on the header and snapshot
//! passes.

pub mod scan;
pub mod walk;

use crate::check::passes::snapshots;
use crate::check::report::{Finding, Kind, Place, RegionKind, Source};
use crate::check::survey::context::Context;
use crate::check::survey::extent::Extent;
use crate::check::survey::mapping::{Mapping, Pending};
use crate::check::survey::visits::Visit;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{L1Entry, MAX_L1_BYTES};
use crate::format::{HostOffset, L1Index, decode_entries};

/// Bytes of an L1 table that are decoded at once.
const CHUNK_BYTES: usize = 1 << 16;

/// Walks everything.
pub fn run(ctx: &mut Context) -> Mapping {
    let mut mapping = Mapping::default();
    let mut pending = Pending::new();
    // L1 tables do not overlap, so that what the file has of all of them is no longer than the
    // file.
    let mut budget = ctx.file_bytes;
    let header = &ctx.area.header;
    let active = (Source::Active, header.l1_table, u64::from(header.l1_entries));
    l1_table(ctx, active, &mut mapping, &mut pending, &mut budget);
    if let Some(finding) = snapshots::misplaced(ctx) {
        pending.push((mapping.visits.len(), finding));
    }
    for (index, offset, entries) in snapshots::l1_tables(ctx) {
        let defect = snapshots::l1_defect(ctx, index);
        let readable = defect.as_ref().is_none_or(|(_, readable)| *readable);
        if let Some((kind, _)) = defect {
            pending.push((mapping.visits.len(), Finding::new(kind, Place::Snapshot(index))));
        }
        if readable {
            let table = (Source::Snapshot(index), offset, entries);
            l1_table(ctx, table, &mut mapping, &mut pending, &mut budget);
        }
    }
    walk::run(ctx, &mut mapping, &mut pending);
    pending.sort_by_key(|&(order, _)| order);
    for (_, finding) in pending {
        ctx.found.push(finding);
    }
    snapshots::claim_table(ctx);
    mapping
}

/// Claims and reads one L1 table.
fn l1_table(
    ctx: &mut Context,
    (source, offset, entries): (Source, HostOffset, u64),
    mapping: &mut Mapping,
    pending: &mut Pending,
    budget: &mut u64,
) {
    let place = Place::L1Table(source);
    let bytes = entries.saturating_mul(TABLE_ENTRY_BYTES);
    if entries == 0 || bytes > MAX_L1_BYTES || !ctx.geometry.is_aligned(offset) {
        return;
    }
    let order = mapping.visits.len();
    let extent = Extent::of(&ctx.geometry, ctx.file_bytes, offset, bytes);
    if extent.is_beyond() {
        pending.push((order, Finding::new(Kind::BeyondEnd { offset, bytes }, place)));
    }
    if let Some(bytes) = ctx.missing(offset, bytes) {
        let kind = Kind::CutOff { owner: RegionKind::L1Table(source), bytes };
        pending.push((order, Finding::new(kind, place)));
    }
    ctx.count(&extent);
    ctx.add_region(RegionKind::L1Table(source), extent, extent.is_beyond());
    let in_file = bytes.min(ctx.file_bytes.saturating_sub(offset.get()));
    if in_file > *budget {
        pending.push((order, Finding::new(Kind::L1TablesOverlap, place)));
        return;
    }
    *budget -= in_file;
    if ctx.is_hole(offset, bytes) {
        return;
    }
    let mut table = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    match ctx.source.read_padded_at(offset.get(), &mut table) {
        Ok(()) => {
            ctx.progress.advance(bytes);
            l1_entries(ctx, source, &table, mapping, pending);
        }
        Err(error) => {
            let kind = Kind::Unreadable { what: "L1 table", offset, error: error.to_string() };
            pending.push((order, Finding::new(kind, place)));
        }
    }
}

fn l1_entries(
    ctx: &mut Context,
    source: Source,
    table: &[u8],
    mapping: &mut Mapping,
    pending: &mut Pending,
) {
    let entries = || table.chunks(CHUNK_BYTES).flat_map(decode_entries);
    mapping.visits.reserve(entries().filter(|&bits| bits != 0).count());
    for (index, bits) in (0u32..).zip(entries()) {
        if bits == 0 {
            continue;
        }
        let (index, entry) = (L1Index::new(index), L1Entry(bits));
        let order = mapping.visits.len();
        let mut find = |kind| {
            if pending.len() < ctx.found.room() {
                pending.push((order, Finding::new(kind, Place::L1(source, index))));
            } else {
                ctx.found.count_corruptions(1);
            }
        };
        let offset = entry.offset();
        if entry.has_reserved_bits() || offset.get() == 0 {
            find(Kind::L1Reserved(bits));
        }
        if offset.get() == 0 {
            continue;
        }
        let bytes = ctx.geometry.cluster_bytes();
        let extent = Extent::of(&ctx.geometry, ctx.file_bytes, offset, bytes);
        if extent.is_beyond() {
            find(Kind::BeyondEnd { offset, bytes });
        }
        if entry.is_unaligned(&ctx.geometry) {
            find(Kind::L2TableUnaligned(offset));
        }
        ctx.count(&extent);
        mapping.visits.push(Visit { source, index, entry });
    }
}
