//! The active and all snapshots' L1 tables and the L2 tables below them: every table is read once,
//! in file order, and counts as often as L1 entries point to it. Relies on the header and snapshot
//! passes.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use super::context::{Context, Extent};
use super::finding::{Finding, Kind, Place, RegionKind, Source};
use super::parallel;
use super::pass_snapshots;
use super::refcount_map::RefcountMap;
use super::scan::{CopiedSummary, Reach, Scan, Scanner};
use crate::format::feature::autoclear;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{L1Entry, MAX_L1_BYTES};
use crate::format::{HostOffset, L1Index};
use crate::tables::load_entries;

/// Tables in the middle of clusters can lie over each other in any number; so many are read.
const MAX_UNALIGNED: usize = 1024;
/// From so many bytes of tables on, holes among them are looked for before they are read.
const MANY_BYTES: u64 = 1 << 30;
/// Tables that lie next to each other are read together up to this many bytes.
const READ_BYTES: u64 = 1 << 20;

/// An L1 entry that points to an L2 table.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Whose L1 table.
    pub source: Source,
    /// Which entry.
    pub index: L1Index,
    /// Its bits.
    pub entry: L1Entry,
}

/// An L2 table and the L1 entries that point to it.
#[derive(Debug)]
pub struct Table {
    /// Where it lies.
    pub offset: HostOffset,
    /// Positions in [`Mapping::visits`].
    pub visits: Vec<u32>,
    /// Whether it is not read: it lies past the end, or is one of too many in the middle of clusters.
    pub unread: bool,
    /// Its COPIED flags.
    pub copied: CopiedSummary,
}

/// What the pass leaves to those that follow.
#[derive(Default)]
pub struct Mapping {
    /// The L1 entries that point to a table, the active disk's first.
    pub visits: Vec<Visit>,
    /// The tables by offset.
    pub tables: Vec<Table>,
    /// References of the active disk to data clusters.
    pub active: RefcountMap,
    /// References of compressed extents.
    pub compressed: RefcountMap,
    /// Compressed extents of all tables, as descriptors without flags.
    pub extents: Vec<u64>,
}

/// Findings on their way, with the place in the order of visits where they belong.
type Pending = Vec<(usize, Finding)>;

/// Walks everything.
pub fn run(ctx: &mut Context) -> Mapping {
    let mut mapping = Mapping::default();
    let mut pending = Pending::new();
    // Sound L1 tables do not lie over each other, so all together are no longer than the file.
    let mut budget = ctx.file_bytes.saturating_add(MAX_L1_BYTES);
    let header = &ctx.area.header;
    let active = (Source::Active, header.l1_table, u64::from(header.l1_entries));
    l1_table(ctx, active, &mut mapping, &mut pending, &mut budget);
    if let Some(finding) = pass_snapshots::misplaced(ctx) {
        pending.push((mapping.visits.len(), finding));
    }
    for (index, offset, entries) in pass_snapshots::l1_tables(ctx) {
        let defect = pass_snapshots::l1_defect(ctx, index);
        let readable = defect.as_ref().is_none_or(|(_, readable)| *readable);
        if let Some((kind, _)) = defect {
            pending.push((mapping.visits.len(), Finding::new(kind, Place::Snapshot(index))));
        }
        if readable {
            let table = (Source::Snapshot(index), offset, entries);
            l1_table(ctx, table, &mut mapping, &mut pending, &mut budget);
        }
    }
    walk(ctx, &mut mapping, &mut pending);
    pending.sort_by_key(|&(order, _)| order);
    for (_, finding) in pending {
        ctx.found.push(finding);
    }
    pass_snapshots::claim_table(ctx);
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
    if extent.beyond {
        pending.push((order, Finding::new(Kind::BeyondEnd { offset, bytes }, place)));
    }
    ctx.map.add(extent.first, extent.count, 1);
    ctx.add_region(RegionKind::L1Table(source), extent, extent.beyond);
    if bytes > *budget {
        pending.push((order, Finding::new(Kind::L1TablesOverlap, place)));
        return;
    }
    *budget -= bytes;
    if ctx.is_hole(offset, bytes) {
        return;
    }
    match load_entries(ctx.source, offset, entries) {
        Ok(table) => {
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
    table: &[u64],
    mapping: &mut Mapping,
    pending: &mut Pending,
) {
    for (index, &bits) in (0u32..).zip(table) {
        if bits == 0 {
            continue;
        }
        let (index, entry) = (L1Index::new(index), L1Entry(bits));
        let order = mapping.visits.len();
        let mut find = |kind| pending.push((order, Finding::new(kind, Place::L1(source, index))));
        let offset = entry.offset();
        if entry.has_reserved_bits() || offset.get() == 0 {
            find(Kind::L1Reserved(bits));
        }
        if offset.get() == 0 {
            continue;
        }
        let bytes = ctx.geometry.cluster_bytes();
        let extent = Extent::of(&ctx.geometry, ctx.file_bytes, offset, bytes);
        if extent.beyond {
            find(Kind::BeyondEnd { offset, bytes });
        }
        if entry.is_unaligned(&ctx.geometry) {
            find(Kind::L2TableUnaligned(offset));
        }
        ctx.map.add(extent.first, extent.count, 1);
        let told = extent.beyond || entry.is_unaligned(&ctx.geometry);
        ctx.add_region(RegionKind::L2Table, extent, told);
        mapping.visits.push(Visit { source, index, entry });
    }
}

/// The tables by offset, each with all L1 entries that point to it.
fn group(visits: &[Visit]) -> Vec<Table> {
    let mut order: Vec<(HostOffset, u32)> =
        (0u32..).zip(visits).map(|(i, v)| (v.entry.offset(), i)).collect();
    order.sort_unstable();
    order
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| Table {
            offset: same[0].0,
            visits: same.iter().map(|&(_, visit)| visit).collect(),
            unread: false,
            copied: CopiedSummary::default(),
        })
        .collect()
}

/// Marks the tables that need not be read, or of which there are too many.
fn leave_unread(ctx: &Context, tables: &mut [Table]) {
    let mut unaligned = 0;
    for table in tables {
        unaligned += usize::from(!ctx.geometry.is_aligned(table.offset));
        let one_too_many = !ctx.geometry.is_aligned(table.offset) && unaligned > MAX_UNALIGNED;
        table.unread = one_too_many || table.offset.get() >= ctx.file_bytes;
    }
}

/// Ranges of tables that are read in one go: neighbours in the file.
fn batches(tables: &[Table], cluster_bytes: u64) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        if let Some(batch) = batches.last_mut() {
            let bytes = (batch.len() as u64 + 1) * cluster_bytes;
            let next = tables[batch.end - 1].offset.saturating_add(cluster_bytes);
            let joins = next == table.offset && bytes <= READ_BYTES.max(cluster_bytes);
            if joins && !table.unread && !tables[batch.start].unread {
                batch.end += 1;
                continue;
            }
        }
        batches.push(i..i + 1);
    }
    batches
}

fn walk(ctx: &mut Context, mapping: &mut Mapping, pending: &mut Pending) {
    mapping.tables = group(&mapping.visits);
    leave_unread(ctx, &mut mapping.tables);
    let header = &ctx.area.header;
    let raw = header.autoclear & autoclear::DATA_FILE_RAW != 0;
    let room = AtomicUsize::new(ctx.found.room());
    let scanner = Scanner {
        geometry: ctx.geometry,
        file_bytes: ctx.file_bytes,
        data_file: header.has_data_file(),
        raw_data_file: header.has_data_file() && raw,
        map: &ctx.map,
        active: &mapping.active,
        compressed: &mapping.compressed,
        zeroes_mended: ctx.zeroes_mended,
        skip_holes: mapping.tables.len() as u64 * ctx.geometry.cluster_bytes() > MANY_BYTES,
        room: &room,
    };
    let cluster_bytes = ctx.geometry.cluster_bytes();
    let (tables, visits) = (&mapping.tables, &mapping.visits);
    ctx.progress.stage("L2 tables", tables.len() as u64 * cluster_bytes);
    let batches = batches(tables, cluster_bytes);
    for batch in batches.iter().filter(|_| !scanner.skip_holes) {
        let first = tables[batch.start].offset.get();
        ctx.source.will_need(first..first.saturating_add(batch.len() as u64 * cluster_bytes));
    }
    let scans = parallel::map(ctx.threads, batches.len(), Reader::default, |reader, number| {
        let batch = &tables[batches[number].clone()];
        let scans = reader.scan(ctx, &scanner, batch, visits);
        ctx.progress.advance(batch.len() as u64 * cluster_bytes);
        scans
    });
    for (table, scan) in mapping.tables.iter_mut().zip(scans.into_iter().flatten()) {
        let visits = table.visits.iter().map(|&v| (v as usize, mapping.visits[v as usize]));
        for (order, visit) in visits {
            if visit.source == Source::Active {
                ctx.allocation.allocated += scan.allocated;
                ctx.allocation.fragmented += scan.fragmented;
                ctx.allocation.compressed += scan.compressed;
            }
            for (l2, kind) in &scan.found {
                let place = Place::L2(visit.source, visit.index, *l2);
                pending.push((order, Finding::new(kind.clone(), place)));
            }
            ctx.found.count_corruptions(scan.uncounted);
        }
        table.copied = scan.copied;
        mapping.extents.extend_from_slice(&scan.extents);
    }
}

/// What a thread keeps from batch to batch.
#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    /// A range that is known to be a hole.
    hole: Range<u64>,
}

impl Reader {
    /// Reads neighbouring tables and goes through each.
    fn scan(
        &mut self,
        ctx: &Context,
        scanner: &Scanner,
        batch: &[Table],
        visits: &[Visit],
    ) -> Vec<Scan> {
        let table_len = ctx.geometry.cluster_len();
        let bytes = batch.len() * table_len;
        let unread = batch[0].unread;
        if unread || scanner.skip_holes && self.is_hole(ctx, batch[0].offset, bytes as u64) {
            return batch.iter().map(|_| Scan::default()).collect();
        }
        self.buffer.resize(bytes, 0);
        if ctx.source.read_padded_at(batch[0].offset.get(), &mut self.buffer).is_ok() {
            let tables = batch.iter().zip(self.buffer.chunks_exact(table_len));
            return tables.map(|(t, b)| scanner.table(b, reach(t, visits))).collect();
        }
        // Something in there cannot be read: find out which table, and check the others.
        let one = &mut self.buffer[..table_len];
        let mut scans = Vec::with_capacity(batch.len());
        for table in batch {
            scans.push(match ctx.source.read_padded_at(table.offset.get(), one) {
                Ok(()) => scanner.table(one, reach(table, visits)),
                Err(error) => Scan::unreadable(table.offset, &error),
            });
        }
        scans
    }

    /// Whether a range is a hole; asks the file only where the last answer does not tell.
    fn is_hole(&mut self, ctx: &Context, offset: HostOffset, bytes: u64) -> bool {
        let range = offset.get()..offset.get().saturating_add(bytes);
        if !(self.hole.start <= range.start && range.end <= self.hole.end) {
            let data = ctx.source.next_data(range.start);
            let end = match data {
                Ok(Some(data)) => data.start,
                Ok(None) => u64::MAX,
                Err(_) => return false,
            };
            self.hole = range.start..end;
        }
        range.end <= self.hole.end
    }
}

fn reach(table: &Table, visits: &[Visit]) -> Reach {
    let visit = |i: &u32| visits[*i as usize];
    Reach {
        times: table.visits.len() as u64,
        active: table.visits.iter().any(|i| visit(i).source == Source::Active),
        index: visit(&table.visits[0]).index,
    }
}
