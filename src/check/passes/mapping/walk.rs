//! The walk through all L2 tables: each is read once, in file order, by several threads, and counts
//! as often as L1 entries point to it.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use super::scan::{Scan, Scanner};
use crate::check::parallel;
use crate::check::report::{Allocation, Finding, Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::check::survey::copied::CopiedSummary;
use crate::check::survey::extent::Extent;
use crate::check::survey::mapping::{MANY_BYTES, MAX_EXTENTS, Mapping, Pending, Reach, Table};
use crate::check::survey::regions::Region;
use crate::format::{HostOffset, L2Index};

/// Tables in the middle of clusters can overlap each other in any number; so many are read.
const MAX_UNALIGNED: usize = 1024;
/// Tables that are next to each other are read together up to this many bytes.
const READ_BYTES: u64 = 1 << 20;
/// Reads that a thread takes from the queue at once, at most.
const MAX_READS: usize = 64;

/// Remembers whose the tables' clusters are, and marks tables of which there are too many.
fn claim(ctx: &mut Context, tables: &mut [Table]) {
    let mut unaligned = 0;
    ctx.regions.reserve(tables.len());
    for table in tables {
        let is_aligned = ctx.geometry.is_aligned(table.offset);
        unaligned += usize::from(!is_aligned);
        table.unread = !is_aligned && unaligned > MAX_UNALIGNED;
        let bytes = ctx.geometry.cluster_bytes();
        let extent = Extent::of(&ctx.geometry, ctx.file_bytes, table.offset, bytes);
        let Extent { first, count, .. } = extent;
        let (kind, pointers) = (RegionKind::L2Table, table.times());
        let told = !is_aligned || extent.is_beyond();
        ctx.regions.add(&Region { first, count, kind, pointers, told });
    }
}

/// Ranges of tables that are read in one go: neighbours in the file.
fn reads(tables: &[Table], cluster_bytes: u64) -> Vec<Range<u32>> {
    let mut reads: Vec<Range<u32>> = Vec::new();
    for (i, table) in (0u32..).zip(tables) {
        if let Some(read) = reads.last_mut() {
            let bytes = (u64::from(read.end - read.start) + 1) * cluster_bytes;
            let next = tables[read.end as usize - 1].offset.saturating_add(cluster_bytes);
            let joins = next == table.offset && bytes <= READ_BYTES.max(cluster_bytes);
            if joins && !table.unread && !tables[read.start as usize].unread {
                read.end += 1;
                continue;
            }
        }
        reads.push(i..i + 1);
    }
    reads
}

/// Goes through all tables.
pub fn run(ctx: &mut Context, mapping: &mut Mapping, pending: &mut Pending) {
    mapping.group(ctx.file_bytes);
    claim(ctx, &mut mapping.tables);
    let cluster_bytes = ctx.geometry.cluster_bytes();
    let table_bytes = mapping.tables.len() as u64 * cluster_bytes;
    let room = AtomicUsize::new(ctx.found.room());
    let extent_room = AtomicUsize::new(MAX_EXTENTS);
    let scanner = scanner(ctx, mapping, &room, &extent_room);
    ctx.progress.stage("L2 tables", table_bytes);
    let reads = reads(&mapping.tables, cluster_bytes);
    let skip_holes = table_bytes > MANY_BYTES;
    // A file reads ahead into the holes that are skipped.
    let hints = !skip_holes || ctx.source.is_remote();
    for read in reads.iter().filter(|_| hints) {
        let first = mapping.tables[read.start as usize].offset.get();
        let bytes = u64::from(read.end - read.start) * cluster_bytes;
        ctx.source.will_need(first..first.saturating_add(bytes));
    }
    let at_once = (reads.len() / (ctx.threads * 16)).clamp(1, MAX_READS);
    let work: Vec<&[Range<u32>]> = reads.chunks(at_once).collect();
    let reader = || Reader { skip_holes, ..Reader::default() };
    let mut all = Part::default();
    all.copied.reserve_exact(mapping.tables.len());
    let scan = |reader: &mut Reader, number: usize| {
        let mut part = Part::default();
        for read in work[number] {
            let tables = &mapping.tables[read.start as usize..read.end as usize];
            reader.scan(ctx, &scanner, mapping, tables, &mut part);
            ctx.progress.advance(tables.len() as u64 * cluster_bytes);
        }
        part
    };
    parallel::for_each(ctx.threads, work.len(), reader, scan, |part| all.append(part));
    mapping.copied = all.copied;
    mapping.extents = all.extents;
    all.blank.iter().for_each(|&number| mapping.tables[number].blank = true);
    mapping.garbage.extend(all.garbage.iter().map(|&number| mapping.tables[number].offset));
    ctx.allocation.allocated += all.allocation.allocated;
    ctx.allocation.fragmented += all.allocation.fragmented;
    ctx.allocation.compressed += all.allocation.compressed;
    for (table, what) in all.found {
        tell(ctx, mapping, &mapping.tables[table], what, pending);
    }
}

fn scanner<'a>(
    ctx: &'a Context,
    mapping: &'a Mapping,
    room: &'a AtomicUsize,
    extent_room: &'a AtomicUsize,
) -> Scanner<'a> {
    let header = &ctx.area.header;
    Scanner {
        geometry: ctx.geometry,
        file_bytes: ctx.file_bytes,
        data_file: header.has_data_file(),
        has_zero_flag: header.version >= 3 && !ctx.geometry.extended_l2(),
        map: &ctx.map,
        beyond: &ctx.beyond,
        active: &mapping.active,
        compressed: &mapping.compressed,
        skips_unaligned: ctx.skips_unaligned,
        room,
        extent_room,
    }
}

/// Reports an entry once for each L1 entry that points to its table, as far as findings are kept.
fn tell(ctx: &mut Context, mapping: &Mapping, table: &Table, what: Told, pending: &mut Pending) {
    match what {
        Told::Entry(l2, kind) => {
            let room = ctx.found.room().saturating_sub(pending.len());
            for (order, visit) in mapping.visits_of(table).take(room) {
                let place = Place::L2(visit.source, visit.index, l2);
                pending.push((order, Finding::new(kind.clone(), place)));
            }
            ctx.found.count_corruptions(table.times().saturating_sub(room as u64));
        }
        Told::More(count) => ctx.found.count_corruptions(count.saturating_mul(table.times())),
    }
}

/// Something wrong with a table's entries.
enum Told {
    Entry(L2Index, Kind),
    /// So many entries that were counted only.
    More(u64),
}

/// What some reads found.
#[derive(Default)]
struct Part {
    copied: Vec<CopiedSummary>,
    /// The numbers of blank tables.
    blank: Vec<usize>,
    /// The numbers of tables in which most entries are damaged.
    garbage: Vec<usize>,
    allocation: Allocation,
    extents: Vec<u64>,
    /// By the number of the table in this part.
    found: Vec<(usize, Told)>,
}

impl Part {
    /// Takes what follows.
    fn append(&mut self, part: Self) {
        let first = self.copied.len();
        self.copied.extend_from_slice(&part.copied);
        self.blank.extend(part.blank.into_iter().map(|table| first + table));
        self.garbage.extend(part.garbage.into_iter().map(|table| first + table));
        self.allocation.allocated += part.allocation.allocated;
        self.allocation.fragmented += part.allocation.fragmented;
        self.allocation.compressed += part.allocation.compressed;
        self.extents.extend_from_slice(&part.extents);
        self.found.extend(part.found.into_iter().map(|(table, what)| (first + table, what)));
    }

    fn take(&mut self, ctx: &Context, scan: Scan, reach: Reach) {
        let table = self.copied.len();
        self.copied.push(scan.copied);
        self.blank.extend(scan.blank.then_some(table));
        self.garbage.extend(scan.is_garbage(ctx).then_some(table));
        self.allocation.allocated += scan.allocated * reach.active;
        self.allocation.fragmented += scan.fragmented * reach.active;
        self.allocation.compressed += scan.compressed * reach.active;
        self.extents.extend(scan.extents);
        self.found.extend(scan.found.into_iter().map(|(l2, kind)| (table, Told::Entry(l2, kind))));
        if scan.uncounted > 0 {
            self.found.push((table, Told::More(scan.uncounted)));
        }
    }
}

/// What a thread keeps from read to read.
#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    skip_holes: bool,
    /// A range that is known to be a hole.
    hole: Range<u64>,
}

impl Reader {
    /// Reads neighbouring tables and goes through each.
    fn scan(
        &mut self,
        ctx: &Context,
        scanner: &Scanner,
        mapping: &Mapping,
        tables: &[Table],
        part: &mut Part,
    ) {
        let table_len = ctx.geometry.cluster_len();
        let bytes = tables.len() * table_len;
        let first = &tables[0];
        if first.unread || self.skip_holes && self.is_hole(ctx, first.offset, bytes as u64) {
            for _ in tables {
                part.take(
                    ctx,
                    if first.unread { Scan::default() } else { Scan::hole() },
                    Reach::default(),
                );
            }
            return;
        }
        self.buffer.resize(bytes, 0);
        if ctx.source.read_padded_at(first.offset.get(), &mut self.buffer).is_ok() {
            for (table, bytes) in tables.iter().zip(self.buffer.chunks_exact(table_len)) {
                let reach = mapping.reach(table);
                part.take(ctx, scanner.table(bytes, reach), reach);
            }
            return;
        }
        // Something in there cannot be read: find out which table, and check the others.
        let one = &mut self.buffer[..table_len];
        for table in tables {
            let reach = mapping.reach(table);
            let scan = match ctx.source.read_padded_at(table.offset.get(), one) {
                Ok(()) => scanner.table(one, reach),
                Err(error) => Scan::unreadable(table.offset, &error),
            };
            part.take(ctx, scan, reach);
        }
    }

    /// Whether a range is a hole; queries the file only where the last answer does not cover the
    /// range.
    fn is_hole(&mut self, ctx: &Context, offset: HostOffset, bytes: u64) -> bool {
        let range = offset.get()..offset.get().saturating_add(bytes);
        if !(self.hole.start <= range.start && range.end <= self.hole.end) {
            let end = match ctx.source.next_data(range.start) {
                Ok(Some(data)) => data.start,
                Ok(None) => u64::MAX,
                Err(_) => return false,
            };
            self.hole = range.start..end;
        }
        range.end <= self.hole.end
    }
}
