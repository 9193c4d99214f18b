//! COPIED flags of the active disk against the counts. What the mapping pass noted of each table is
//! enough while nothing is wrong; only other tables are read again. Relies on the comparison.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use super::context::Context;
use super::finding::{Kind, Place, Source};
use super::parallel;
use super::pass_compare::Compared;
use super::scan::{CopiedSummary, take_one};
use super::stored::StoredCounts;
use super::visits::Visit;
use super::walk::{Mapping, Table};
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{HostOffset, L2Index};

/// Entries whose flag is wrong, and how many more there are.
#[derive(Default)]
struct Wrong {
    entries: Vec<(L2Index, u64, u64)>,
    uncounted: u64,
    /// The table could not be read a second time.
    unread: Option<String>,
}

impl Wrong {
    fn has_wrong_flags(&self) -> bool {
        !self.entries.is_empty() || self.uncounted > 0
    }

    fn is_nothing(&self) -> bool {
        !self.has_wrong_flags() && self.unread.is_none()
    }
}

/// Where flags are wrong, for a repair.
#[derive(Debug, Default)]
pub struct WrongFlags {
    /// Entries of the active L1 table, by their positions in [`Mapping::visits`].
    pub l1: Vec<u32>,
    /// Active L2 tables.
    pub l2: Vec<HostOffset>,
}

/// Checks every flag of the active disk.
pub fn run(
    ctx: &mut Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    compared: &Compared,
) -> WrongFlags {
    let is_active = |visit: &Visit| visit.source == Source::Active;
    let doubtful = |(table, copied): &(&Table, &CopiedSummary)| {
        mapping.visits_of(table).any(|(_, visit)| is_active(&visit))
            && must_look(ctx, table, copied, counts, compared)
    };
    let summaries = mapping.tables.iter().zip(&mapping.copied);
    let tables: Vec<&Table> = summaries.filter(doubtful).map(|(table, _)| table).collect();
    let room = AtomicUsize::new(ctx.found.room());
    ctx.progress.stage("COPIED flags", 0);
    let wrong = parallel::map(ctx.threads, tables.len(), Vec::new, |buffer, i| {
        look(ctx, tables[i], counts, &room, buffer)
    });
    let found = tables.iter().map(|table| table.offset).zip(wrong);
    let mut found: HashMap<HostOffset, Wrong> = found.filter(|(_, w)| !w.is_nothing()).collect();
    let mut places = WrongFlags::default();
    let with_wrong_data = found.iter().filter(|(_, w)| w.has_wrong_flags());
    places.l2 = with_wrong_data.map(|(table, _)| *table).collect();
    places.l2.sort_unstable();
    for (position, visit) in (0u32..).zip(mapping.visits.of(Source::Active)) {
        if table_flag(ctx, &visit, counts) {
            places.l1.push(position);
        }
        if let Some(wrong) = found.get(&visit.entry.offset()) {
            tell(ctx, &visit, wrong);
        }
        if counts.is_assumption() {
            // A repair mends a table once, however many L1 entries lead to it.
            found.remove(&visit.entry.offset());
        }
    }
    places
}

/// The flag of the L1 entry itself; returns whether it is wrong.
fn table_flag(ctx: &mut Context, visit: &Visit, counts: &StoredCounts) -> bool {
    let entry = visit.entry;
    let count = counts.get(ctx.geometry.cluster_floor(entry.offset()));
    let Some(count) = count.filter(|&count| (count == 1) != entry.copied()) else { return false };
    let kind = Kind::L2TableCopied { entry: entry.0, count };
    ctx.find(kind, Place::L1(visit.source, visit.index));
    true
}

/// The flags in the table that the L1 entry leads to, as far as findings are kept.
fn tell(ctx: &mut Context, visit: &Visit, wrong: &Wrong) {
    let room = ctx.found.room();
    for &(l2, entry, count) in wrong.entries.iter().take(room) {
        let place = Place::L2(visit.source, visit.index, l2);
        ctx.find(Kind::DataCopied { entry, count }, place);
    }
    let rest = wrong.entries.len().saturating_sub(room) as u64;
    ctx.found.count_flags(wrong.uncounted + rest);
    if let Some(error) = wrong.unread.clone() {
        let kind = Kind::Unreadable { what: "L2 table", offset: visit.entry.offset(), error };
        ctx.find(kind, Place::L1(visit.source, visit.index));
    }
}

/// Whether the table's summary leaves a doubt.
fn must_look(
    ctx: &Context,
    table: &Table,
    copied: &CopiedSummary,
    counts: &StoredCounts,
    compared: &Compared,
) -> bool {
    if copied.needs_look() {
        return true;
    }
    if ctx.area.header.has_data_file() {
        return copied.clear > 0;
    }
    if copied.set() + copied.clear == 0 {
        return false;
    }
    let as_referenced = compared.is_equal() || counts.assumes_references(compared.too_low);
    if !as_referenced {
        return true;
    }
    if table.times() > 1 {
        return copied.set() > 0;
    }
    if copied.clear > 0 {
        return true;
    }
    if !ctx.map.has_shared() {
        return false;
    }
    copied.run().is_none_or(|(first, count)| !ctx.map.is_one(first, count))
}

/// Reads a table again and compares flag by flag.
fn look(
    ctx: &Context,
    table: &Table,
    counts: &StoredCounts,
    room: &AtomicUsize,
    buffer: &mut Vec<u8>,
) -> Wrong {
    let mut wrong = Wrong::default();
    buffer.resize(ctx.geometry.cluster_len(), 0);
    if let Err(error) = ctx.source.read_padded_at(table.offset.get(), buffer) {
        wrong.unread = Some(error.to_string());
        return wrong;
    }
    let data_file = ctx.area.header.has_data_file();
    for (index, entry) in (0u32..).zip(buffer.chunks_exact(ctx.geometry.l2_entry_bytes())) {
        let entry = L2Entry::decode(entry);
        let (Meaning::Data(at) | Meaning::ZeroAllocated(at)) =
            entry.meaning(&ctx.geometry, data_file)
        else {
            continue;
        };
        let count = if data_file { Some(1) } else { counts.get(ctx.geometry.cluster_floor(at)) };
        let Some(count) = count.filter(|&count| (count == 1) != entry.copied()) else { continue };
        if take_one(room) {
            wrong.entries.push((L2Index::new(index), entry.bits, count));
        } else {
            wrong.uncounted += 1;
        }
    }
    wrong
}
