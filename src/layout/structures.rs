//! Every table of an image with its place and size.

use std::collections::HashMap;

use crate::check::{RegionKind, Source, Survey, Visit};
use crate::format::bitmap::BitmapEntry;
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::{Geometry, HostCluster, HostOffset};
use crate::storage::ReadAt;
use crate::tables::BitmapDirectory;

/// A table, as the header or another table refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its position by the pointer.
    pub offset: HostOffset,
    /// Its bytes by the pointer.
    pub bytes: u64,
    /// How many entries that are.
    pub entries: u64,
    /// How many of them lead somewhere, as far as they could be read.
    pub used: u64,
}

/// A bitmap's table and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitmapPlace {
    /// Its name.
    pub name: String,
    /// Its table; entries in use are those with data.
    pub table: Table,
}

/// The tables of an image.
pub struct Structures<'a> {
    survey: &'a Survey,
    /// The refcount table.
    pub reftable: Table,
    /// The active L1 table and those of the snapshots, in the order of the snapshot table.
    pub l1_tables: Vec<(Source, Table)>,
    /// The snapshot table, where there is one.
    pub snapshots: Option<Table>,
    /// The encryption header, where there is one.
    pub crypto: Option<(HostOffset, u64)>,
    /// The bitmap directory, where there is one.
    pub directory: Option<Table>,
    /// The bitmaps, in the order of the directory.
    pub bitmaps: Vec<BitmapPlace>,
}

impl<'a> Structures<'a> {
    /// The tables of an image that was checked.
    pub fn of(source: &dyn ReadAt, survey: &'a Survey) -> Self {
        let header = &survey.area.header;
        let cluster_bytes = survey.area.geometry.cluster_bytes();
        let bytes = u64::from(header.reftable_clusters) * cluster_bytes;
        let (entries, blocks) = (bytes / TABLE_ENTRY_BYTES, &survey.refcounts.blocks);
        let reftable = Table { offset: header.reftable, bytes, entries, used: blocks.len() as u64 };
        let snapshots = (header.snapshot_count > 0).then(|| Table {
            offset: header.snapshot_table,
            bytes: survey.snapshots.bytes,
            entries: header.snapshot_count.into(),
            used: survey.snapshots.entries.len() as u64,
        });
        let crypto = survey.area.crypto_header().map(|crypto| (crypto.offset, crypto.length));
        let mut structures = Self {
            survey,
            reftable,
            l1_tables: l1_tables(survey),
            snapshots,
            crypto,
            directory: None,
            bitmaps: Vec::new(),
        };
        structures.load_bitmaps(source);
        structures
    }

    fn load_bitmaps(&mut self, source: &dyn ReadAt) {
        let Some(pointer) = self.survey.area.bitmaps() else { return };
        let loaded = BitmapDirectory::load(source, &pointer).unwrap_or_default();
        let mut data: HashMap<u32, u64> = HashMap::new();
        for region in self.survey.regions.iter() {
            if let RegionKind::BitmapData(index) = region.kind {
                *data.entry(index).or_default() += 1;
            }
        }
        let place = |(index, entry): (u32, &BitmapEntry)| {
            let used = data.get(&index).copied().unwrap_or(0);
            let entries = u64::from(entry.table_entries);
            let table =
                Table { offset: entry.table, bytes: entries * TABLE_ENTRY_BYTES, entries, used };
            BitmapPlace { name: entry.name_text(), table }
        };
        self.bitmaps = (0u32..).zip(&loaded.entries).map(place).collect();
        self.directory = Some(Table {
            offset: pointer.directory,
            bytes: pointer.directory_bytes,
            entries: pointer.count.into(),
            used: self.bitmaps.len() as u64,
        });
    }

    /// The entries of an L1 table that lead somewhere, in order.
    pub fn visits(&self, source: Source) -> impl Iterator<Item = Visit> + 'a {
        self.survey.visits.of(source)
    }
}

fn l1_tables(survey: &Survey) -> Vec<(Source, Table)> {
    let header = &survey.area.header;
    let active = (Source::Active, header.l1_table, header.l1_entries);
    let entries = (0u32..).zip(&survey.snapshots.entries);
    let snapshots =
        entries.map(|(i, e)| (Source::Snapshot(i), e.header.l1_table, e.header.l1_entries));
    let used = |source: Source| survey.visits.positions(source).len() as u64;
    let table = |(source, offset, entries): (Source, HostOffset, u32)| {
        let entries = u64::from(entries);
        let bytes = entries * TABLE_ENTRY_BYTES;
        (source, Table { offset, bytes, entries, used: used(source) })
    };
    std::iter::once(active).chain(snapshots).map(table).collect()
}

/// Tables that are next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRun {
    /// Where the first one begins.
    pub offset: HostOffset,
    /// How many there are.
    pub tables: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

/// The tables of a kind in the order of the file, neighbours as one.
pub fn runs<'a>(
    survey: &'a Survey,
    is_wanted: impl Fn(RegionKind) -> bool + 'a,
) -> impl Iterator<Item = TableRun> + 'a {
    let geometry: Geometry = survey.area.geometry;
    let mut regions = survey.regions.iter().filter(move |r| is_wanted(r.kind)).peekable();
    std::iter::from_fn(move || {
        let region = regions.next()?;
        let (first, mut end, mut tables): (HostCluster, _, _) = (region.first, region.end(), 1);
        while let Some(next) = regions.next_if(|next| next.first <= end) {
            end = end.max(next.end());
            tables += 1;
        }
        let bytes = geometry.bytes_of(end - first);
        Some(TableRun { offset: geometry.offset_of(first), tables, bytes })
    })
}
