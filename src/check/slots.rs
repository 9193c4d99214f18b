//! L1 entries that can own a table that was found without one: those that lead nowhere, and those
//! that are free.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::context::{Context, Extent};
use super::finding::{Kind, Place, Source};
use super::orphans::{Shape, Slot};
use super::pass_snapshots;
use super::stored::StoredCounts;
use super::visits::Visit;
use super::walk::Mapping;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{MAX_L1_BYTES, OFFSET_MASK};
use crate::format::{HostOffset, L1Index, L2Index};

/// So many slots are named for one table.
pub const MAX_NAMED: usize = 16;
/// Damaged entries that are kept.
const MAX_DAMAGED: usize = 4096;

/// One L1 table's entries.
#[derive(Debug)]
struct Entries {
    source: Source,
    count: u64,
    /// Its entries that point to a table, in [`Mapping::visits`].
    used: Range<usize>,
}

/// An entry that leads nowhere, or where something else lives.
#[derive(Debug, Clone, Copy)]
struct Damaged {
    slot: Slot,
    /// The offset in the entry.
    offset: u64,
    /// Whether a guest can read through it all the same.
    readable: bool,
}

/// All slots of all L1 tables.
pub struct Slots<'a> {
    mapping: &'a Mapping,
    damaged: Vec<Damaged>,
    /// Entries with nothing but reserved bits.
    reserved: BTreeSet<Slot>,
    /// Entries that lead to a table that maps nothing: as good as free ones, though a guest can read
    /// through them. A damaged entry may lead to a free cluster, which a repair then counts as in use.
    /// In [`Mapping::visits`], in order.
    blank: Vec<u32>,
    tables: Vec<Entries>,
    /// An L1 table could not be read in full: more slots may exist.
    blind: bool,
}

/// The slots that a table can have.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// The first ones.
    pub named: Vec<Slot>,
    /// How many more.
    pub more: u64,
    /// Whether the offset in the damaged entry is the table's but for one bit.
    pub sure: bool,
    /// Whether a guest can read through one of them, though what it reads belongs elsewhere.
    pub readable: bool,
}

impl<'a> Slots<'a> {
    /// Goes through the entries of all L1 tables.
    pub fn of(ctx: &Context, mapping: &'a Mapping, counts: &StoredCounts) -> Self {
        let mut slots = Self {
            mapping,
            damaged: Vec::new(),
            reserved: BTreeSet::new(),
            blank: Vec::new(),
            tables: Vec::new(),
            blind: false,
        };
        let header = &ctx.area.header;
        let needed = ctx.geometry.l1_entries_for(ctx.geometry.virtual_size());
        slots.table(Source::Active, u64::from(header.l1_entries).min(needed));
        for (index, _, entries) in pass_snapshots::l1_tables(ctx) {
            match pass_snapshots::l1_defect(ctx, index) {
                None => slots.table(Source::Snapshot(index), entries),
                Some(_) => slots.blind = true,
            }
        }
        slots.blind |= ctx.found.findings().iter().any(|f| {
            let table = matches!(f.place, Place::L1Table(_) | Place::SnapshotTable);
            // The header says where the active L1 table lies, and how long it is.
            let header = matches!(f.kind, Kind::HeaderField(_)) && f.may_hide_references();
            table || header || matches!(f.kind, Kind::SnapshotTableBroken(_))
        });
        for finding in ctx.found.findings() {
            if let (Kind::L1Reserved(bits), Place::L1(source, index)) =
                (&finding.kind, finding.place)
            {
                if bits & OFFSET_MASK == 0 {
                    slots.reserved.insert((source, index));
                    slots.damage((source, index), 0, false);
                }
            }
        }
        let twice = tables_twice(mapping);
        let garbage = garbage_tables(ctx, mapping);
        for visit in &mapping.visits {
            let (slot, offset) = ((visit.source, visit.index), visit.entry.offset());
            // A count of 0 alone says nothing of the table: counts can be wrong too.
            let free = || counts.stored(ctx.geometry.cluster_floor(offset)) == Some(0);
            if leads_nowhere(ctx, &visit) || (garbage.contains(&slot) && free()) {
                slots.damage(slot, offset.get(), false);
            } else if twice.contains(&offset) || is_disputed(ctx, &visit) {
                slots.damage(slot, offset.get(), !garbage.contains(&slot));
            } else if visit.entry.has_reserved_bits() {
                // Whatever set those bits may have set others, and it leads to another's table.
                slots.damage(slot, offset.get(), true);
            }
        }
        let blank = mapping.tables.iter().filter(|table| table.blank);
        slots.blank = blank.flat_map(|table| mapping.positions_of(table)).copied().collect();
        slots.blank.sort_unstable();
        slots
    }

    fn table(&mut self, source: Source, count: u64) {
        let count = count.min(MAX_L1_BYTES / TABLE_ENTRY_BYTES);
        let used = self.mapping.visits.positions(source);
        self.tables.push(Entries { source, count, used });
    }

    fn damage(&mut self, slot: Slot, offset: u64, readable: bool) {
        if self.damaged.len() < MAX_DAMAGED {
            self.damaged.push(Damaged { slot, offset, readable });
        }
    }

    /// Whether every entry is sound and in use.
    pub fn is_empty(&self) -> bool {
        self.damaged.is_empty()
            && self.blank.is_empty()
            && !self.blind
            && self.tables.iter().all(|entries| self.is_full(entries))
    }

    fn is_full(&self, entries: &Entries) -> bool {
        let of = |index| (entries.source, L1Index::new(index));
        let reserved = self.reserved.range(of(0)..=of(u32::MAX)).count();
        (entries.used.len() + reserved) as u64 >= entries.count
    }

    fn free(&self, entries: &Entries, fits: &dyn Fn(Slot) -> bool, found: &mut Candidates) {
        let count = usize::try_from(entries.count).unwrap_or(0);
        let slots = (0u32..).take(count).map(|index| (entries.source, L1Index::new(index)));
        let is_used = |&(source, index): &Slot| self.mapping.visits.has(source, index);
        let free = slots.filter(|slot| !is_used(slot) && !self.reserved.contains(slot));
        free.filter(|&slot| fits(slot)).take(MAX_NAMED + 1).for_each(|slot| found.name(slot));
    }

    /// The slots that a table of this shape can have, without those that are `taken`.
    pub fn for_table(
        &self,
        ctx: &Context,
        table: HostOffset,
        shape: &Shape,
        index: Option<L1Index>,
        taken: &BTreeMap<Slot, HostOffset>,
    ) -> Candidates {
        let fits = |(source, slot): Slot| {
            let by_flags = match source {
                Source::Active => !shape.only_snapshot,
                Source::Snapshot(_) => !shape.copied,
            };
            let by_index = index.or(shape.index).is_none_or(|index| index == slot);
            let free = taken.get(&(source, slot)).is_none_or(|&owner| owner == table);
            by_flags && by_index && free && in_disk(ctx, source, slot, shape.mapped.1)
        };
        let damaged = || self.damaged.iter().filter(|damaged| fits(damaged.slot));
        // Inside a small file every cluster is near some other.
        let outside =
            |at: u64| at >= ctx.file_bytes || !ctx.geometry.is_aligned(HostOffset::new(at));
        let near = |at: u64| (at ^ table.get()).count_ones() <= 1 && outside(at);
        let mut sure = damaged().filter(|damaged| near(damaged.offset) && !damaged.readable);
        if let (Some(damaged), None) = (sure.next(), sure.next()) {
            let named = vec![damaged.slot];
            return Candidates { named, more: 0, sure: true, readable: false };
        }
        let mut found = Candidates { more: u64::from(self.blind), ..Candidates::default() };
        found.readable = damaged().any(|damaged| damaged.readable);
        damaged().for_each(|damaged| found.name(damaged.slot));
        if found.named.is_empty() {
            for entries in self.tables.iter().filter(|entries| !self.is_full(entries)) {
                self.free(entries, &fits, &mut found);
            }
        }
        if damaged().all(|damaged| damaged.readable) {
            let visits =
                self.blank.iter().map(|&position| self.mapping.visits.get(position as usize));
            let blank = visits.map(|visit| (visit.source, visit.index)).filter(|&slot| fits(slot));
            for slot in blank.take(MAX_NAMED + 1) {
                found.name(slot);
                found.readable = true;
            }
        }
        found
    }
}

impl Candidates {
    fn name(&mut self, slot: Slot) {
        if self.named.len() < MAX_NAMED {
            self.named.push(slot);
        } else {
            self.more += 1;
        }
    }
}

/// Tables that L1 entries of different indices lead to: at most one of them can be right.
fn tables_twice(mapping: &Mapping) -> BTreeSet<HostOffset> {
    let twice = mapping.tables.iter().filter(|table| mapping.is_at_two_places(table));
    twice.map(|table| table.offset).collect()
}

/// L1 entries in whose tables something is wrong and nothing maps a cluster as it should.
fn garbage_tables(ctx: &Context, mapping: &Mapping) -> BTreeSet<Slot> {
    let below = ctx.found.findings().iter().filter_map(|finding| match finding.place {
        Place::L2(source, index, _) => Some((source, index)),
        _ => None,
    });
    let mut garbage: BTreeSet<Slot> = below.collect();
    let summaries = mapping.tables.iter().zip(&mapping.copied);
    for (table, _) in summaries.filter(|(_, copied)| copied.set() + copied.clear > 0) {
        for (_, visit) in mapping.visits_of(table) {
            garbage.remove(&(visit.source, visit.index));
        }
    }
    garbage
}

/// Whether an L1 entry leads out of the file or into the middle of a cluster.
fn leads_nowhere(ctx: &Context, visit: &Visit) -> bool {
    let (geometry, offset) = (&ctx.geometry, visit.entry.offset());
    Extent::of(geometry, ctx.file_bytes, offset, geometry.cluster_bytes()).is_beyond()
        || visit.entry.is_unaligned(geometry)
        || offset.get() >= ctx.file_bytes
}

/// Whether something else uses the cluster of the table that an L1 entry leads to.
fn is_disputed(ctx: &Context, visit: &Visit) -> bool {
    let cluster = ctx.geometry.cluster_floor(visit.entry.offset());
    ctx.map.get(cluster) > ctx.regions.pointers(cluster)
}

/// Whether a table at this index would map nothing past the end of the active disk.
fn in_disk(ctx: &Context, source: Source, index: L1Index, last: L2Index) -> bool {
    let size = ctx.geometry.virtual_size();
    source != Source::Active || ctx.geometry.guest_offset(index, last).get() < size
}
