//! Damaged entries with one right value: what is wrong can be taken away, and what is left points
//! to a cluster whose refcount includes this reference.

use std::collections::HashSet;
use std::ops::Range;

use super::cross_links;
use crate::check::report::kind::tables::L1_RESERVED_BITS;
use crate::check::{Finding, Kind, Place, Source, Survey, Visit};
use crate::error::Result;
use crate::format::l1::{COPIED, L1Entry, OFFSET_MASK};
use crate::format::l2::{L2Entry, Meaning, ZERO};
use crate::format::{Geometry, HostCluster, HostOffset, L1Index};
use crate::repair::plan::pointers::{self, Tables};
use crate::repair::plan::quarantine::Quarantine;
use crate::repair::plan::step::{Entries, Step};
use crate::repair::plan::stored;
use crate::storage::Storage;

/// Plans them.
pub fn plan(storage: &dyn Storage, survey: &Survey, quarantine: &Quarantine) -> Result<Vec<Step>> {
    let known = Known { storage, survey, quarantine, counts: stored::Counts::of(&storage, survey) };
    let damaged = survey.report.findings.iter().filter(|finding| finding.is_damaged_entry());
    let damaged: Vec<_> = damaged.collect();
    if damaged.is_empty() {
        return Ok(Vec::new());
    }
    let tables = Tables::of(survey);
    let twice: HashSet<HostOffset> =
        survey.report.findings.iter().filter_map(table_twice).collect();
    let mut crossed = Crossed::default();
    let mut seen = HashSet::new();
    let mut steps = l1_entries(&known, &tables)?;
    for finding in damaged {
        let Place::L2(source, l1, l2) = finding.place else { continue };
        let Some(table) = tables.get(source, l1) else { continue };
        let at = pointers::l2_entry(survey, table, l2);
        // Below a pointer that may be wrong nothing is.
        let usable = pointers::is_l2_table(survey, table) && !twice.contains(&table);
        if !usable || !seen.insert(at) {
            continue;
        }
        let crossed = crossed.of(&known, table)?;
        let (times, is_active) = (tables.times(table), source == Source::Active);
        let spot = Spot { at, times, is_active, crossed };
        steps.extend(l2_entry(&known, &spot, vec![finding.code()])?);
    }
    Ok(steps)
}

/// The evidence about entries.
struct Known<'a> {
    storage: &'a dyn Storage,
    survey: &'a Survey,
    quarantine: &'a Quarantine,
    counts: stored::Counts<'a>,
}

impl Known<'_> {
    /// The references that a cluster's refcount proves: one that the repair raised proves none.
    fn proven_count(&self, cluster: HostCluster) -> Result<u64> {
        if self.quarantine.is_raised(cluster) {
            return Ok(0);
        }
        self.counts.get(cluster)
    }

    /// Whether no cluster can be missing its reference: none is leaked, and every refcount can be
    /// relied on.
    fn misses_nothing(&self) -> bool {
        let survey = self.survey;
        survey.report.tally.leaks == 0
            && !survey.too_low
            && survey.uncounted.is_empty()
            && self.quarantine.trusts_counts()
    }
}

/// The clusters of an L2 table that are shared by mistake; of the table that was requested last,
/// since findings come table by table.
#[derive(Default)]
struct Crossed {
    table: HostOffset,
    clusters: Vec<HostCluster>,
}

impl Crossed {
    fn of(&mut self, known: &Known, table: HostOffset) -> Result<&[HostCluster]> {
        let quarantine = known.quarantine;
        if table != self.table && !quarantine.crossed().is_empty() {
            let data = cross_links::data_of(&known.storage, known.survey, table)?.into_iter();
            let clusters = data.filter(|&cluster| quarantine.is_crossed(cluster)).collect();
            *self = Self { table, clusters };
        }
        Ok(&self.clusters)
    }
}

/// Where an L2 entry is.
struct Spot<'a> {
    at: HostOffset,
    /// L1 entries that point to the table.
    times: u64,
    /// Whether the active disk has it: in a snapshot's table COPIED means nothing.
    is_active: bool,
    /// Clusters of the table that are shared by mistake.
    crossed: &'a [HostCluster],
}

impl Spot<'_> {
    /// Whether other clusters of the table than this entry's are shared by mistake: then it may be
    /// another position's.
    fn is_crossed(&self, geometry: &Geometry, entry: L2Entry) -> bool {
        // What begins in the middle of a cluster reaches into the next one.
        let (first, count) = geometry.span(entry.offset(), geometry.cluster_bytes());
        self.crossed.iter().any(|at| !(first..first + count).contains(at))
    }
}

/// The L2 table that a finding reports at several guest positions.
const fn table_twice(finding: &Finding) -> Option<HostOffset> {
    match finding.kind {
        Kind::L2TableTwice { table, .. } => Some(table),
        _ => None,
    }
}

/// The L1 entries that may have pointed to a lost table.
fn slots(finding: &Finding) -> &[(Source, L1Index)] {
    match &finding.kind {
        Kind::OrphanTable(orphan) => &orphan.slots,
        _ => &[],
    }
}

/// L1 entries without their reserved bits, where nothing else refers to their tables.
fn l1_entries(known: &Known, tables: &Tables) -> Result<Vec<Step>> {
    let survey = known.survey;
    let what = ["an L1 entry without reserved bits", "L1 entries without reserved bits"];
    let mut entries = Entries::new(what);
    let findings = &survey.report.findings;
    // Where a lost table may belong there is another value.
    let owned: HashSet<_> = findings.iter().flat_map(slots).copied().collect();
    let mut add = |source, index, value| {
        if !owned.contains(&(source, index)) {
            let at = pointers::l1_entry(survey, source, index);
            at.into_iter().for_each(|at| entries.push(at, value, L1_RESERVED_BITS.code));
        }
    };
    // Those without an offset.
    for finding in findings.iter().filter(|_| known.misses_nothing()) {
        if let (Kind::L1Reserved(bits), Place::L1(source, index)) = (&finding.kind, finding.place) {
            if L1Entry(*bits).offset().get() == 0 {
                add(source, index, 0);
            }
        }
    }
    for Visit { source, index, entry } in &survey.visits {
        if entry.has_reserved_bits() && is_certain_table(known, tables, entry.offset())? {
            add(source, index, entry.offset().get() | entry.0 & COPIED);
        }
    }
    Ok(entries.into_steps())
}

/// Whether this is an L2 table for sure, to which nothing but L1 entries refers.
fn is_certain_table(known: &Known, tables: &Tables, table: HostOffset) -> Result<bool> {
    let survey = known.survey;
    let in_file = table.get() < survey.file_bytes;
    let Some(cluster) = survey.area.geometry.cluster_exact(table).filter(|_| in_file) else {
        return Ok(false);
    };
    Ok(survey.map.get(cluster) == tables.times(table)
        && !survey.garbage.contains(&table)
        && known.counts.get(cluster)? > 0)
}

/// An L2 entry as it must have been, where that is certain.
fn l2_entry(known: &Known, spot: &Spot, fixes: Vec<&'static str>) -> Result<Option<Step>> {
    let survey = known.survey;
    let geometry = &survey.area.geometry;
    let entry = pointers::read_l2_entry(&known.storage, survey, spot.at)?;
    if spot.is_crossed(geometry, entry) {
        return Ok(None);
    }
    let right = without_defects(survey, entry);
    // Of an entry in which more is wrong, the zero flag need not be right, and a backing file shows
    // the difference.
    let is_plain = entry.bits & L2Entry::RESERVED == 0 || survey.area.backing_name.is_none();
    // Noise has any offset: nothing of what it replaced is left in it.
    let in_file = entry.offset().get() < survey.file_bytes;
    let none = is_misplaced(survey, entry) && is_plain && in_file && known.misses_nothing();
    for right in [Some(right), none.then(|| right.without_cluster())].into_iter().flatten() {
        if right != entry && is_certain(known, entry, right, spot)? {
            let bytes = right.encode(geometry);
            let what = "an L2 entry without what is wrong in it";
            return Ok(Some(Step::bytes(spot.at, bytes, what, fixes)));
        }
    }
    Ok(None)
}

/// Whether an entry reads as zeroes, and its host offset is in the middle of a cluster.
fn is_misplaced(survey: &Survey, entry: L2Entry) -> bool {
    let geometry = &survey.area.geometry;
    let is_zero =
        if geometry.extended_l2() { entry.allocated() == 0 } else { entry.bits & ZERO != 0 };
    let within = entry.bits & OFFSET_MASK & (geometry.cluster_bytes() - 1);
    !entry.is_compressed() && is_zero && within != 0
}

/// The entry with reserved bits clear, an offset at the start of a cluster, and without what
/// compressed clusters cannot have.
fn without_defects(survey: &Survey, entry: L2Entry) -> L2Entry {
    let geometry = &survey.area.geometry;
    if entry.is_compressed() {
        return L2Entry { bits: entry.bits & !COPIED, bitmap: 0 };
    }
    let zero = if geometry.extended_l2() { ZERO } else { 0 };
    let within = geometry.cluster_bytes() - 1;
    let allocated = entry.bits & OFFSET_MASK & !within != 0;
    let offset = if allocated { within & OFFSET_MASK } else { 0 };
    L2Entry { bits: entry.bits & !(L2Entry::RESERVED | zero | offset), ..entry }
}

/// Whether what is left shows where its data is: in clusters whose refcounts include this
/// reference.
fn is_certain(known: &Known, entry: L2Entry, right: L2Entry, spot: &Spot) -> Result<bool> {
    let survey = known.survey;
    let geometry = &survey.area.geometry;
    let data_file = survey.area.header.has_data_file();
    let in_file = |offset: HostOffset| offset.get() < survey.file_bytes;
    match right.meaning(geometry, data_file) {
        // In an external data file nothing is leaked.
        Meaning::Unallocated | Meaning::Zero if data_file => {
            Ok((entry.bits ^ right.bits).count_ones() == 1)
        }
        // Without an offset nothing shows whether there was one: then nothing may be missing.
        Meaning::Unallocated => Ok(right.allocated() == 0 && known.misses_nothing()),
        Meaning::Zero => Ok(known.misses_nothing()),
        Meaning::Data(at) | Meaning::ZeroAllocated(at) if data_file => {
            Ok(entry.offset() == at && geometry.is_aligned(at))
        }
        Meaning::Data(at) | Meaning::ZeroAllocated(at) => is_certain_data(known, entry, spot, at),
        Meaning::Compressed(extent) => {
            if data_file || !in_file(extent.offset.saturating_add(extent.bytes.saturating_sub(1))) {
                return Ok(false);
            }
            if entry.bitmap == 0 {
                return Ok(true); // Counted as it is.
            }
            let (first, count) = geometry.span(extent.offset, extent.bytes);
            allow(known, first..first + count, spot.times)
        }
    }
}

/// Whether the refcount of the cluster there includes this entry's reference.
fn is_certain_data(known: &Known, entry: L2Entry, spot: &Spot, at: HostOffset) -> Result<bool> {
    let (survey, times) = (known.survey, spot.times);
    let geometry = &survey.area.geometry;
    let in_file = at.get() < survey.file_bytes;
    // Nothing can be read through an entry into the middle of a cluster, and a repair's check does
    // not count one.
    let within = entry.bits & OFFSET_MASK & (geometry.cluster_bytes() - 1);
    let is_unaligned = within != 0;
    let Some(cluster) = geometry.cluster_exact(at).filter(|_| in_file) else {
        return Ok(false);
    };
    // A repair raises refcounts of metadata too, and such a refcount does not include this entry;
    // nor does that of a lost table.
    let is_metadata = survey.regions.touching(cluster..cluster.next()).next().is_some();
    // No program puts compressed clusters into one that a guest cluster has to itself.
    let is_compressed = survey.compressed.get(cluster) > 0;
    if is_metadata || is_compressed || survey.claims.get(cluster) > 0 {
        return Ok(false);
    }
    // One wrong bit is proof where COPIED agrees; more only where no other cluster is missing a
    // reference.
    let is_one_bit = spot.is_active && within.count_ones() <= 1;
    if within != 0 && !is_one_bit && survey.report.tally.leaks > 1 {
        return Ok(false);
    }
    // What another position of the disk refers to is not this one's, whatever refcount a repair
    // gave it.
    if survey.active.get(cluster) > u64::from(!is_unaligned) {
        return Ok(false);
    }
    // The refcount includes this entry's reference; or there is no other.
    let references = survey.map.get(cluster);
    let stored = known.proven_count(cluster)?;
    if spot.is_active && entry.copied() != (stored == 1) {
        return Ok(false);
    }
    let own = if is_unaligned { times } else { 0 };
    let is_alone = references + own == times && !is_misplaced(survey, entry);
    Ok(stored == references + own || is_alone && stored > times)
}

/// Whether the refcounts of these clusters allow for so many more references.
fn allow(known: &Known, clusters: Range<HostCluster>, times: u64) -> Result<bool> {
    let mut at = clusters.start;
    while at < clusters.end {
        if known.proven_count(at)? < known.survey.map.get(at) + times {
            return Ok(false);
        }
        at = at.next();
    }
    Ok(true)
}
