//! The header: fields in range, pointers to tables valid. Relies on nothing.

use super::crypto;
use crate::check::report::{Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::format::HostOffset;
use crate::format::drivers::{MAX_FORMAT_BYTES, is_driver};
use crate::format::extension::{self, ExtensionDefect};
use crate::format::feature::{autoclear, incompatible};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::{HeaderField, MAX_BACKING_NAME_BYTES, V3_BYTES};
use crate::format::l1::MAX_L1_BYTES;
use crate::format::refcount::MAX_REFTABLE_BYTES;
use crate::tables::HiddenExtensions;

/// Checks the fields and claims the header's cluster.
pub fn run(ctx: &mut Context) {
    let cluster_bytes = ctx.geometry.cluster_bytes();
    ctx.claim(RegionKind::Header, HostOffset::new(0), cluster_bytes, Place::Header(0));
    bits(ctx);
    lengths(ctx);
    backing_name(ctx);
    backing_format(ctx);
    l1_table(ctx);
    reftable(ctx);
    data_file(ctx);
    crypto::pointers(ctx);
}

fn at(field: HeaderField) -> Place {
    Place::Header(field.place().0)
}

fn wrong(ctx: &mut Context, field: HeaderField, what: String) {
    ctx.find(Kind::HeaderField(what), at(field));
}

fn bits(ctx: &mut Context) {
    let header = ctx.area.header.clone();
    if header.has_incompatible(incompatible::DIRTY) {
        ctx.find(Kind::Dirty, at(HeaderField::Incompatible));
    }
    if header.has_incompatible(incompatible::CORRUPT) {
        ctx.find(Kind::MarkedCorrupt, at(HeaderField::Incompatible));
    }
    if header.autoclear & autoclear::DATA_FILE_RAW != 0 && !header.has_data_file() {
        let what = "raw external data is promised without a data file";
        wrong(ctx, HeaderField::Autoclear, what.into());
    }
    let compressed_otherwise = header.has_incompatible(incompatible::COMPRESSION);
    match (header.compression_type, compressed_otherwise) {
        (0, false) | (1, true) => {}
        (0, true) => wrong(
            ctx,
            HeaderField::CompressionType,
            "the compression type is zlib though its feature bit is set".into(),
        ),
        (1, false) => wrong(
            ctx,
            HeaderField::CompressionType,
            "the compression type is zstd without its feature bit".into(),
        ),
        (other, _) => {
            wrong(ctx, HeaderField::CompressionType, format!("unknown compression type {other}"));
        }
    }
}

fn lengths(ctx: &mut Context) {
    let length = ctx.area.header.header_length;
    if ctx.area.header.version >= 3 && (length as usize) < V3_BYTES {
        let what = format!("the header's length of {length} bytes is under {V3_BYTES}");
        wrong(ctx, HeaderField::HeaderLength, what);
    }
    if u64::from(length) > ctx.geometry.cluster_bytes() {
        let what = format!("the header's length of {length} bytes is over a cluster");
        wrong(ctx, HeaderField::HeaderLength, what);
    }
    if ctx.area.header.version >= 3 && length % 8 != 0 {
        let what = format!("the header's length of {length} bytes is not a multiple of 8");
        wrong(ctx, HeaderField::HeaderLength, what);
    }
    match ctx.area.hidden_extensions {
        None => {}
        Some(HiddenExtensions::InHeader(start)) => {
            let what = format!(
                "the header's length of {length} bytes includes header extensions, which begin at {start:#x}"
            );
            wrong(ctx, HeaderField::HeaderLength, what);
        }
        Some(HiddenExtensions::AfterName) => {
            let offset = ctx.area.header.backing_name_offset;
            let what = format!(
                "the backing file's name at {offset:#x} is inside the header and hides the header extensions"
            );
            wrong(ctx, HeaderField::BackingNameOffset, what);
        }
    }
    match ctx.area.extension_defect {
        None => {}
        Some(ExtensionDefect::TooLong { offset, magic, length }) => {
            let what =
                format!("the header extension {magic:#010x} has {length} bytes, which do not fit");
            ctx.find(Kind::HeaderField(what), Place::Header(offset));
        }
        Some(ExtensionDefect::Cut { offset }) => {
            let what = format!("a header extension begins at {offset:#x}, too near to their end");
            let field = match ctx.area.header.backing_name_offset {
                0 => HeaderField::HeaderLength,
                _ => HeaderField::BackingNameOffset,
            };
            wrong(ctx, field, what);
        }
    }
}

fn backing_name(ctx: &mut Context) {
    let header = &ctx.area.header;
    let (offset, length) = (header.backing_name_offset, header.backing_name_len);
    if offset == 0 {
        return;
    }
    if offset < u64::from(header.header_length) && length > 0 {
        let what = format!("the backing file's name at {offset:#x} is inside the header");
        wrong(ctx, HeaderField::BackingNameOffset, what);
    }
    let room = ctx.geometry.cluster_bytes().saturating_sub(offset);
    if offset > ctx.geometry.cluster_bytes() {
        let what = format!("the backing file's name at {offset:#x} is outside the first cluster");
        wrong(ctx, HeaderField::BackingNameOffset, what);
    } else if u64::from(length) > room.min(u64::from(MAX_BACKING_NAME_BYTES)) {
        let what = format!("the backing file's name of {length} bytes is too long");
        wrong(ctx, HeaderField::BackingNameLength, what);
    }
}

/// The format that is recorded for a backing file. QEMU looks at its length in any image.
fn backing_format(ctx: &mut Context) {
    let formats = ctx.area.extensions.iter().filter(|e| e.magic == extension::BACKING_FORMAT);
    let formats: Vec<(u64, usize)> = formats.map(|e| (e.offset, e.data.len())).collect();
    for &(offset, length) in formats.iter().filter(|(_, length)| *length > MAX_FORMAT_BYTES) {
        let what = format!(
            "the format of the backing file has {length} bytes where QEMU takes {MAX_FORMAT_BYTES}"
        );
        ctx.find(Kind::BackingFormat(what), Place::Header(offset));
    }
    let unknown = ctx.area.backing_format().filter(|name| !is_driver(name));
    if let (Some(name), Some(&(offset, 0..=MAX_FORMAT_BYTES))) = (unknown, formats.last()) {
        let name = String::from_utf8_lossy(name);
        let what = format!("QEMU has no format '{}' of a backing file", name.escape_debug());
        ctx.find(Kind::BackingFormat(what), Place::Header(offset));
    }
}

/// An external data file can be named when the image is opened, so that it is not damage if none
/// is.
fn data_file(ctx: &mut Context) {
    if ctx.area.header.has_data_file() && !ctx.area.names_data_file() {
        ctx.find(Kind::DataFileUnnamed, at(HeaderField::Incompatible));
    }
}

fn l1_table(ctx: &mut Context) {
    let header = &ctx.area.header;
    let (offset, entries) = (header.l1_table, u64::from(header.l1_entries));
    let needed = ctx.geometry.l1_entries_for(header.size);
    if entries * TABLE_ENTRY_BYTES > MAX_L1_BYTES {
        let what = format!("the active L1 table's {entries} entries are over the limit");
        wrong(ctx, HeaderField::L1Entries, what);
    } else if entries < needed {
        let what = format!("the active L1 table has {entries} entries, the disk needs {needed}");
        wrong(ctx, HeaderField::L1Entries, what);
    }
    if !ctx.geometry.is_aligned(offset) {
        let what = format!("the active L1 table at {:#x} is not cluster aligned", offset.get());
        wrong(ctx, HeaderField::L1Offset, what);
    } else if entries == 0 && offset.get() > i64::MAX as u64 {
        // QEMU opens no image where an offset is over its greatest; a table with entries is
        // reported as past the end.
        let what = format!("the active L1 table at {:#x} is out of range", offset.get());
        wrong(ctx, HeaderField::L1Offset, what);
    }
}

fn reftable(ctx: &mut Context) {
    let header = &ctx.area.header;
    let (offset, clusters) = (header.reftable, header.reftable_clusters);
    let bytes = u64::from(clusters) * ctx.geometry.cluster_bytes();
    if bytes > MAX_REFTABLE_BYTES.max(ctx.geometry.cluster_bytes()) {
        let what = format!("the refcount table's {clusters} clusters are over the limit");
        wrong(ctx, HeaderField::ReftableClusters, what);
    }
    if !ctx.geometry.is_aligned(offset) {
        let what = format!("the refcount table at {:#x} is not cluster aligned", offset.get());
        wrong(ctx, HeaderField::ReftableOffset, what);
    } else if offset.get() == 0 && clusters > 0 {
        let what = "the refcount table's offset is in the header".into();
        wrong(ctx, HeaderField::ReftableOffset, what);
    }
}
