//! The header: fields in range, pointers to tables sound. Relies on nothing.

use super::context::Context;
use super::finding::{Kind, Place, RegionKind};
use crate::format::HostOffset;
use crate::format::crypto::{CryptMethod, CryptoHeader, LUKS_HEADER_BYTES, MAX_LUKS_HEADER_BYTES};
use crate::format::extension::{self, ExtensionDefect};
use crate::format::feature::{autoclear, incompatible};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::{HeaderField, MAX_BACKING_NAME_BYTES, V3_BYTES};
use crate::format::l1::MAX_L1_BYTES;
use crate::format::refcount::MAX_REFTABLE_BYTES;

/// Checks the fields and claims the header's cluster.
pub fn run(ctx: &mut Context) {
    let cluster_bytes = ctx.geometry.cluster_bytes();
    ctx.claim(RegionKind::Header, HostOffset::new(0), cluster_bytes, Place::Header(0));
    bits(ctx);
    lengths(ctx);
    backing_name(ctx);
    l1_table(ctx);
    reftable(ctx);
    encryption(ctx);
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
            "the compression type is zlib though its feature bit says otherwise".into(),
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
    if let Some(ExtensionDefect::TooLong { offset, magic, length }) = ctx.area.extension_defect {
        let what = format!("the header extension {magic:#010x} has {length} bytes and no room");
        ctx.find(Kind::HeaderField(what), Place::Header(offset));
    }
}

fn backing_name(ctx: &mut Context) {
    let header = &ctx.area.header;
    let (offset, length) = (header.backing_name_offset, header.backing_name_len);
    if offset == 0 {
        return;
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
        let what = "the refcount table is said to lie over the header".into();
        wrong(ctx, HeaderField::ReftableOffset, what);
    }
}

fn encryption(ctx: &mut Context) {
    let method = ctx.area.header.crypt_method;
    if let CryptMethod::Unknown(number) = method {
        wrong(ctx, HeaderField::CryptMethod, format!("unknown encryption method {number}"));
    }
    let extension = ctx.area.whole_extension(extension::CRYPTO).map(|e| e.offset);
    match (extension, ctx.area.crypto_header()) {
        (None, _) if method == CryptMethod::Luks => {
            wrong(ctx, HeaderField::CryptMethod, "LUKS without an encryption header".into());
        }
        (Some(offset), _) if method != CryptMethod::Luks => {
            let what = "an encryption header without LUKS".to_owned();
            ctx.find(Kind::HeaderField(what), Place::Header(offset));
        }
        (Some(offset), None) => {
            let what = "the encryption header's pointer has a wrong length".to_owned();
            ctx.find(Kind::HeaderField(what), Place::Header(offset));
        }
        (Some(offset), Some(crypto)) if !ctx.geometry.is_aligned(crypto.offset) => {
            let at = crypto.offset.get();
            let what = format!("the encryption header at {at:#x} is not cluster aligned");
            ctx.find(Kind::HeaderField(what), Place::Header(offset));
        }
        (Some(offset), Some(crypto)) if !is_plausible(&crypto) => {
            let length = crypto.length;
            let what = format!("the encryption header's {length} bytes are no LUKS header");
            ctx.find(Kind::HeaderField(what), Place::Header(offset));
        }
        _ => {}
    }
}

/// Claims the encryption header's clusters, whose place the header tells.
pub fn claim_crypto_header(ctx: &mut Context) {
    if ctx.area.header.crypt_method == CryptMethod::Luks {
        if let Some(crypto) = ctx.area.crypto_header() {
            let bytes = if is_plausible(&crypto) { crypto.length } else { LUKS_HEADER_BYTES };
            ctx.claim(RegionKind::CryptoHeader, crypto.offset, bytes, Place::CryptoHeader);
        }
    }
}

/// Whether a LUKS header can have this length.
fn is_plausible(crypto: &CryptoHeader) -> bool {
    (LUKS_HEADER_BYTES..=MAX_LUKS_HEADER_BYTES).contains(&crypto.length)
}
