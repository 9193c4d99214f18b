//! Which bytes of the file a finding is about: those of the field or entry that is wrong, for views
//! that show a file.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::check::Survey;
use crate::check::report::{Finding, Kind, Place, Source};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::header::HeaderField;
use crate::format::{HostOffset, L1Index};
use crate::storage::ReadAt;
use crate::tables::BitmapDirectory;

/// Bytes by finding, in the order of the report; none where they are not known or not in the file.
pub(super) fn find(source: &dyn ReadAt, survey: &Survey) -> Vec<Option<Range<u64>>> {
    let spots = Spots::new(source, survey);
    survey.report.findings.iter().map(|finding| spots.of(finding)).collect()
}

/// What it takes to find entries.
pub struct Spots<'a> {
    survey: &'a Survey,
    /// The L2 tables in whose entries something was found.
    tables: HashMap<(Source, L1Index), HostOffset>,
    /// The entries of the snapshot table and of the bitmap directory.
    snapshots: Vec<Range<u64>>,
    bitmaps: Vec<Range<u64>>,
}

impl<'a> Spots<'a> {
    /// Looks the places of entries up that findings name.
    pub fn new(source: &dyn ReadAt, survey: &'a Survey) -> Self {
        let findings = &survey.report.findings;
        let below = |finding: &Finding| match finding.place {
            Place::L2(source, l1, _) => Some((source, l1)),
            _ => None,
        };
        let wanted: HashSet<(Source, L1Index)> = findings.iter().filter_map(below).collect();
        let visits = survey.visits.iter().filter(|_| !wanted.is_empty());
        let tables = visits
            .map(|visit| ((visit.source, visit.index), visit.entry.offset()))
            .filter(|(slot, _)| wanted.contains(slot))
            .collect();
        let has_bitmaps = findings.iter().any(|f| matches!(f.place, Place::Bitmap(_)));
        let bitmaps = if has_bitmaps { bitmaps(source, survey) } else { Vec::new() };
        Self { survey, tables, snapshots: snapshots(survey), bitmaps }
    }

    /// The bytes that a finding is about, as far as they are in the file.
    fn of(&self, finding: &Finding) -> Option<Range<u64>> {
        // Here what is wrong is not the entry but what it points to.
        let is_data = matches!(
            finding.kind,
            Kind::Unreadable { .. }
                | Kind::CompressedData { .. }
                | Kind::CompressedOverlap { .. }
                | Kind::DataUnreadable { external: false, .. }
        );
        let entry = || self.entry(finding.place).and_then(|range| self.in_file(range));
        let data = || self.clusters(finding).and_then(|range| self.in_file(range));
        if is_data { data().or_else(entry) } else { entry().or_else(data) }
    }

    /// What of a range is in the file.
    fn in_file(&self, range: Range<u64>) -> Option<Range<u64>> {
        let range = range.start..range.end.min(self.survey.file_bytes);
        (!range.is_empty()).then_some(range)
    }

    fn clusters(&self, finding: &Finding) -> Option<Range<u64>> {
        let (first, count) = self.survey.report.clusters(finding)?;
        let bytes = self.survey.report.geometry.cluster_bytes();
        let start = first.checked_mul(bytes)?;
        Some(start..start.saturating_add(count.get().saturating_mul(bytes)))
    }

    /// The field, entry or table that a place means, in the file or not.
    pub fn entry(&self, place: Place) -> Option<Range<u64>> {
        let (area, header) = (&self.survey.area, &self.survey.area.header);
        let (at, bytes) = match place {
            Place::Header(offset) => (offset, self.field(offset)),
            Place::SnapshotTable => (header.snapshot_table.get(), self.survey.snapshots.bytes),
            Place::Snapshot(index) => return nth(&self.snapshots, index),
            Place::L1Table(source) => {
                let (table, entries) = self.l1_table(source)?;
                (table.get(), u64::from(entries).saturating_mul(TABLE_ENTRY_BYTES))
            }
            Place::L1(source, index) => {
                let (table, _) = self.l1_table(source)?;
                (entry_at(table, u64::from(index.get()), TABLE_ENTRY_BYTES)?, TABLE_ENTRY_BYTES)
            }
            Place::L2(source, l1, l2) => {
                let bytes = area.geometry.l2_entry_bytes() as u64;
                let table = *self.tables.get(&(source, l1))?;
                (entry_at(table, u64::from(l2.get()), bytes)?, bytes)
            }
            Place::Reftable => {
                let clusters = u64::from(header.reftable_clusters);
                (header.reftable.get(), clusters.saturating_mul(area.geometry.cluster_bytes()))
            }
            Place::Refblock(index) => {
                (entry_at(header.reftable, index.get(), TABLE_ENTRY_BYTES)?, TABLE_ENTRY_BYTES)
            }
            Place::CryptoHeader => {
                let crypto = area.crypto_header()?;
                (crypto.offset.get(), crypto.length)
            }
            Place::BitmapDirectory => {
                let bitmaps = area.bitmaps()?;
                (bitmaps.directory.get(), bitmaps.directory_bytes)
            }
            Place::Bitmap(index) => return nth(&self.bitmaps, index),
            Place::Clusters(..) | Place::Disk(_) => return None,
        };
        Some(at..at.saturating_add(bytes))
    }

    /// How many bytes the field or an extension's data at this offset has; one where it is neither.
    fn field(&self, offset: u64) -> u64 {
        let field = HeaderField::ALL.iter().map(|field| field.place()).find(|f| f.0 == offset);
        let extension = self.survey.area.extensions.iter().find(|e| e.offset == offset);
        match (field, extension) {
            (Some((_, width)), _) => width as u64,
            (None, Some(extension)) => (extension.data.len() as u64).max(1),
            (None, None) => 1,
        }
    }

    fn l1_table(&self, source: Source) -> Option<(HostOffset, u32)> {
        match source {
            Source::Active => {
                let header = &self.survey.area.header;
                Some((header.l1_table, header.l1_entries))
            }
            Source::Snapshot(index) => {
                let entry = self.survey.snapshots.entries.get(usize::try_from(index).ok()?)?;
                Some((entry.header.l1_table, entry.header.l1_entries))
            }
        }
    }
}

fn nth(ranges: &[Range<u64>], index: u32) -> Option<Range<u64>> {
    ranges.get(usize::try_from(index).ok()?).cloned()
}

/// The position of an entry of a table.
fn entry_at(table: HostOffset, index: u64, bytes: u64) -> Option<u64> {
    table.get().checked_add(index.checked_mul(bytes)?)
}

fn snapshots(survey: &Survey) -> Vec<Range<u64>> {
    let mut at = survey.area.header.snapshot_table.get();
    let entries = survey.snapshots.entries.iter();
    entries
        .map(|entry| {
            let start = at;
            let end = start.saturating_add(entry.header.entry_bytes());
            // Entries begin at multiples of 8 bytes from the table's beginning.
            at = start.saturating_add(entry.header.entry_bytes().next_multiple_of(8));
            start..end
        })
        .collect()
}

/// The directory is read again: a check keeps nothing of it.
fn bitmaps(source: &dyn ReadAt, survey: &Survey) -> Vec<Range<u64>> {
    let Some(extension) = survey.area.bitmaps() else { return Vec::new() };
    let directory = BitmapDirectory::load(source, &extension).unwrap_or_default();
    let mut at = extension.directory.get();
    let entries = directory.entries.iter();
    entries
        .map(|entry| {
            let start = at;
            at = start.saturating_add(entry.entry_bytes());
            start..at
        })
        .collect()
}
