//! COPIED flags of the active disk against the refcounts. What the mapping pass noted of each table
//! is enough while nothing is wrong; only other tables are read again. Relies on the comparison.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use super::compare::Compared;
use crate::check::parallel::{self, take_one};
use crate::check::report::{Kind, Place, Source};
use crate::check::survey::context::Context;
use crate::check::survey::copied::CopiedSummary;
use crate::check::survey::mapping::{Mapping, Table};
use crate::check::survey::stored::StoredCounts;
use crate::check::survey::visits::Visit;
use crate::format::feature::incompatible;
use crate::format::l1::{COPIED, OFFSET_MASK};
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, HostOffset, L2Index};

/// Entries of a table whose pointer may be wrong that are kept, at most.
const MAX_DOUBTFUL: usize = 16;

/// Entries whose flag is wrong, and how many more there are.
#[derive(Default)]
struct Wrong {
    entries: Vec<(L2Index, u64, u64)>,
    uncounted: u64,
    /// Entries whose pointer may be what is wrong, the first ones: no cluster goes with their flag.
    doubtful: Vec<L2Index>,
    /// The table could not be read a second time.
    unread: Option<String>,
}

impl Wrong {
    fn has_wrong_flags(&self) -> bool {
        !self.entries.is_empty() || self.uncounted > 0
    }

    fn is_nothing(&self) -> bool {
        !self.has_wrong_flags() && self.unread.is_none() && self.doubtful.is_empty()
    }

    fn doubt(&mut self, entry: L2Index) {
        if self.doubtful.len() < MAX_DOUBTFUL {
            self.doubtful.push(entry);
        }
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

/// Active L2 tables with wrong flags, by their host offset.
pub struct Flags {
    tables: HashMap<HostOffset, Wrong>,
}

/// Compares every flag of the active disk; with `all`, looks at every table, those of snapshots
/// too, for entries whose pointer may be wrong.
pub fn find(
    ctx: &Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    compared: &Compared,
    all: bool,
) -> Flags {
    let is_active =
        |table: &Table| mapping.visits_of(table).any(|(_, visit)| visit.source == Source::Active);
    let summaries = mapping.tables.iter().zip(&mapping.copied);
    let looked_at = summaries.filter_map(|(table, copied)| {
        let active = is_active(table);
        let looks =
            all && !table.blank || active && must_look(ctx, table, copied, counts, compared);
        looks.then_some((table, active))
    });
    let tables: Vec<(&Table, bool)> = looked_at.collect();
    let room = AtomicUsize::new(ctx.found.room());
    ctx.progress.stage("COPIED flags", 0);
    let wrong = parallel::map(ctx.threads, tables.len(), Vec::new, |buffer, i| {
        look(ctx, tables[i], counts, &room, buffer)
    });
    let found = tables.iter().map(|(table, _)| table.offset).zip(wrong);
    Flags { tables: found.filter(|(_, wrong)| !wrong.is_nothing()).collect() }
}

/// The entries that have COPIED without a cluster, and those whose flag is wrong though the
/// refcount of their cluster is right, and whose cluster does not continue those of the entries
/// beside it: the pointer may be what is wrong. And L1 entries that lost a flag which no program
/// clears.
pub fn doubtful(ctx: &Context, mapping: &Mapping, flags: &Flags) -> Vec<Place> {
    let of_table = |visit: Visit| {
        let wrong = flags.tables.get(&visit.entry.offset());
        let entries = wrong.map_or(&[][..], |wrong| &wrong.doubtful);
        entries.iter().map(move |&l2| Place::L2(visit.source, visit.index, l2))
    };
    let visits = mapping.visits.iter();
    let of_tables = visits.flat_map(of_table);
    // With refcounts of one bit nothing is shared, so that no flag is clear.
    let unshared = ctx.geometry.refcount_max() == 1;
    let active =
        mapping.visits.of(Source::Active).filter(|visit| unshared && !visit.entry.copied());
    of_tables.chain(active.map(|visit| Place::L1(visit.source, visit.index))).collect()
}

/// Reports the wrong flags.
pub fn report(
    ctx: &mut Context,
    mapping: &Mapping,
    counts: &StoredCounts,
    flags: Flags,
) -> WrongFlags {
    let mut found = flags.tables;
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
            // A repair corrects a table once, however many L1 entries point to it.
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

/// The flags in the table that the L1 entry points to, as far as findings are kept.
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

/// How many entries from the first one on have COPIED and point to consecutive clusters, at least
/// 1; and whether all flags are known to be right: each cluster has one reference, and refcounts
/// are those of the references.
fn consecutive(ctx: &Context, counts: &StoredCounts, entries: &[L2Entry]) -> (u32, bool) {
    const FEW: u32 = 16;
    let (bytes, bits) = (ctx.geometry.cluster_bytes(), entries[0].bits);
    let first = ctx.geometry.cluster_exact(entries[0].offset()).filter(|first| first.get() > 0);
    let is_plain = entries[0].copied() && bits & !(COPIED | OFFSET_MASK) == 0;
    let Some(first) = first.filter(|_| is_plain && !ctx.geometry.extended_l2()) else {
        return (1, false);
    };
    let follows = |(n, entry): &(u32, &L2Entry)| entry.bits == bits + u64::from(*n) * bytes;
    let length = (0u32..).zip(entries).take_while(follows).count();
    let length = u32::try_from(length).unwrap_or(u32::MAX).max(1);
    let count = ClusterCount::new(length.into());
    let is_right =
        length >= FEW && counts.is_as_referenced(first, count) && ctx.map.is_one(first, count);
    (length, is_right)
}

/// Reads a table again and compares flag by flag.
fn look(
    ctx: &Context,
    (table, active): (&Table, bool),
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
    // While the dirty bit is set, refcounts prove nothing.
    let is_dirty = ctx.area.header.has_incompatible(incompatible::DIRTY);
    let entries: Vec<L2Entry> =
        buffer.chunks_exact(ctx.geometry.l2_entry_bytes()).map(L2Entry::decode).collect();
    // The end of the run that an entry is in, and whether all of it is right.
    let mut run = (0, false);
    for (index, &entry) in (0u32..).zip(&entries) {
        if index >= run.0 {
            let (length, is_right) = consecutive(ctx, counts, &entries[index as usize..]);
            run = (index + length, is_right);
        }
        if run.1 {
            continue;
        }
        let meaning = entry.meaning(&ctx.geometry, data_file);
        let (Meaning::Data(at) | Meaning::ZeroAllocated(at)) = meaning else {
            let without_cluster = matches!(meaning, Meaning::Unallocated | Meaning::Zero);
            if without_cluster && entry.copied() && !data_file {
                wrong.doubt(L2Index::new(index));
            }
            continue;
        };
        let cluster = ctx.geometry.cluster_floor(at);
        let count = if data_file { Some(1) } else { counts.get(cluster) };
        // In tables that only snapshots have, the flag means nothing.
        let Some(count) = count.filter(|&count| active && (count == 1) != entry.copied()) else {
            continue;
        };
        if !data_file
            && !is_dirty
            && counts.evident(cluster) == Some(ctx.map.get(cluster))
            && !continues(ctx, &entries, index as usize)
        {
            wrong.doubt(L2Index::new(index));
        }
        if take_one(room) {
            wrong.entries.push((L2Index::new(index), entry.bits, count));
        } else {
            wrong.uncounted += 1;
        }
    }
    wrong
}

/// Whether what an entry of an L2 table points to continues what those beside it point to.
pub fn continues(ctx: &Context, entries: &[L2Entry], index: usize) -> bool {
    let host_at = |n: usize| entries.get(n).and_then(|entry| entry.host_cluster(&ctx.geometry));
    let Some(own) = host_at(index) else { return false };
    let before = index.checked_sub(1).and_then(host_at);
    let after = host_at(index + 1);
    (before.is_some() || after.is_some())
        && before.is_none_or(|before| before.next() == own)
        && after.is_none_or(|after| own.next() == after)
}
