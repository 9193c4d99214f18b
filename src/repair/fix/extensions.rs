//! Header extensions that do not fit: their place and length, and the pointer to an encryption
//! header.

use crate::check::report::kind::header::HEADER_FIELD;
use crate::check::{Kind, Place, RegionKind, Survey};
use crate::error::{Error, Result};
use crate::format::bitmap::{BITMAPS_EXTENSION_BYTES, BitmapsExtension};
use crate::format::crypto::{CRYPTO_POINTER_BYTES, CryptMethod, CryptoHeader};
use crate::format::extension::{
    self, EXTENSION_HEADER_BYTES, Extension, ExtensionDefect, decode_extensions,
};
use crate::format::feature::incompatible;
use crate::format::header::{HeaderField, V3_BYTES, V3_BYTES_WITH_COMPRESSION};
use crate::format::luks::{LUKS_BYTES, LuksHeader};
use crate::format::{ClusterCount, HostOffset, decode_entries, encode_entries};
use crate::repair::plan::step::Step;
use crate::storage::ReadAt;

/// The image's first cluster.
pub fn first_cluster(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<u8>> {
    let mut bytes = vec![0; survey.area.geometry.cluster_len()];
    source.read_padded_at(0, &mut bytes).map_err(|e| Error::io("read the header", 0, e))?;
    Ok(bytes)
}

/// Where the list of extensions ends, its end mark included.
pub fn end_of_list(survey: &Survey, first: &[u8]) -> Option<usize> {
    let start = survey.area.header.header_length as usize;
    let (list, defect) = decode_extensions(first, start, first.len());
    if defect.is_some() {
        return None;
    }
    let behind =
        |last: &Extension| usize::try_from(last.offset).ok().map(|at| at + last.data.len());
    let end = list.last().map_or(Some(start), behind)?;
    Some(end.next_multiple_of(8) + EXTENSION_HEADER_BYTES)
}

/// The header's length, where something shows that it is wrong.
pub fn length(source: &dyn ReadAt, survey: &Survey, lossy: bool) -> Result<Vec<Step>> {
    let header = &survey.area.header;
    let length = header.header_length as usize;
    let at = |field: HeaderField| Place::Header(field.place().0);
    let told = survey.report.findings.iter().any(|finding| {
        let field = matches!(finding.kind, Kind::HeaderField(_));
        let unknown_type =
            finding.place == at(HeaderField::CompressionType) && header.compression_type > 1;
        field && (finding.place == at(HeaderField::HeaderLength) || unknown_type)
    });
    let defect = survey.area.extension_defect.is_some();
    if header.version < 3 || !(told || defect && length % 8 != 0) {
        return Ok(Vec::new());
    }
    let first = first_cluster(source, survey)?;
    let end = usize::try_from(header.extensions_end()).unwrap_or(first.len()).min(first.len());
    let lengths = [V3_BYTES, V3_BYTES_WITH_COMPRESSION];
    if let Some(known) = extension::known_list(&first, end) {
        return Ok(length_field(survey, known));
    }
    let zstd = header.has_incompatible(incompatible::COMPRESSION);
    let empty = lengths.into_iter().find(|&length| {
        let (list, defect) = decode_extensions(&first, length, end);
        list.is_empty() && defect.is_none() && (length > V3_BYTES || !zstd)
    });
    let length = if zstd { V3_BYTES_WITH_COMPRESSION } else { V3_BYTES };
    Ok(match empty {
        Some(length) => length_field(survey, length),
        None if lossy => {
            vec![Step::field(HeaderField::HeaderLength, length as u64), end_mark(length as u64)]
        }
        None => Vec::new(),
    })
}

fn length_field(survey: &Survey, length: usize) -> Vec<Step> {
    let is = survey.area.header.header_length as usize;
    let step = || Step::field(HeaderField::HeaderLength, length as u64);
    if is == length { Vec::new() } else { vec![step()] }
}

fn end_mark(at: u64) -> Step {
    let bytes = vec![0; EXTENSION_HEADER_BYTES];
    let what = "the end of the header extensions";
    Step::bytes(HostOffset::new(at), bytes, what, vec![HEADER_FIELD.code])
}

/// The length of an extension that does not fit, and the pointer to the encryption header.
pub fn plan(source: &dyn ReadAt, survey: &Survey, lossy: bool) -> Result<Vec<Step>> {
    // One with a wrong length hides where the next one begins.
    for found in &survey.area.extensions {
        let fixed = match found.magic {
            extension::CRYPTO => CRYPTO_POINTER_BYTES,
            extension::BITMAPS => BITMAPS_EXTENSION_BYTES,
            _ => continue,
        };
        if found.data.len() != fixed {
            let first = first_cluster(source, survey)?;
            let at = usize::try_from(found.offset).unwrap_or(0);
            if let Some(bytes) = right_length(survey, &first[at.min(first.len())..], found.magic) {
                return Ok(vec![length_of(found.offset - EXTENSION_HEADER_BYTES as u64, bytes)]);
            }
        }
    }
    if let Some(ExtensionDefect::TooLong { offset, magic, .. }) = survey.area.extension_defect {
        let first = first_cluster(source, survey)?;
        let at = usize::try_from(offset).unwrap_or(0) + EXTENSION_HEADER_BYTES;
        let right = right_length(survey, &first[at.min(first.len())..], magic);
        return Ok(match right {
            Some(bytes) => vec![length_of(offset, bytes)],
            None if lossy => vec![end_mark(offset)],
            None => Vec::new(),
        });
    }
    encryption_header(source, survey, lossy)
}

/// The length that an extension of this type has, where what follows can be its data.
fn right_length(survey: &Survey, data: &[u8], magic: u32) -> Option<usize> {
    let inside = |at: HostOffset| {
        survey.area.geometry.is_aligned(at) && at.get() > 0 && at.get() < survey.file_bytes
    };
    match magic {
        extension::BITMAPS => {
            let found = BitmapsExtension::decode(data.get(..BITMAPS_EXTENSION_BYTES)?)?;
            inside(found.directory).then_some(BITMAPS_EXTENSION_BYTES)
        }
        extension::CRYPTO => {
            let found = CryptoHeader::decode(data.get(..CRYPTO_POINTER_BYTES)?)?;
            inside(found.offset).then_some(CRYPTO_POINTER_BYTES)
        }
        _ => None,
    }
}

fn length_of(extension: u64, bytes: usize) -> Step {
    let offset = HostOffset::new(extension + 4);
    let bytes = encode_entries(&[bytes as u64])[4..].to_vec();
    Step::bytes(offset, bytes, "the length of a header extension", vec![HEADER_FIELD.code])
}

/// Offset and length of the encryption header, from the header itself.
fn encryption_header(source: &dyn ReadAt, survey: &Survey, lossy: bool) -> Result<Vec<Step>> {
    let pointer = survey.area.whole_extension(extension::CRYPTO);
    let (Some(extension), Some(crypto)) = (pointer, survey.area.crypto_header()) else {
        return Ok(Vec::new());
    };
    if survey.area.header.crypt_method != CryptMethod::Luks {
        return Ok(Vec::new());
    }
    let length = match luks_at(source, survey, crypto.offset)? {
        Some(length) if is_doubtful(survey, extension) => Some((crypto.offset, length)),
        Some(_) => None,
        None if lossy => search(source, survey)?,
        None => None,
    };
    let Some((offset, length)) = length.filter(|&found| found != (crypto.offset, crypto.length))
    else {
        return Ok(Vec::new());
    };
    let bytes = encode_entries(&[offset.get(), length]);
    let at = HostOffset::new(extension.offset);
    let what = "the encryption header's offset and length";
    Ok(vec![Step::bytes(at, bytes, what, vec![HEADER_FIELD.code])])
}

/// Whether something was found that a wrong pointer explains.
fn is_doubtful(survey: &Survey, extension: &Extension) -> bool {
    let crypto = |kind: &RegionKind| *kind == RegionKind::CryptoHeader;
    survey.report.tally.leaks > 0
        || survey.report.findings.iter().any(|finding| match &finding.kind {
            Kind::HeaderField(_) => finding.place == Place::Header(extension.offset),
            Kind::Overlap { owner, other, .. } => {
                crypto(owner) || other.as_ref().is_some_and(crypto)
            }
            _ => finding.place == Place::CryptoHeader,
        })
}

/// The length of the LUKS header here; `None` where there is none.
fn luks_at(source: &dyn ReadAt, survey: &Survey, at: HostOffset) -> Result<Option<u64>> {
    if !survey.area.geometry.is_aligned(at) || at.get() == 0 || at.get() >= survey.file_bytes {
        return Ok(None);
    }
    let mut bytes = vec![0; LUKS_BYTES];
    let failed = |e| Error::io("read the encryption header", at.get(), e);
    source.read_padded_at(at.get(), &mut bytes).map_err(failed)?;
    Ok(LuksHeader::decode(&bytes).map(|header| header.payload_offset))
}

/// The only LUKS header among the clusters that nothing references, or that a wrong pointer does.
fn search(source: &dyn ReadAt, survey: &Survey) -> Result<Option<(HostOffset, u64)>> {
    let geometry = &survey.area.geometry;
    let mut found = None;
    let mut from = 0;
    let failed = |at| move |e| Error::io("search for the encryption header", at, e);
    while let Some(data) = source.next_data(from).map_err(failed(from))? {
        let (first, count) = geometry.span(HostOffset::new(data.start), data.end - data.start);
        for number in 0..count.get() {
            let cluster = first + ClusterCount::new(number);
            let at = geometry.offset_of(cluster);
            let owners = survey.regions.touching(cluster..cluster.next());
            let owned: u64 = owners.map(|region| region.pointers).sum();
            if survey.map.get(cluster) > owned || at.get() == 0 {
                continue; // A guest can have one on its disk.
            }
            let mut magic = [0; 8];
            source.read_padded_at(at.get(), &mut magic).map_err(failed(at.get()))?;
            if decode_entries(&magic)[0] >> 16 != 0x4C55_4B53_BABE {
                continue;
            }
            if let Some(length) = luks_at(source, survey, at)? {
                if found.replace((at, length)).is_some() {
                    return Ok(None);
                }
            }
        }
        from = data.end;
    }
    Ok(found)
}
