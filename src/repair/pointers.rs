//! Where pointers lie, and whether a repair may write there: only into clusters whose role nobody
//! disputes.

use std::collections::HashMap;

use crate::check::{RegionKind, Source, Survey};
use crate::error::{Error, Result};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l2::L2Entry;
use crate::format::{HostOffset, L1Index, L2Index};
use crate::storage::ReadAt;

/// Whether a cluster of metadata has no other owner, so that it may be written. A pointer that is
/// told to be wrong makes no owner.
pub fn is_undisputed(survey: &Survey, offset: HostOffset) -> bool {
    let Some(cluster) = survey.area.geometry.cluster_exact(offset) else { return false };
    let pointers = survey.regions.pointers(cluster);
    let wrong = survey.regions.wrong_claims(cluster);
    pointers > 0 && survey.map.get(cluster) == pointers + wrong
}

/// Whether the active L1 table's clusters have no other owner: a flag that is mended there must not
/// change what somebody reads as data.
pub fn is_undisputed_l1(survey: &Survey) -> bool {
    let kind = RegionKind::L1Table(Source::Active);
    survey.regions.iter().filter(|r| r.kind == kind).all(|region| {
        let mut alone = true;
        survey.map.for_each_run(region.first..region.end(), |_, _, n| alone &= n == 1);
        alone
    })
}

/// Where an L1 entry lies, unless something else lies there too.
pub fn l1_entry(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    let offset = disputed_l1_entry(survey, source, index)?;
    let cluster = survey.area.geometry.cluster_floor(offset);
    (survey.map.get(cluster) == 1).then_some(offset)
}

/// Where an L1 entry lies, whatever else claims its cluster: the header and the snapshot table say that
/// it is an L1 table's.
pub fn disputed_l1_entry(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    let table = match source {
        Source::Active => survey.area.header.l1_table,
        Source::Snapshot(index) => survey.snapshots.entries.get(index as usize)?.header.l1_table,
    };
    let offset = table.saturating_add(u64::from(index.get()) * TABLE_ENTRY_BYTES);
    let cluster = survey.area.geometry.cluster_floor(offset);
    let mut here = survey.regions.touching(cluster..cluster.next());
    here.any(|region| region.kind == RegionKind::L1Table(source)).then_some(offset)
}

/// The L2 tables by the L1 entries that lead to them, and how many lead to each.
#[derive(Debug)]
pub struct Tables {
    by_place: HashMap<(Source, L1Index), HostOffset>,
    times: HashMap<HostOffset, u64>,
}

impl Tables {
    /// Those of an image.
    pub fn of(survey: &Survey) -> Self {
        let mut tables = Self { by_place: HashMap::new(), times: HashMap::new() };
        for visit in &survey.visits {
            let table = visit.entry.offset();
            tables.by_place.insert((visit.source, visit.index), table);
            *tables.times.entry(table).or_default() += 1;
        }
        tables
    }

    /// The table that an L1 entry leads to.
    pub fn get(&self, source: Source, index: L1Index) -> Option<HostOffset> {
        self.by_place.get(&(source, index)).copied()
    }

    /// How many L1 entries lead to a table.
    pub fn times(&self, table: HostOffset) -> u64 {
        self.times.get(&table).copied().unwrap_or(0)
    }
}

/// Where an entry of a table lies.
pub fn l2_entry(survey: &Survey, table: HostOffset, index: L2Index) -> HostOffset {
    let entry_bytes = survey.area.geometry.l2_entry_bytes() as u64;
    table.saturating_add(u64::from(index.get()) * entry_bytes)
}

/// Reads the entry of an L2 table that lies there.
pub fn read_l2_entry(source: &dyn ReadAt, survey: &Survey, at: HostOffset) -> Result<L2Entry> {
    let mut bytes = vec![0; survey.area.geometry.l2_entry_bytes()];
    let failed = |e| Error::io("read an L2 entry", at.get(), e);
    source.read_padded_at(at.get(), &mut bytes).map_err(failed)?;
    Ok(L2Entry::decode(&bytes))
}
