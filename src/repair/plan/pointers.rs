//! Where pointers are, and whether a repair may write there: only into clusters that are one
//! structure's alone.

use std::cell::OnceCell;

use crate::check::{Finding, Kind, RegionKind, Source, Survey, Visits};
use crate::error::{Error, Result};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::l1::L1Entry;
use crate::format::l2::L2Entry;
use crate::format::{HostCluster, HostOffset, L1Index, L2Index};
use crate::storage::{Capacity, ReadAt};

/// Whether this is an L2 table and nothing else, so that it may be written. A pointer that is
/// reported as wrong makes no claim; a table in which most entries are damaged is not one.
pub fn is_l2_table(survey: &Survey, table: HostOffset) -> bool {
    let Some(cluster) = survey.area.geometry.cluster_exact(table) else { return false };
    let pointers = survey.regions.l2_pointers(cluster);
    let wrong = survey.regions.wrong_claims(cluster);
    pointers > 0
        && survey.map.get(cluster) == pointers + wrong
        && !survey.garbage.contains(&table)
        && is_all(survey, cluster, |kind| kind == RegionKind::L2Table)
}

/// Whether this is an L2 table, though pointers to guest data may refer to it: so that those can be
/// redirected.
pub fn is_l2_table_under_data(survey: &Survey, table: HostOffset) -> bool {
    let Some(cluster) = survey.area.geometry.cluster_exact(table) else { return false };
    survey.regions.l2_pointers(cluster) > 0
        && !survey.garbage.contains(&table)
        && is_all(survey, cluster, |kind| kind == RegionKind::L2Table)
}

/// Whether this is one refcount block, whatever data pointers claim.
pub fn is_refblock(survey: &Survey, block: HostOffset) -> bool {
    let Some(cluster) = survey.area.geometry.cluster_exact(block) else { return false };
    let here = survey.regions.touching(cluster..cluster.next()).filter(|region| !region.told);
    let pointers = here.filter(|region| region.kind == RegionKind::Refblock).map(|r| r.pointers);
    pointers.sum::<u64>() == 1
}

/// Whether more than one pointer refers to the cluster there.
pub fn is_shared(survey: &Survey, at: HostOffset) -> bool {
    survey.map.get(survey.area.geometry.cluster_floor(at)) > 1
}

/// Whether the active L1 table's clusters have no other referrer: a flag that is corrected there
/// must not change what somebody reads as data.
pub fn is_undisputed_l1(survey: &Survey) -> bool {
    let kind = RegionKind::L1Table(Source::Active);
    survey.regions.iter().filter(|r| r.kind == kind).all(|region| {
        let mut alone = true;
        survey.map.for_each_run(region.first..region.end(), |_, _, n| alone &= n == 1);
        alone
    })
}

/// Whether all structures in a cluster, without those whose pointer is reported as wrong, are of a
/// kind.
fn is_all(survey: &Survey, cluster: HostCluster, is: impl Fn(RegionKind) -> bool) -> bool {
    let mut here = survey.regions.touching(cluster..cluster.next());
    here.all(|region| region.told || is(region.kind))
}

/// Where an L1 entry is, unless something else is there too.
pub fn l1_entry(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    let offset = disputed_l1_entry(survey, source, index)?;
    let cluster = survey.area.geometry.cluster_floor(offset);
    (survey.map.get(cluster) == 1).then_some(offset)
}

/// Where an L1 entry is, whatever else but the header claims its cluster: the header and the
/// snapshot table show that it is an L1 table's.
pub fn disputed_l1_entry(survey: &Survey, source: Source, index: L1Index) -> Option<HostOffset> {
    let table = match source {
        Source::Active => survey.area.header.l1_table,
        Source::Snapshot(index) => survey.snapshots.entries.get(index as usize)?.header.l1_table,
    };
    let offset = table.saturating_add(u64::from(index.get()) * TABLE_ENTRY_BYTES);
    let cluster = survey.area.geometry.cluster_floor(offset);
    let here =
        |kind| survey.regions.touching(cluster..cluster.next()).any(|region| region.kind == kind);
    (here(RegionKind::L1Table(source)) && !here(RegionKind::Header)).then_some(offset)
}

/// How far the file may grow: were it longer, what is missing past its end would read as zeroes,
/// and nothing would show the loss.
pub fn growth(survey: &Survey, capacity: Capacity) -> Capacity {
    let geometry = &survey.area.geometry;
    let bytes = geometry.cluster_bytes();
    let whole = survey.file_bytes / bytes * bytes;
    let is_cut = |f: &Finding| matches!(f.kind, Kind::CutOff { .. });
    // Of a snapshot table that cannot be read nothing but its beginning is known.
    let unread = survey.snapshots.problem.is_some();
    let snapshots = unread.then(|| geometry.cluster_floor(survey.area.header.snapshot_table));
    match survey.beyond.first().into_iter().chain(snapshots).min() {
        _ if capacity != Capacity::Growable => capacity,
        _ if survey.report.findings.iter().any(is_cut) => Capacity::Fixed(whole),
        Some(missing) => {
            // With less than a cluster missing, no pointer is reported to point past the end.
            let most = geometry.offset_of(missing).get().saturating_sub(bytes);
            Capacity::Fixed(most.max(whole))
        }
        None => capacity,
    }
}

/// The L2 tables by the L1 entries that point to them, and how many point to each.
#[derive(Debug)]
pub struct Tables<'a> {
    visits: &'a Visits,
    /// The offsets in the entries in ascending order, once they were counted.
    sorted: OnceCell<Vec<HostOffset>>,
}

impl<'a> Tables<'a> {
    /// Those of an image.
    pub fn of(survey: &'a Survey) -> Self {
        Self { visits: &survey.visits, sorted: OnceCell::new() }
    }

    /// The table that an L1 entry points to.
    pub fn get(&self, source: Source, index: L1Index) -> Option<HostOffset> {
        self.visits.find(source, index).map(L1Entry::offset)
    }

    /// How many L1 entries point to a table.
    pub fn times(&self, table: HostOffset) -> u64 {
        let sorted = self.sorted.get_or_init(|| {
            let mut offsets: Vec<_> = self.visits.iter().map(|v| v.entry.offset()).collect();
            offsets.sort_unstable();
            offsets
        });
        let first = sorted.partition_point(|&offset| offset < table);
        sorted[first..].partition_point(|&offset| offset == table) as u64
    }
}

/// Where an entry of a table is.
pub fn l2_entry(survey: &Survey, table: HostOffset, index: L2Index) -> HostOffset {
    let entry_bytes = survey.area.geometry.l2_entry_bytes() as u64;
    table.saturating_add(u64::from(index.get()) * entry_bytes)
}

/// Reads the entry of an L2 table at this offset.
pub fn read_l2_entry(source: &dyn ReadAt, survey: &Survey, at: HostOffset) -> Result<L2Entry> {
    let mut bytes = vec![0; survey.area.geometry.l2_entry_bytes()];
    let failed = |e| Error::io("read an L2 entry", at.get(), e);
    source.read_padded_at(at.get(), &mut bytes).map_err(failed)?;
    Ok(L2Entry::decode(&bytes))
}
