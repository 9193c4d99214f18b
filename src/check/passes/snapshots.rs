//! The snapshot table, entry by entry. Relies on the header pass.

use std::collections::HashSet;

use crate::check::report::{Finding, Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::format::HostOffset;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::MAX_L1_BYTES;
use crate::format::snapshot::{MAX_EXTRA_BYTES, MAX_SNAPSHOTS, V3_EXTRA_BYTES};
use crate::tables::{SnapshotTable, SnapshotTableProblem};

/// Loads the table and checks each entry by itself.
pub fn run(ctx: &mut Context) {
    let header = &ctx.area.header;
    let (at, count) = (header.snapshot_table, header.snapshot_count);
    let misplaced = !ctx.geometry.is_aligned(at) || at.get() > i64::MAX as u64;
    if count == 0 && !misplaced {
        return;
    }
    if count > MAX_SNAPSHOTS {
        ctx.find(Kind::TooManySnapshots(count), Place::SnapshotTable);
    }
    if misplaced || at.get() == 0 {
        let what = format!("its offset {:#x} is not a valid cluster for it", at.get());
        ctx.find(Kind::SnapshotTableBroken(what), Place::SnapshotTable);
        return;
    }
    let count = count.min(MAX_SNAPSHOTS);
    ctx.snapshots = SnapshotTable::load_known(ctx.source, at, count);
    problem(ctx, count);
    entries(ctx);
}

fn problem(ctx: &mut Context, count: u32) {
    // The problem stays where it is: a table that is not known to its end must not be rewritten.
    let kind = match &ctx.snapshots.problem {
        None => return,
        Some(SnapshotTableProblem::TooBig(first)) => {
            Kind::SnapshotTableTooBig { overhanging: count - first }
        }
        Some(SnapshotTableProblem::Truncated(index)) => {
            let what = format!("entry {index} of {count} reaches past the end of the file");
            Kind::SnapshotTableBroken(what)
        }
        Some(SnapshotTableProblem::Unreadable(index, error)) => {
            let offset = ctx.area.header.snapshot_table.saturating_add(ctx.snapshots.bytes);
            let kind =
                Kind::Unreadable { what: "snapshot table", offset, error: error.to_string() };
            let place = Place::Snapshot(*index);
            ctx.find(kind, place);
            return;
        }
    };
    ctx.find(kind, Place::SnapshotTable);
}

fn entries(ctx: &mut Context) {
    let version = ctx.area.header.version;
    let mut ids: HashSet<&[u8]> = HashSet::new();
    let mut found = Vec::new();
    for (index, entry) in (0u32..).zip(&ctx.snapshots.entries) {
        let place = Place::Snapshot(index);
        let extra = entry.header.extra_len;
        if extra > MAX_EXTRA_BYTES {
            found.push((Kind::SnapshotExtraTooLarge(extra), place));
        }
        if version >= 3 && extra < V3_EXTRA_BYTES {
            found.push((Kind::SnapshotIncomplete, place));
        }
        if !is_text(&entry.id) {
            found.push((Kind::SnapshotBlank, place));
        }
        if !ids.insert(&entry.id) {
            found.push((Kind::SnapshotIdTwice(entry.id_text()), place));
        }
    }
    for (kind, place) in found {
        ctx.find(kind, place);
    }
}

/// Whether an id can be one: it is text without spaces.
pub fn is_text(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(u8::is_ascii_graphic)
}

/// The snapshots' L1 tables by position: where each begins and how many entries it has.
pub fn l1_tables(ctx: &Context) -> Vec<(u32, HostOffset, u64)> {
    let entries = (0u32..).zip(&ctx.snapshots.entries);
    entries.map(|(i, e)| (i, e.header.l1_table, u64::from(e.header.l1_entries))).collect()
}

/// Snapshots where the format has none.
pub fn misplaced(ctx: &Context) -> Option<Finding> {
    let count = u32::try_from(ctx.snapshots.entries.len()).unwrap_or(u32::MAX);
    (ctx.area.header.has_data_file() && count > 0)
        .then(|| Finding::new(Kind::SnapshotsWithDataFile(count), Place::SnapshotTable))
}

/// What is wrong with a snapshot's L1 table, and whether it can be read all the same.
pub fn l1_defect(ctx: &Context, index: u32) -> Option<(Kind, bool)> {
    let entry = &ctx.snapshots.entries[index as usize];
    let (offset, entries) = (entry.header.l1_table, entry.header.l1_entries);
    let (id, name) = (entry.id_text(), entry.name_text());
    if !ctx.geometry.is_aligned(offset) {
        return Some((Kind::SnapshotL1Unaligned { id, name, offset }, false));
    }
    if u64::from(entries) * TABLE_ENTRY_BYTES > MAX_L1_BYTES {
        return Some((Kind::SnapshotL1TooLarge { id, name, entries }, false));
    }
    let needed = ctx.geometry.l1_entries_for(entry.disk_bytes().unwrap_or(0));
    let too_small = u64::from(entries) < needed;
    too_small.then_some((Kind::SnapshotL1TooSmall { entries, needed }, true))
}

/// Claims the table's own clusters.
pub fn claim_table(ctx: &mut Context) {
    if !ctx.snapshots.entries.is_empty() {
        let (at, bytes) = (ctx.area.header.snapshot_table, ctx.snapshots.bytes);
        ctx.claim(RegionKind::SnapshotTable, at, bytes, Place::SnapshotTable);
    }
}
