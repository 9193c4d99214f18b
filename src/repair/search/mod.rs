//! A header for an image whose own is damaged: what the file holds is searched for the structures
//! that a header points to, and the header that explains most of them is taken.

mod basis;
mod candidate;
mod judge;
mod l1;
mod overlay;
mod remains;
mod scan;
mod shape;
mod variants;

pub use basis::{Hints, Names};

use std::collections::HashSet;

use super::fix::compression;
use super::plan::{pointers, stored};
use crate::check::lost::reftable;
use crate::check::{CheckOptions, Finding, Kind, Place, RegionKind, Source, Survey, survey};
use crate::error::{Error, Result};
use crate::format::crypto::CryptMethod;
use crate::format::feature::incompatible;
use crate::format::header::{Header, HeaderField};
use crate::format::{HostCluster, L1Index};
use crate::progress::{Progress, Silent};
use crate::sector::SECTOR_LEN;
use crate::storage::{Capacity, Overlay as Writable, ReadAt, Storage};
use basis::{Search, Sizes};
use candidate::Candidate;
use judge::{Judge, Worth};
use overlay::Overlay;
use remains::Remains;

/// Damaged L1 entries that may be left out of account, at most.
const MOST_DAMAGED: usize = 16;
/// Bytes that may be changed for that in memory.
const MOST_CHANGED: usize = 1 << 20;

/// A header that was found to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltHeader {
    /// Its fields.
    pub header: Header,
    /// Whether fields and extensions of the old one were kept.
    pub kept: bool,
    /// Whether the size of the disk is taken from what is mapped, so that it may be another one.
    pub size_guessed: bool,
    /// Whether the active L1 table was not found, so that the disk is empty.
    pub empty: bool,
    /// What the old header may have named and nothing in the file shows, so that the new one does
    /// not.
    pub unknown: Vec<Unknown>,
    /// The first bytes of the file.
    head: Vec<u8>,
    least_bytes: u64,
}

/// What only the header of an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// That there is a backing file: what the image does not store reads as zeroes without it.
    BackingFile,
    /// That guest data is in an external data file.
    DataFile,
    /// That guest data is encrypted in the way that preceded LUKS.
    Aes,
}

/// How much of an image has to be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Cluster size or refcount width: the structures that the header points to show it.
    Sizes,
    /// Where the tables are.
    Tables,
}

/// Searches for a header where there is none that can be read.
pub fn for_lost(
    storage: &dyn Storage,
    hints: &Hints,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<RebuiltHeader> {
    let remains = Remains::read(&storage)?;
    let mut judge = Judge::new(&storage, &remains, options);
    let growable = growable(storage);
    let sizes = Sizes::Likely;
    let what = Search { sizes, source: &storage, remains: &remains, hints, growable };
    variants::of_kept(&what, &mut judge)?;
    let good = judge.best().is_some_and(|(worth, _)| worth.is_convincing());
    if !good {
        variants::of_found(&what, &mut judge, options, progress)?;
    }
    match judge.best() {
        Some((worth, best)) => what.rebuilt(worth, best, options),
        None => Err(nothing(hints)),
    }
}

/// Searches for a better header than one that can be read, where that one leads astray; `None`
/// where there is none.
pub fn for_doubtful(
    storage: &dyn Storage,
    survey: &Survey,
    hints: &Hints,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<Option<RebuiltHeader>> {
    let Some(doubt) = doubt(&storage, survey)? else { return Ok(None) };
    if explains_without_damaged(storage, survey, options)? {
        return Ok(None);
    }
    let mut remains = Remains::read(&storage)?;
    remains.header = Some(survey.area.header.clone());
    let mut judge = Judge::new(&storage, &remains, options);
    let growable = growable(storage);
    let has_right_sizes = has_right_sizes(&storage, survey)?;
    let sizes = if has_right_sizes { Sizes::Right } else { Sizes::Likely };
    let what = Search { sizes, source: &storage, remains: &remains, hints, growable };
    let present = judge::worth(survey);
    variants::of_kept(&what, &mut judge)?;
    let good = judge.best().is_some_and(|(worth, _)| worth.is_convincing());
    if doubt == Doubt::Tables && !good {
        variants::of_found(&what, &mut judge, options, progress)?;
    }
    let mut fits = true;
    if let (Doubt::Sizes, Some((worth, best))) = (doubt, judge.best()) {
        // Refcounts can be wrong under a valid header: only other sizes that explain them count.
        let sizes = |header: &Header| (header.cluster_bits, header.refcount_order);
        fits = worth.is_convincing()
            && sizes(&best.header) != sizes(&survey.area.header)
            && describes_itself(&storage, &best.header)?;
    }
    let better = judge.best().filter(|(worth, best)| {
        let same = best.header == survey.area.header || !fits;
        !same && worth.is_over(present)
    });
    better.map(|(worth, best)| what.rebuilt(worth, best, options)).transpose()
}

/// Refuses an image whose header has another cluster size than the file, or an L1 table in the
/// header itself: whatever is read through it is not what it seems. With another refcount width
/// nothing but refcounts is: that header is returned.
pub fn check_sizes(
    storage: &dyn Storage,
    survey: &Survey,
    options: &CheckOptions,
) -> Result<Option<RebuiltHeader>> {
    let (report, header) = (&survey.report, &survey.area.header);
    let doubtful = report.tally.check_errors == 0 && !report.tally.is_clean();
    refuse_tables_nowhere(survey, doubtful)?;
    if !doubtful {
        return Ok(None);
    }
    let present = judge::worth(survey);
    let leads_somewhere = leads_somewhere(survey);
    if leads_somewhere && present.is_convincing() {
        return Ok(None);
    }
    let is_described = describes_itself(&storage, header)?;
    let leads_somewhere = leads_somewhere || is_described;
    if leads_somewhere && present.is_convincing() || is_described && ends_with(storage, survey)? {
        return Ok(None);
    }
    let mut remains = Remains::read(&storage)?;
    remains.header = Some(header.clone());
    let mut judge = Judge::new(&storage, &remains, options);
    let (growable, hints) = (growable(storage), &Hints::default());
    let is_contradicted = contradicts_itself(survey);
    let sizes = if is_contradicted { Sizes::Doubtful } else { Sizes::Likely };
    let what = Search { sizes, source: &storage, remains: &remains, hints, growable };
    variants::of_kept(&what, &mut judge)?;
    let Some((worth, best)) = judge.best() else { return Ok(None) };
    let (bits, order) = (best.header.cluster_bits, best.header.refcount_order);
    let is_other_width = bits == header.cluster_bits && order != header.refcount_order;
    let is_other_size = bits != header.cluster_bits
        && (!is_described || has_same_entries(header, &best.header))
        && (!leads_somewhere || worth.explains_half_of(present))
        && !(is_described && reads_alike(header, &best.header));
    let convinces = worth.is_convincing()
        || is_other_width && !is_described
        || is_other_size && is_contradicted;
    if !convinces || !worth.is_over(present) || !describes_itself(&storage, &best.header)? {
        return Ok(None);
    }
    if is_other_width && !is_described {
        return what.rebuilt(worth, best, options).map(Some);
    }
    if !is_other_size {
        return Ok(None);
    }
    Err(wrong_header(
        HeaderField::ClusterBits,
        &format!(
            "the file does not fit the cluster size and refcount width of the header, but clusters of {} bytes and \
             refcounts of {} bits",
            1u64 << bits,
            1u64 << order
        ),
    ))
}

/// Refuses tables at offsets where none can be.
fn refuse_tables_nowhere(survey: &Survey, doubtful: bool) -> Result<()> {
    let header = &survey.area.header;
    let is_aligned = |at| survey.area.geometry.is_aligned(at);
    if doubtful && !is_aligned(header.l1_table) && !is_aligned(header.reftable) {
        let what =
            "neither the L1 table nor the refcount table begins at a multiple of the cluster size";
        return Err(wrong_header(HeaderField::ClusterBits, what));
    }
    if header.l1_entries > 0 && header.l1_table.get() == 0 {
        return Err(wrong_header(HeaderField::L1Offset, "the L1 table's offset is in the header"));
    }
    Ok(())
}

fn wrong_header(field: HeaderField, what: &str) -> Error {
    Error::Header { offset: field.place().0, message: format!("{what}; nothing was written") }
}

/// Whether refcount structures read the same through both headers: clusters of half the size with
/// refcounts of half the width.
fn reads_alike(header: &Header, other: &Header) -> bool {
    let difference = |a: u32, b: u32| i64::from(a) - i64::from(b);
    difference(header.cluster_bits, other.cluster_bits)
        == difference(header.refcount_order, other.refcount_order)
}

/// Whether both headers are of one version and have L2 entries of one width.
fn has_same_entries(header: &Header, other: &Header) -> bool {
    let extended = |header: &Header| header.has_incompatible(incompatible::EXTENDED_L2);
    header.version == other.version && extended(header) == extended(other)
}

/// Whether a header asks for an L1 table with other entries than it has.
fn contradicts_itself(survey: &Survey) -> bool {
    let at = Place::Header(HeaderField::L1Entries.place().0);
    survey.report.findings.iter().any(|finding| finding.place == at)
}

fn growable(storage: &dyn Storage) -> bool {
    storage.capacity() == Capacity::Growable
}

fn nothing(hints: &Hints) -> Error {
    let hint = match hints.size {
        None => "; the size of its virtual disk would help",
        Some(_) => "",
    };
    Error::Header {
        offset: 0,
        message: format!("the header is damaged, and nothing in the file shows what it was{hint}"),
    }
}

/// Writes a header that was found: the last thing of all, in one sector. Long file names precede
/// it.
pub fn write(storage: &dyn Storage, rebuilt: &RebuiltHeader) -> Result<()> {
    let len = storage.len().map_err(|e| Error::file("determine the file's length", e))?;
    if rebuilt.least_bytes > len {
        let failed = |e| Error::io("make the file longer", len, e);
        storage.set_len(rebuilt.least_bytes).map_err(failed)?;
        storage.sync().map_err(failed)?;
    }
    let failed = |e| Error::io("write the header", 0, e);
    let (head, names) = rebuilt.head.split_at(SECTOR_LEN);
    if !names.is_empty() {
        let written = storage.write_at(SECTOR_LEN as u64, names);
        written.and_then(|()| storage.sync()).map_err(failed)?;
    }
    storage.write_at(0, head).and_then(|()| storage.sync()).map_err(failed)
}

impl Search<'_> {
    /// The header as it is written: marked corrupt where there is more to repair, so that QEMU does
    /// not write to the image before that has ended.
    fn rebuilt(
        &self,
        worth: &Worth,
        best: &Candidate,
        options: &CheckOptions,
    ) -> Result<RebuiltHeader> {
        let best = self.with_compression(best, options)?;
        let mut marked = best.clone();
        if best.header.version >= 3 && !worth.is_flawless() {
            marked.header.incompatible |= incompatible::CORRUPT;
        }
        let old = self.remains.header.as_ref();
        let known = self.hints.size.or(old.map(|header| header.size));
        let head = marked.head(self.remains);
        if head.len() as u64 > 1 << best.header.cluster_bits {
            let message = "the file names do not fit into the first cluster".to_owned();
            return Err(Error::Header { offset: 0, message });
        }
        Ok(RebuiltHeader {
            unknown: unknown(&best),
            header: best.header.clone(),
            kept: best.kept,
            size_guessed: known != Some(best.header.size),
            empty: best.least_bytes > 0,
            head,
            least_bytes: best.least_bytes,
        })
    }

    /// A header that nothing is left of, with the compression type that compressed clusters show.
    fn with_compression(&self, best: &Candidate, options: &CheckOptions) -> Result<Candidate> {
        let mut told = best.clone();
        if best.kept {
            return Ok(told);
        }
        let head = best.head(self.remains);
        let image = Overlay::new(self.source, &head, best.least_bytes);
        if compression::is_zstd(&image, &survey(&image, options, &Silent)?)? == Some(true) {
            told.header.compression_type = 1;
            told.header.incompatible |= incompatible::COMPRESSION;
        }
        Ok(told)
    }
}

/// What the old header may have had beside what a new one has.
fn unknown(best: &Candidate) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    if best.kept {
        return unknown;
    }
    if best.names.backing.is_none() && best.header.backing_name_len == 0 {
        unknown.push(Unknown::BackingFile);
    }
    if best.names.data_file.is_none() {
        unknown.push(Unknown::DataFile);
    }
    if best.crypto.is_none() {
        unknown.push(Unknown::Aes);
    }
    unknown
}

/// Whether a header that can be read leads astray.
fn doubt(source: &dyn ReadAt, survey: &Survey) -> Result<Option<Doubt>> {
    let report = &survey.report;
    if report.tally.check_errors > 0 || report.tally.is_clean() {
        return Ok(None);
    }
    if (!judge::is_usable(survey) || leads_astray(survey)) && !leads_somewhere(survey) {
        return Ok(Some(Doubt::Tables));
    }
    Ok((!has_right_sizes(source, survey)?).then_some(Doubt::Sizes))
}

/// Whether the sizes in the header are right: its refcount table describes itself, and little is
/// wrong beside what is right. Narrow refcounts read much the same with half the cluster size.
fn has_right_sizes(source: &dyn ReadAt, survey: &Survey) -> Result<bool> {
    Ok(judge::worth(survey).is_convincing() && describes_itself(source, &survey.area.header)?)
}

/// Whether the header explains the file once the damaged entries of its L1 table are empty: what is
/// read through one of them can be anything.
fn explains_without_damaged(
    storage: &dyn Storage,
    survey: &Survey,
    options: &CheckOptions,
) -> Result<bool> {
    let damaged = damaged_entries(survey);
    if damaged.is_empty() || damaged.len() > MOST_DAMAGED {
        return Ok(false);
    }
    let failed = |e| Error::io("read the image", 0, e);
    let overlay = Writable::new(&storage, storage.capacity(), MOST_CHANGED).map_err(failed)?;
    for index in damaged {
        let Some(at) = pointers::disputed_l1_entry(survey, Source::Active, index) else {
            return Ok(false);
        };
        overlay.write_at(at.get(), &[0; 8]).map_err(failed)?;
    }
    let Ok(without) = crate::check::survey(&overlay, options, &Silent) else { return Ok(false) };
    let explained = judge::is_usable(&without) && judge::has_few_errors(&without);
    Ok(explained && leads_somewhere(&without) && describes_itself(&overlay, &without.area.header)?)
}

/// The entries of the active L1 table that point nowhere.
fn damaged_entries(survey: &Survey) -> HashSet<L1Index> {
    let slots = survey.report.findings.iter().filter_map(Finding::entry_to_nowhere);
    slots.filter_map(|(source, index)| (source == Source::Active).then_some(index)).collect()
}

/// Whether the refcount table that a header names describes itself with the sizes in the header.
fn describes_itself(source: &dyn ReadAt, header: &Header) -> Result<bool> {
    let failed = |e| Error::io("read the refcounts", header.reftable.get(), e);
    let own = reftable::widths(source, header).map_err(failed)?;
    Ok(own.contains(&header.refcount_order))
}

/// Whether the refcounts end about where the file does: with clusters of half the size they end in
/// its middle, with larger ones past its end. A repair that was interrupted made the file longer.
fn ends_with(storage: &dyn Storage, survey: &Survey) -> Result<bool> {
    let clusters = survey.area.geometry.clusters_for(survey.file_bytes).get();
    let is_beyond = |finding: &Finding| matches!(finding.kind, Kind::CountedBeyondEnd);
    if survey.report.findings.iter().any(is_beyond) {
        return Ok(false);
    }
    let counts = stored::Counts::of(&storage, survey);
    for cluster in (clusters - clusters / 4..clusters).rev().map(HostCluster::new) {
        if counts.get(cluster)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an entry of the active L1 table points to a table of its own in which nothing is wrong:
/// then the header that points to the L1 table is valid.
fn leads_somewhere(survey: &Survey) -> bool {
    let damage = survey.report.findings.iter().filter(|finding| finding.may_hide_references());
    let below = damage.filter_map(|finding| match finding.place {
        Place::L1(Source::Active, index) | Place::L2(Source::Active, index, _) => Some(index),
        _ => None,
    });
    let wrong: HashSet<L1Index> = below.collect();
    let geometry = &survey.area.geometry;
    survey.visits.iter().any(|visit| {
        let cluster = geometry.cluster_exact(visit.entry.offset());
        let alone = |cluster| survey.map.get(cluster) == survey.regions.pointers(cluster);
        visit.source == Source::Active
            && !wrong.contains(&visit.index)
            && cluster.is_some_and(alone)
    })
}

/// Whether the active L1 table is not one, by what was found of it.
fn leads_astray(survey: &Survey) -> bool {
    let active = |kind: &RegionKind| *kind == RegionKind::L1Table(Source::Active);
    for finding in &survey.report.findings {
        match (&finding.kind, finding.place) {
            // A wrong pointer to an encryption header is repaired by itself.
            (Kind::Overlap { owner, other, .. }, _)
                if (active(owner) || other.as_ref().is_some_and(active))
                    && *owner != RegionKind::CryptoHeader
                    && *other != Some(RegionKind::CryptoHeader) =>
            {
                return true;
            }
            (_, Place::L1Table(Source::Active)) => return true,
            _ => {}
        }
    }
    let lost = damaged_entries(survey).len();
    let visits = survey.visits.iter().filter(|visit| visit.source == Source::Active).count();
    // Leaks can be those of an encryption header, whose offset is repaired by itself.
    let mapped_nothing = visits == 0
        && survey.report.tally.leaks > 0
        && survey.area.header.crypt_method != CryptMethod::Luks
        && survey.area.extension_defect.is_none();
    lost > visits / 2 || mapped_nothing
}
