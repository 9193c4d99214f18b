//! L1 entries that may have pointed to a table that was found without one: those that are damaged,
//! those that point to a table that maps nothing, those that are free, and those that a wrong
//! length cuts off.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::blank::needed;
use super::shape::Shape;
use crate::check::passes::snapshots;
use crate::check::report::{Kind, Place, Slot, Source};
use crate::check::survey::context::Context;
use crate::check::survey::extent::Extent;
use crate::check::survey::mapping::Mapping;
use crate::check::survey::stored::StoredCounts;
use crate::check::survey::visits::Visit;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::{L1Entry, MAX_L1_BYTES, OFFSET_MASK};
use crate::format::{HostCluster, HostOffset, L1Index, L2Index};
use crate::tables::load_entries;

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

/// An entry that points out of the file, or to where something else is.
#[derive(Debug, Clone, Copy)]
struct Damaged {
    slot: Slot,
    /// The entry as it is.
    entry: L1Entry,
    /// Whether a guest reads something through it all the same.
    readable: bool,
    /// Whether it points past the end of the file to what is counted: the file is what is damaged.
    missing: bool,
}

/// All slots of all L1 tables.
pub struct Slots<'a> {
    mapping: &'a Mapping,
    damaged: Vec<Damaged>,
    /// Entries that point to a table that maps nothing: as good as free ones. A damaged entry may
    /// point to a free cluster, which a repair then counts as in use. In [`Mapping::visits`], in
    /// order.
    blank: Vec<u32>,
    tables: Vec<Entries>,
    /// Entries after the end of an L1 table, within its last cluster: its length may be what is
    /// wrong.
    cut_off: BTreeMap<HostOffset, Slot>,
    /// An L1 table could not be read in full: more slots may exist.
    pub blind: bool,
}

/// The slots that a table can have.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// The first ones.
    pub named: Vec<Slot>,
    /// How many more.
    pub more: u64,
    /// Whether the damaged entry proves that it pointed to the table: its offset differs in one
    /// bit.
    pub proven: bool,
    /// Whether that entry names the table's cluster, at an offset inside it.
    pub names_cluster: bool,
    /// Whether the only one named is an entry through which nothing can be read.
    pub unreadable: bool,
}

impl<'a> Slots<'a> {
    /// Goes through the entries of all L1 tables.
    pub fn of(ctx: &Context, mapping: &'a Mapping, counts: &StoredCounts) -> Self {
        let mut slots = Self {
            mapping,
            damaged: Vec::new(),
            blank: Vec::new(),
            tables: Vec::new(),
            cut_off: BTreeMap::new(),
            blind: is_blind(ctx),
        };
        slots.add_tables(ctx);
        slots.add_damaged(ctx, counts);
        let blank = mapping.tables.iter().filter(|table| table.blank);
        slots.blank = blank.flat_map(|table| mapping.positions_of(table)).copied().collect();
        slots.blank.sort_unstable();
        slots
    }

    fn add_tables(&mut self, ctx: &Context) {
        let header = &ctx.area.header;
        let needed = needed(ctx, Source::Active);
        let entries = u64::from(header.l1_entries);
        self.table(Source::Active, entries.min(needed));
        self.add_cut_off(ctx, Source::Active, header.l1_table, entries);
        for (index, offset, entries) in snapshots::l1_tables(ctx) {
            match snapshots::l1_defect(ctx, index) {
                None => self.table(Source::Snapshot(index), entries),
                Some(_) => self.blind = true,
            }
            self.add_cut_off(ctx, Source::Snapshot(index), offset, entries);
        }
    }

    fn table(&mut self, source: Source, count: u64) {
        let count = count.min(MAX_L1_BYTES / TABLE_ENTRY_BYTES);
        let inside = |visit: &Visit| u64::from(visit.index.get()) < count;
        let of = self.mapping.visits.positions(source);
        let used = self.mapping.visits.range(of.clone()).take_while(inside).count();
        self.tables.push(Entries { source, count, used: of.start..of.start + used });
    }

    /// What is after the last entry of an L1 table, up to the end of its cluster.
    fn add_cut_off(&mut self, ctx: &Context, source: Source, table: HostOffset, entries: u64) {
        let per_cluster = ctx.geometry.cluster_bytes() / TABLE_ENTRY_BYTES;
        let rest = entries.next_multiple_of(per_cluster).saturating_sub(entries);
        let at = table.saturating_add(entries.saturating_mul(TABLE_ENTRY_BYTES));
        if rest == 0 || !ctx.geometry.is_aligned(table) || at.get() >= ctx.file_bytes {
            return;
        }
        let Ok(words) = load_entries(ctx.source, at, rest) else { return };
        for (number, bits) in (entries..).zip(words).filter(|(_, bits)| *bits != 0) {
            if let Ok(index) = u32::try_from(number) {
                let offset = L1Entry(bits).offset();
                self.cut_off.entry(offset).or_insert((source, L1Index::new(index)));
            }
        }
    }

    fn add_damaged(&mut self, ctx: &Context, counts: &StoredCounts) {
        for finding in ctx.found.findings() {
            if let (Kind::L1Reserved(bits), Place::L1(source, index)) =
                (&finding.kind, finding.place)
            {
                if bits & OFFSET_MASK == 0 {
                    self.damage((source, index), L1Entry(*bits), false, false);
                }
            }
        }
        let twice = tables_twice(self.mapping);
        let garbage = garbage_tables(ctx, self.mapping);
        for visit in &self.mapping.visits {
            let (slot, offset) = ((visit.source, visit.index), visit.entry.offset());
            // A refcount of 0 alone proves nothing about the table: refcounts can be wrong too.
            let free = || counts.stored(ctx.geometry.cluster_floor(offset)) == Some(0);
            let disputed = || twice.contains(&offset) || is_disputed(ctx, &visit);
            if points_nowhere(ctx, &visit) {
                let end = HostCluster::new(ctx.file_clusters().get());
                let cluster = ctx.geometry.cluster_floor(offset);
                // Where that is not known, it may be.
                let counted = || counts.stored(cluster).is_none_or(|count| count > 0);
                self.damage(slot, visit.entry, false, cluster >= end && counted());
            } else if garbage.contains(&slot) && free()
                || disputed()
                || visit.entry.has_reserved_bits()
            {
                self.damage(slot, visit.entry, true, false);
            }
        }
    }

    fn damage(&mut self, slot: Slot, entry: L1Entry, readable: bool, missing: bool) {
        if self.damaged.len() < MAX_DAMAGED {
            self.damaged.push(Damaged { slot, entry, readable, missing });
        }
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
            let by_index = index.or(shape.index).is_none_or(|index| index == slot);
            let free = taken.get(&(source, slot)).is_none_or(|&owner| owner == table);
            // An entry past the end of the disk may be what is damaged.
            let last = if shape.damaged > 0 { shape.mapped.0 } else { shape.mapped.1 };
            by_index && free && in_disk(ctx, source, slot, last)
        };
        let damaged = || self.damaged.iter().filter(|damaged| fits(damaged.slot));
        let is_one_bit_off = |entry: L1Entry| {
            let right = [true, false].map(|copied| L1Entry::new(table, copied));
            right.iter().any(|right| (right.0 ^ entry.0).count_ones() <= 1)
        };
        // Without an offset an entry is one bit off from many, and from an empty one.
        let near = |d: &&Damaged| {
            let has_offset = d.entry.offset().get() != 0;
            !d.readable && !d.missing && has_offset && is_one_bit_off(d.entry)
        };
        // Another damaged entry may have pointed to the table, and this one to another.
        let mut others = damaged();
        let only = others.next().filter(|_| others.next().is_none());
        if let Some(damaged) = only.filter(near) {
            let cluster = ctx.geometry.cluster_floor(damaged.entry.offset());
            let names_cluster = cluster == ctx.geometry.cluster_floor(table);
            let named = vec![damaged.slot];
            return Candidates { named, more: 0, proven: true, names_cluster, unreadable: true };
        }
        let mut found = Candidates { more: u64::from(self.blind), ..Candidates::default() };
        found.unreadable = damaged().all(|damaged| !damaged.readable && !damaged.missing);
        damaged().for_each(|damaged| found.name(damaged.slot));
        if let Some(&slot) = self.cut_off.get(&table) {
            found.name(slot);
        }
        let blank = self.blank.iter().map(|&at| self.mapping.visits.get(at as usize));
        let blank = blank.map(|visit| (visit.source, visit.index)).filter(|&slot| fits(slot));
        for slot in blank.take(MAX_NAMED + 1) {
            found.unreadable = false;
            found.name(slot);
        }
        let has_free = |entries: &&Entries| (entries.used.len() as u64) < entries.count;
        for entries in self.tables.iter().filter(has_free) {
            self.free(entries, &fits, &mut found);
        }
        found
    }

    /// Names the free entries of an L1 table that fit, up to the limit of names.
    fn free(&self, entries: &Entries, fits: &dyn Fn(Slot) -> bool, found: &mut Candidates) {
        let damaged = |slot: Slot| self.damaged.iter().any(|damaged| damaged.slot == slot);
        let mut used = self.mapping.visits.range(entries.used.clone()).map(|v| v.index).peekable();
        let most = u32::try_from(entries.count).unwrap_or(u32::MAX);
        let mut left = MAX_NAMED + 1;
        for index in (0..most).map(L1Index::new) {
            if used.next_if(|&used| used == index).is_some() {
                continue;
            }
            let slot = (entries.source, index);
            if fits(slot) && !damaged(slot) {
                found.unreadable = false;
                found.name(slot);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
    }
}

impl Candidates {
    fn name(&mut self, slot: Slot) {
        if self.named.contains(&slot) {
            return;
        }
        if self.named.len() < MAX_NAMED {
            self.named.push(slot);
        } else {
            self.more += 1;
        }
    }
}

/// Whether an L1 table, or the pointer to one, could not be read in full.
fn is_blind(ctx: &Context) -> bool {
    ctx.found.findings().iter().any(|f| {
        let table = matches!(f.place, Place::L1Table(_) | Place::SnapshotTable);
        // The header has the offset and the length of the active L1 table.
        let header = matches!(f.kind, Kind::HeaderField(_)) && f.may_hide_references();
        table || header || matches!(f.kind, Kind::SnapshotTableBroken(_))
    })
}

/// Tables that L1 entries of different indices point to: at most one of them can be right.
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

/// Whether an L1 entry points out of the file or into the middle of a cluster.
fn points_nowhere(ctx: &Context, visit: &Visit) -> bool {
    let (geometry, offset) = (&ctx.geometry, visit.entry.offset());
    Extent::of(geometry, ctx.file_bytes, offset, geometry.cluster_bytes()).is_beyond()
        || visit.entry.is_unaligned(geometry)
        || offset.get() >= ctx.file_bytes
}

/// Whether something else uses the cluster of the table that an L1 entry points to.
fn is_disputed(ctx: &Context, visit: &Visit) -> bool {
    let cluster = ctx.geometry.cluster_floor(visit.entry.offset());
    ctx.map.get(cluster) > ctx.regions.l2_pointers(cluster)
}

/// Whether a table at this index would map nothing past the end of the active disk.
fn in_disk(ctx: &Context, source: Source, index: L1Index, last: L2Index) -> bool {
    let size = ctx.geometry.virtual_size();
    source != Source::Active || ctx.geometry.guest_offset(index, last).get() < size
}
