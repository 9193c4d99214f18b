//! The bitmap directory, its tables and their data clusters. Relies on the header pass.

use std::collections::HashSet;

use crate::check::report::{Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::format::bitmap::{
    BitmapEntry, BitmapTableEntry, BitmapsExtension, MAX_BITMAPS, MAX_DIRECTORY_BYTES,
    MAX_TABLE_ENTRIES,
};
use crate::format::extension;
use crate::format::feature::autoclear;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::tables::{BitmapDirectory, load_entries};

/// Bitmap table entries that are looked at together.
const CHUNK_ENTRIES: u64 = 1 << 16;

/// Checks and claims everything that belongs to bitmaps. Without the autoclear bit the extension is
/// stale: its clusters belong to nobody, and QEMU looks at nothing but its length.
pub fn run(ctx: &mut Context) {
    let extensions = ctx.area.extensions.iter().filter(|e| e.magic == extension::BITMAPS);
    let pointers: Vec<(u64, Option<BitmapsExtension>)> =
        extensions.map(|e| (e.offset, BitmapsExtension::decode(&e.data))).collect();
    for &(offset, _) in pointers.iter().filter(|(_, pointer)| pointer.is_none()) {
        let what = "the bitmaps extension has a wrong length".to_owned();
        ctx.find(Kind::HeaderField(what), Place::Header(offset));
    }
    if ctx.area.header.autoclear & autoclear::BITMAPS == 0 {
        return;
    }
    pointers.iter().filter_map(|(_, pointer)| *pointer).for_each(|p| limits(ctx, &p));
    let Some(&(_, Some(pointer))) = pointers.last() else { return };
    if !ctx.geometry.is_aligned(pointer.directory) || pointer.directory.get() == 0 {
        return;
    }
    let place = Place::BitmapDirectory;
    // A length over the limit does not give the number of clusters.
    let plausible = pointer.directory_bytes <= MAX_DIRECTORY_BYTES;
    let bytes = if plausible { pointer.directory_bytes } else { 1 };
    ctx.claim(RegionKind::BitmapDirectory, pointer.directory, bytes, place);
    match BitmapDirectory::load(ctx.source, &pointer) {
        Ok(directory) => {
            for problem in &directory.problems {
                broken(ctx, problem);
            }
            // Valid tables do not overlap each other, so all are no longer than the file.
            let mut budget = ctx.file_bytes;
            let mut names = HashSet::new();
            for (index, entry) in (0u32..).zip(&directory.entries) {
                if !names.insert(entry.name.as_slice()) {
                    // QEMU opens no image that has one.
                    let problem = "an earlier bitmap has the same name".to_owned();
                    let kind = Kind::BitmapEntry { name: entry.name_text(), problem };
                    ctx.find(kind, Place::Bitmap(index));
                }
                bitmap(ctx, index, entry, &mut budget);
            }
        }
        Err(error) => ctx.find(
            Kind::Unreadable {
                what: "bitmap directory",
                offset: pointer.directory,
                error: error.to_string(),
            },
            place,
        ),
    }
}

/// Checks the fields of an extension about the directory. QEMU looks at each; the last one counts.
fn limits(ctx: &mut Context, pointer: &BitmapsExtension) {
    if pointer.reserved != 0 {
        broken(ctx, "a reserved field of the header extension is not 0");
    }
    if pointer.count == 0 || pointer.count > MAX_BITMAPS {
        broken(ctx, &format!("the header extension has {} bitmaps", pointer.count));
    }
    if !ctx.geometry.is_aligned(pointer.directory) || pointer.directory.get() == 0 {
        let at = pointer.directory.get();
        broken(ctx, &format!("its offset {at:#x} is not a valid cluster for it"));
    }
}

fn broken(ctx: &mut Context, what: &str) {
    ctx.find(Kind::BitmapDirectory(what.to_owned()), Place::BitmapDirectory);
}

fn bitmap(ctx: &mut Context, index: u32, entry: &BitmapEntry, budget: &mut u64) {
    let place = Place::Bitmap(index);
    for problem in entry.defects(&ctx.geometry) {
        let kind = Kind::BitmapEntry { name: entry.name_text(), problem: problem.to_owned() };
        ctx.find(kind, place);
    }
    if entry.is_in_use() {
        ctx.find(Kind::BitmapInUse { name: entry.name_text() }, place);
    }
    if !ctx.geometry.is_aligned(entry.table)
        || entry.table.get() == 0
        || entry.table_entries > MAX_TABLE_ENTRIES
    {
        return;
    }
    let bytes = u64::from(entry.table_entries) * TABLE_ENTRY_BYTES;
    ctx.claim(RegionKind::BitmapTable(index), entry.table, bytes, place);
    if bytes > *budget {
        let problem = "its table overlaps others; it was not read".to_owned();
        ctx.find(Kind::BitmapEntry { name: entry.name_text(), problem }, place);
        return;
    }
    *budget -= bytes;
    let in_file = ctx.file_bytes.saturating_sub(entry.table.get()) / TABLE_ENTRY_BYTES;
    let entries = u64::from(entry.table_entries).min(in_file);
    let mut damaged = 0;
    let mut from = 0;
    while from < entries {
        let count = CHUNK_ENTRIES.min(entries - from);
        let offset = entry.table.saturating_add(from * TABLE_ENTRY_BYTES);
        if ctx.is_hole(offset, (entries - from) * TABLE_ENTRY_BYTES) {
            break;
        }
        match load_entries(ctx.source, offset, count) {
            Ok(chunk) => damaged += data_clusters(ctx, index, &chunk),
            Err(error) => {
                let error = error.to_string();
                ctx.find(Kind::Unreadable { what: "bitmap table", offset, error }, place);
                return;
            }
        }
        from += count;
    }
    if damaged > 0 {
        ctx.find(Kind::BitmapTable { name: entry.name_text(), entries: damaged }, place);
    }
}

/// Claims the clusters that the entries point to; returns how many entries are damaged.
fn data_clusters(ctx: &mut Context, index: u32, chunk: &[u64]) -> u64 {
    let mut damaged = 0;
    for entry in chunk.iter().filter(|&&e| e != 0).map(|&e| BitmapTableEntry(e)) {
        if entry.is_broken(&ctx.geometry) {
            damaged += 1;
        } else if let Some(at) = entry.data() {
            let bytes = ctx.geometry.cluster_bytes();
            ctx.claim(RegionKind::BitmapData(index), at, bytes, Place::Bitmap(index));
        }
    }
    damaged
}
