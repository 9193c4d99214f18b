//! Header fields that are wrong though the image can be read: set to what the rest of the image
//! shows, and where it shows nothing, to what loses least.

use super::{compression, extensions};
use crate::check::report::kind::header::HEADER_FIELD;
use crate::check::{Finding, Kind, Place, Source, Survey};
use crate::error::Result;
use crate::format::crypto::CryptMethod;
use crate::format::extension;
use crate::format::feature::autoclear;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::{HeaderField, MAX_BACKING_NAME_BYTES, encode_field};
use crate::format::l1::{L1Entry, MAX_L1_BYTES};
use crate::format::{ClusterCount, HostCluster, HostOffset};
use crate::repair::plan::step::Step;
use crate::storage::ReadAt;
use crate::tables::load_entries;

/// Plans the fields. Other findings may come from them, so they are repaired first and alone.
pub fn plan(source: &dyn ReadAt, survey: &Survey, lossy: bool) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut places: Vec<_> = survey.report.findings.iter().filter_map(place).collect();
    places.dedup();
    // A wrong length puts extensions where there are none: their content is not evidence.
    steps.extend(extensions::length(source, survey, lossy)?);
    if !steps.is_empty() {
        return Ok(steps);
    }
    for place in places {
        if place == HeaderField::Autoclear.place().0 {
            steps.push(raw_bit(survey));
        } else if place == HeaderField::CompressionType.place().0 {
            steps.extend(compression::plan(source, survey)?);
        } else if place == HeaderField::BackingNameOffset.place().0
            || place == HeaderField::BackingNameLength.place().0
        {
            steps.extend(backing_name(source, survey, lossy)?);
        } else if place == HeaderField::L1Entries.place().0 {
            steps.extend(l1_entries(source, survey, lossy)?);
        } else if place == HeaderField::CryptMethod.place().0 {
            steps.extend(crypt_method(survey, lossy));
        }
    }
    steps.extend(reftable_clusters(survey));
    steps.extend(l1_beyond(survey).filter(|_| lossy));
    if steps.is_empty() {
        steps.extend(extensions::plan(source, survey, lossy)?);
    }
    Ok(steps)
}

fn place(finding: &Finding) -> Option<u64> {
    match (&finding.kind, finding.place) {
        (Kind::HeaderField(_), Place::Header(at)) => Some(at),
        _ => None,
    }
}

fn raw_bit(survey: &Survey) -> Step {
    Step::field(HeaderField::Autoclear, survey.area.header.autoclear & !autoclear::DATA_FILE_RAW)
}

/// The name is put right where it can be read, and dropped where not: without a length there was
/// none.
fn backing_name(source: &dyn ReadAt, survey: &Survey, lossy: bool) -> Result<Vec<Step>> {
    let header = &survey.area.header;
    let none = || {
        let mut bytes = encode_field(HeaderField::BackingNameOffset, 0);
        bytes.extend(encode_field(HeaderField::BackingNameLength, 0));
        let offset = HostOffset::new(HeaderField::BackingNameOffset.place().0);
        let what = "the backing file's name in the header";
        vec![Step::bytes(offset, bytes, what, vec![HEADER_FIELD.code])]
    };
    if header.backing_name_len == 0 {
        return Ok(none());
    }
    let first = extensions::first_cluster(source, survey)?;
    let length = header.backing_name_len as usize;
    let starts = extensions::end_of_list(survey, &first);
    // The name follows the extensions and fills its length.
    let name = |at: usize, length: usize| {
        let bytes = first.get(at..at + length)?;
        let text = std::str::from_utf8(bytes).is_ok() && !bytes.iter().any(u8::is_ascii_control);
        let ends = first.get(at + length).is_none_or(|&byte| byte == 0);
        (text && ends && length > 0).then_some(())
    };
    let short = length <= MAX_BACKING_NAME_BYTES as usize;
    if let (Some(at), true) = (starts.filter(|&at| name(at, length).is_some()), short) {
        return Ok(vec![Step::field(HeaderField::BackingNameOffset, at as u64)]);
    }
    if !lossy {
        return Ok(Vec::new());
    }
    let at = usize::try_from(header.backing_name_offset).unwrap_or(usize::MAX);
    let run = first.get(at..).map_or(0, |rest| rest.iter().take_while(|&&byte| byte != 0).count());
    if run <= MAX_BACKING_NAME_BYTES as usize && name(at, run).is_some() {
        return Ok(vec![Step::field(HeaderField::BackingNameLength, run as u64)]);
    }
    Ok(none())
}

/// An L1 table that is too short grows where its cluster has space; else the disk is cut to what it
/// maps. One that is too long gets the length that the disk asks for.
fn l1_entries(source: &dyn ReadAt, survey: &Survey, lossy: bool) -> Result<Vec<Step>> {
    let header = &survey.area.header;
    let geometry = &survey.area.geometry;
    let needed = geometry.l1_entries_for(header.size);
    let entries = u64::from(header.l1_entries);
    let sound = geometry.is_aligned(header.l1_table) && header.l1_table.get() < survey.file_bytes;
    if !lossy || !sound {
        return Ok(Vec::new());
    }
    let per_cluster = geometry.cluster_bytes() / TABLE_ENTRY_BYTES;
    let in_use = entries.clamp(1, MAX_L1_BYTES / TABLE_ENTRY_BYTES);
    let room = in_use.next_multiple_of(per_cluster);
    let too_long = entries * TABLE_ENTRY_BYTES > MAX_L1_BYTES;
    let grown = needed.max(1);
    let fits = grown * TABLE_ENTRY_BYTES <= MAX_L1_BYTES && (too_long || grown <= room);
    if fits {
        let at = header.l1_table.saturating_add(in_use * TABLE_ENTRY_BYTES);
        let new = if too_long { 0 } else { grown.saturating_sub(in_use) };
        let failed = |e| crate::error::Error::io("read the L1 table", at.get(), e);
        let words = load_entries(source, at, new).map_err(failed)?;
        let is_entry = |&bits: &u64| {
            let entry = L1Entry(bits);
            let inside = entry.offset().get() < survey.file_bytes;
            bits == 0 || !entry.has_reserved_bits() && !entry.is_unaligned(geometry) && inside
        };
        if words.iter().all(is_entry) {
            return Ok(vec![Step::field(HeaderField::L1Entries, grown)]);
        }
    }
    if too_long {
        return Ok(Vec::new());
    }
    let mapped = entries * geometry.bytes_per_l2_table();
    Ok(vec![Step::field(HeaderField::Size, mapped)])
}

/// An active L1 table that reaches past the end of the file though the part that the disk asks for
/// does not: what comes after that is not a table, or the state of a machine that is cut off.
fn l1_beyond(survey: &Survey) -> Option<Step> {
    let (header, geometry) = (&survey.area.header, &survey.area.geometry);
    let is_active = |finding: &Finding| finding.place == Place::L1Table(Source::Active);
    let mut findings = survey.report.findings.iter().filter(|finding| is_active(finding));
    findings.find(|finding| matches!(finding.kind, Kind::BeyondEnd { .. }))?;
    let needed = geometry.l1_entries_for(header.size).max(1);
    let end = header.l1_table.saturating_add(needed * TABLE_ENTRY_BYTES);
    let fits = needed < u64::from(header.l1_entries) && end.get() <= survey.file_bytes;
    fits.then(|| Step::field(HeaderField::L1Entries, needed))
}

/// A method with a number that there is not: LUKS has a header, the older method none.
fn crypt_method(survey: &Survey, lossy: bool) -> Option<Step> {
    let method = survey.area.header.crypt_method;
    let header = survey.area.whole_extension(extension::CRYPTO).is_some();
    match (method, header) {
        (CryptMethod::Luks, _) => None,
        (_, true) => Some(Step::field(HeaderField::CryptMethod, 2)),
        (CryptMethod::Unknown(_), false) if lossy => Some(Step::field(HeaderField::CryptMethod, 0)),
        _ => None,
    }
}

/// A refcount table that reaches past the end of the file, or over what is not one, though the
/// blocks in use are in its beginning.
fn reftable_clusters(survey: &Survey) -> Option<Step> {
    let geometry = &survey.area.geometry;
    let last = survey.map.last().unwrap_or_else(|| HostCluster::new(0));
    let (index, _) = geometry.refcount_place(last);
    let needed = geometry.clusters_for((index.get() + 1) * TABLE_ENTRY_BYTES);
    let needed = needed.max(ClusterCount::new(1));
    let file = geometry.clusters_for(survey.file_bytes);
    let first = geometry.cluster_floor(survey.area.header.reftable);
    let inside = file.get().checked_sub(first.get()).filter(|&count| count > 0)?;
    // After what is needed comes what is somebody else's, and no more of the table.
    let entries = usize::try_from(geometry.bytes_of(needed) / TABLE_ENTRY_BYTES).ok()?;
    let ours = survey.refcounts.entries.get(..entries)?.iter().any(|&entry| entry != 0);
    let too_long = is_beyond(survey) || is_damaged_from(survey, entries as u64);
    (too_long && needed.get() <= inside && ours)
        .then(|| Step::field(HeaderField::ReftableClusters, needed.get()))
}

/// Whether the refcount table reaches past the end of the file.
fn is_beyond(survey: &Survey) -> bool {
    survey.report.findings.iter().any(|finding| {
        matches!(finding.kind, Kind::BeyondEnd { .. }) && finding.place == Place::Reftable
    })
}

/// Whether entries of the refcount table are damaged from this one on, and none before it.
fn is_damaged_from(survey: &Survey, first: u64) -> bool {
    let damaged = survey.report.findings.iter().filter_map(|f| match (&f.kind, f.place) {
        (
            Kind::ReftableReserved | Kind::RefblockUnaligned | Kind::RefblockOutside,
            Place::Refblock(index),
        ) => Some(index.get()),
        _ => None,
    });
    damaged.min().is_some_and(|index| index >= first)
}
