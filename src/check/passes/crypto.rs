//! Encryption: the pointers to the LUKS header, and the header itself as far as it is not secret.
//! Relies on the header pass.

use crate::check::report::{Kind, Place, RegionKind};
use crate::check::survey::context::Context;
use crate::format::crypto::{CryptMethod, CryptoHeader, LUKS_HEADER_BYTES, MAX_LUKS_HEADER_BYTES};
use crate::format::extension;
use crate::format::header::HeaderField;
use crate::format::luks::{LUKS_BYTES, LuksHeader};
use crate::format::luks_defects::defects;

/// Checks the method and every extension that points to an encryption header: QEMU looks at each of
/// them, and the last one counts.
pub fn pointers(ctx: &mut Context) {
    let method = ctx.area.header.crypt_method;
    let field = Place::Header(HeaderField::CryptMethod.place().0);
    if let CryptMethod::Unknown(number) = method {
        ctx.find(Kind::HeaderField(format!("unknown encryption method {number}")), field);
    }
    let extensions = ctx.area.extensions.iter().filter(|e| e.magic == extension::CRYPTO);
    let found: Vec<(u64, Option<String>)> = extensions
        .map(|e| (e.offset, pointer(ctx, method, CryptoHeader::decode(&e.data))))
        .collect();
    if found.is_empty() && method == CryptMethod::Luks {
        ctx.find(Kind::HeaderField("LUKS without an encryption header".into()), field);
    }
    for (offset, what) in found {
        if let Some(what) = what {
            ctx.find(Kind::HeaderField(what), Place::Header(offset));
        }
    }
}

/// What is wrong with a pointer to an encryption header.
fn pointer(ctx: &Context, method: CryptMethod, header: Option<CryptoHeader>) -> Option<String> {
    if method != CryptMethod::Luks {
        return Some("an encryption header without LUKS".into());
    }
    let Some(header) = header else {
        return Some("the encryption header's pointer has a wrong length".into());
    };
    let (at, length) = (header.offset.get(), header.length);
    if !ctx.geometry.is_aligned(header.offset) {
        return Some(format!("the encryption header at {at:#x} is not cluster aligned"));
    }
    (!is_plausible(&header))
        .then(|| format!("the encryption header's {length} bytes are not a LUKS header"))
}

/// Whether a LUKS header can have this length.
fn is_plausible(header: &CryptoHeader) -> bool {
    (LUKS_HEADER_BYTES..=MAX_LUKS_HEADER_BYTES).contains(&header.length)
}

/// Claims the encryption header's clusters, whose offset the header has, and checks what is in
/// them.
pub fn run(ctx: &mut Context) {
    if ctx.area.header.crypt_method != CryptMethod::Luks {
        return;
    }
    if let Some(header) = ctx.area.crypto_header() {
        let bytes = if is_plausible(&header) { header.length } else { LUKS_HEADER_BYTES };
        ctx.claim(RegionKind::CryptoHeader, header.offset, bytes, Place::CryptoHeader);
    }
    let extensions = ctx.area.extensions.iter().filter(|e| e.magic == extension::CRYPTO);
    let headers: Vec<_> = extensions.filter_map(|e| CryptoHeader::decode(&e.data)).collect();
    for header in headers {
        if ctx.geometry.is_aligned(header.offset) && is_plausible(&header) {
            contents(ctx, &header);
        }
    }
}

/// Checks a LUKS header. Identifier, salts and digests are not read: without a passphrase nothing
/// shows whether they are right, and a copy of the metadata needs none of them.
fn contents(ctx: &mut Context, header: &CryptoHeader) {
    let mut bytes = [0; LUKS_BYTES];
    for range in LuksHeader::public_bytes() {
        let at = header.offset.saturating_add(range.start as u64);
        if let Err(error) = ctx.source.read_padded_at(at.get(), &mut bytes[range]) {
            let (what, offset) = ("encryption header", header.offset);
            let kind = Kind::Unreadable { what, offset, error: error.to_string() };
            ctx.find(kind, Place::CryptoHeader);
            return;
        }
    }
    for what in defects(&bytes, header.length) {
        ctx.find(Kind::EncryptionHeader(what), Place::CryptoHeader);
    }
}
