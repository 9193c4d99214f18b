//! Compressed extents against each other: they may share a sector, where one ends and the next
//! begins, but no more. Relies on everything being counted and compared.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use crate::check::parallel::{self, take_one};
use crate::check::report::{Finding, Kind, Place};
use crate::check::survey::context::Context;
use crate::check::survey::mapping::{MAX_EXTENTS, Mapping, Table};
use crate::check::survey::stored::StoredCounts;
use crate::format::l1::COPIED;
use crate::format::l2::{COMPRESSED, CompressedExtent, L2Entry, SECTOR_BYTES};
use crate::format::{HostCluster, decode_entries};

/// Compares them all.
pub fn run(ctx: &Context, mapping: &mut Mapping, counts: &StoredCounts, found: &mut Vec<Finding>) {
    if mapping.extents.len() < MAX_EXTENTS {
        let mut extents = std::mem::take(&mut mapping.extents);
        let all = HostCluster::new(0)..HostCluster::new(u64::MAX);
        return compare(ctx, &mut extents, &all, counts, found);
    }
    mapping.extents = Vec::new();
    for window in windows(mapping) {
        let mut extents = extents_in(ctx, mapping, &window, found);
        compare(ctx, &mut extents, &window, counts, found);
    }
}

/// Ranges of the file with no more than [`MAX_EXTENTS`] extents in a consistent image.
fn windows(mapping: &Mapping) -> Vec<Range<HostCluster>> {
    let mut windows: Vec<Range<HostCluster>> = Vec::new();
    let mut inside = 0;
    for range in mapping.compressed.ranges() {
        mapping.compressed.for_each_run(range, |first, count, uses| {
            let uses = uses.saturating_mul(count.get());
            let end = first + count;
            inside += uses;
            match windows.last_mut() {
                Some(window) if inside <= MAX_EXTENTS as u64 => window.end = end,
                _ if uses == 0 => {}
                _ => {
                    windows.push(first..end);
                    inside = uses;
                }
            }
        });
    }
    windows
}

/// The extents of all tables that touch a window: the tables are read once more.
fn extents_in(
    ctx: &Context,
    mapping: &Mapping,
    window: &Range<HostCluster>,
    found: &mut Vec<Finding>,
) -> Vec<u64> {
    let tables: Vec<&Table> = mapping.tables.iter().filter(|table| !table.unread).collect();
    // Each has a use in the window; of one cluster, hostile ones may come in any number.
    let room = AtomicUsize::new(MAX_EXTENTS);
    let entry_bytes = ctx.geometry.l2_entry_bytes();
    let look = |buffer: &mut Vec<u8>, number: usize| {
        buffer.resize(ctx.geometry.cluster_len(), 0);
        let table = tables[number];
        if let Err(error) = ctx.source.read_padded_at(table.offset.get(), buffer) {
            return Err(mapping.unreadable(table, &error));
        }
        let touching = |entry: &[u8]| {
            let entry = L2Entry::standard(decode_entries(&entry[..8])[0]);
            let extent = entry.compressed_extent(&ctx.geometry);
            let (first, count) = ctx.geometry.span(extent.offset, extent.bytes);
            let touches = first < window.end && first + count > window.start;
            (entry.is_compressed() && touches && take_one(&room))
                .then_some(entry.bits & !(COPIED | COMPRESSED))
        };
        Ok(buffer.chunks_exact(entry_bytes).filter_map(touching).collect::<Vec<_>>())
    };
    let mut all = Vec::new();
    parallel::for_each(ctx.threads, tables.len(), Vec::new, look, |extents| match extents {
        Ok(extents) => all.extend(extents),
        Err(finding) => found.push(finding),
    });
    all
}

/// Reports each extent of a window that begins before all earlier ones have ended.
fn compare(
    ctx: &Context,
    extents: &mut [u64],
    window: &Range<HostCluster>,
    counts: &StoredCounts,
    found: &mut Vec<Finding>,
) {
    let geometry = ctx.geometry;
    let extent = |bits: u64| L2Entry::standard(bits).compressed_extent(&geometry);
    extents.sort_unstable_by_key(|&bits| (extent(bits).offset, extent(bits).bytes));
    let mut overlapping = Vec::new();
    let room = ctx.found.room();
    let mut furthest: Option<CompressedExtent> = None;
    for after in extents.iter().map(|&bits| extent(bits)) {
        if let Some(before) = furthest {
            let last_sector = before.offset.get() + before.bytes - SECTOR_BYTES.min(before.bytes);
            let apart = before.offset == after.offset || after.offset.get() > last_sector;
            let here = window.contains(&geometry.cluster_floor(after.offset));
            if !apart && here && overlapping.len() < room {
                overlapping.push((before, after));
            }
        }
        let end = |e: CompressedExtent| e.offset.get() + e.bytes;
        if furthest.is_none_or(|before| end(before) <= end(after)) {
            furthest = Some(after);
        }
    }
    for (before, after) in overlapping {
        let told = |extent: CompressedExtent| {
            let (first, count) = geometry.span(extent.offset, extent.bytes);
            !counts.is_equal(first, count)
        };
        let counted = told(before) || told(after);
        let (first, count) = geometry.span(after.offset, after.bytes);
        let kind = Kind::CompressedOverlap { offset: after.offset, counted };
        found.push(Finding::new(kind, Place::Clusters(first, count)));
    }
}
