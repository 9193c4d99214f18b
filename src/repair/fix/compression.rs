//! The compression type, where header and feature bit disagree: compressed clusters show which is
//! right.

use crate::check::Survey;
use crate::error::{Error, Result};
use crate::format::decode_entries;
use crate::format::feature::incompatible;
use crate::format::header::{HeaderField, V3_BYTES};
use crate::format::l2::{L2Entry, Meaning};
use crate::repair::plan::step::Step;
use crate::storage::ReadAt;

/// How zstd begins a frame.
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Plans type and bit.
pub fn plan(source: &dyn ReadAt, survey: &Survey) -> Result<Vec<Step>> {
    let header = &survey.area.header;
    let zstd = is_zstd(source, survey)?.unwrap_or(header.compression_type == 1);
    let has_type = header.header_length as usize > V3_BYTES;
    let mut steps = Vec::new();
    if has_type && header.compression_type != u8::from(zstd) {
        steps.push(Step::field(HeaderField::CompressionType, u64::from(zstd)));
    }
    if header.has_incompatible(incompatible::COMPRESSION) != zstd && (has_type || !zstd) {
        steps.push(compression_bit(survey, zstd));
    }
    Ok(steps)
}

/// Whether the first compressed cluster is a zstd frame; `None` without any.
pub fn is_zstd(source: &dyn ReadAt, survey: &Survey) -> Result<Option<bool>> {
    let geometry = &survey.area.geometry;
    let mut bytes = vec![0; geometry.cluster_len()];
    for visit in &survey.visits {
        let at = visit.entry.offset();
        if !geometry.is_aligned(at) || at.get() >= survey.file_bytes {
            continue;
        }
        let failed = |e| Error::io("read an L2 table", at.get(), e);
        source.read_padded_at(at.get(), &mut bytes).map_err(failed)?;
        for entry in bytes.chunks_exact(geometry.l2_entry_bytes()) {
            let entry = L2Entry::standard(decode_entries(&entry[..8])[0]);
            if let Meaning::Compressed(extent) = entry.meaning(geometry, false) {
                let mut first = [0; 4];
                let failed = |e| Error::io("read compressed data", extent.offset.get(), e);
                source.read_padded_at(extent.offset.get(), &mut first).map_err(failed)?;
                return Ok(Some(first == ZSTD));
            }
        }
    }
    Ok(None)
}

/// The incompatible bits with the compression bit as it should be.
fn compression_bit(survey: &Survey, zstd: bool) -> Step {
    let bits = survey.area.header.incompatible;
    let bit = incompatible::COMPRESSION;
    Step::field(HeaderField::Incompatible, if zstd { bits | bit } else { bits & !bit })
}
