//! L1 tables among what was sighted, once the cluster size is known.

use std::collections::BTreeSet;
use std::io;

use super::basis::Search;
use super::scan::Sightings;
use super::shape::{self, SECTOR_BYTES, SECTOR_WORDS, Shape};
use crate::check::lost::reftable::Reftable;
use crate::format::geometry::MIN_EXTENDED_L2_CLUSTER_BITS;
use crate::format::l1::{L1Entry, MAX_L1_BYTES};
use crate::format::{Geometry, HostCluster, HostOffset, decode_entries};
use crate::storage::ReadAt;

/// L2 tables that are looked at to find which kind of entries they have.
const PROBED: usize = 8;

/// An L1 table, perhaps of former times or of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L1Table {
    /// Its offset.
    pub offset: HostOffset,
    /// Entries up to the last one that points to a table.
    pub used: u32,
    /// Entries with COPIED.
    pub copied: u32,
    /// Whether its L2 tables have subclusters.
    pub extended: bool,
}

/// The L1 tables with clusters of this size, those of the active disk most likely first. Clusters
/// that the refcounts call free have none.
pub fn tables(
    search: &Search,
    geometry: &Geometry,
    sightings: &Sightings,
    counts: Option<&Reftable>,
) -> io::Result<Vec<L1Table>> {
    let source = search.source;
    let cluster = |&at: &u64| geometry.cluster_floor(HostOffset::new(at));
    let sighted: BTreeSet<_> = sightings.l1_sectors.iter().map(cluster).collect();
    let mut found = Vec::new();
    for &first in &sighted {
        // A table of several clusters is found once, from its beginning.
        let behind = first
            .get()
            .checked_sub(1)
            .is_some_and(|before| sighted.contains(&crate::format::HostCluster::new(before)));
        let free = match counts {
            Some(counts) => counts.count(source, first)? == 0,
            None => false,
        };
        if free || first.get() == 0 {
            continue;
        }
        let tables = table(search, geometry, first, &sighted)?;
        found.extend(tables.into_iter().map(|table| (behind, table)));
    }
    found.sort_by_key(|(behind, table)| {
        (*behind, std::cmp::Reverse((table.copied, table.used)), table.offset)
    });
    Ok(found.into_iter().map(|(_, table)| table).collect())
}

/// Reads a table from its beginning as far as there are entries that can be one's. Another table
/// may come after it, so that its first cluster comes as a table by itself, too.
fn table(
    search: &Search,
    geometry: &Geometry,
    first: HostCluster,
    sighted: &BTreeSet<HostCluster>,
) -> io::Result<Vec<L1Table>> {
    let offset = geometry.offset_of(first);
    let source = search.source;
    let end = source.len()?.next_multiple_of(SECTOR_BYTES);
    let data_end = search.data_end().unwrap_or(end);
    let mut bytes = vec![0; geometry.cluster_len()];
    let mut found = L1Table { offset, used: 0, copied: 0, extended: false };
    let mut index = 0u32;
    let (mut probes, mut alone) = (Vec::new(), None);
    let limit = u32::try_from(MAX_L1_BYTES / 8).unwrap_or(u32::MAX);
    'clusters: while index < limit {
        let at = offset.saturating_add(u64::from(index) * 8);
        if index > 0 && alone.is_none() {
            alone = Some(found);
        }
        // What follows may as well be an L2 table.
        if !sighted.contains(&geometry.cluster_floor(at)) {
            break;
        }
        source.read_padded_at(at.get(), &mut bytes)?;
        let entries = decode_entries(&bytes);
        for bits in entries {
            index += 1;
            let entry = L1Entry(bits);
            if bits == 0 {
                continue;
            }
            let lost = entry.offset().get() == 0 || entry.offset().get() >= end;
            if lost || entry.has_reserved_bits() || entry.is_unaligned(geometry) {
                break 'clusters;
            }
            found.used = index;
            found.copied += u32::from(entry.copied());
            if probes.len() < PROBED {
                probes.push(entry.offset());
            }
        }
    }
    let mut sound = false;
    for at in probes {
        // Others may be damaged, or it is not all one table.
        if let Some(extended) = kind_of_l2(source, geometry, at, data_end)? {
            found.extended |= extended;
            sound = true;
        }
    }
    if !sound {
        return Ok(Vec::new());
    }
    let mut tables: Vec<L1Table> = alone.into_iter().chain([found]).collect();
    tables.dedup_by_key(|table| table.used);
    tables.iter_mut().for_each(|table| table.extended = found.extended);
    tables.retain(|table| table.used > 0);
    Ok(tables)
}

/// Whether an L2 table has subclusters; `None` where it is not one.
fn kind_of_l2(
    source: &dyn ReadAt,
    geometry: &Geometry,
    at: HostOffset,
    end: u64,
) -> io::Result<Option<bool>> {
    let mut bytes = vec![0; geometry.cluster_len()];
    source.read_padded_at(at.get(), &mut bytes)?;
    let mut extended = false;
    for sector in decode_entries(&bytes).chunks_exact(SECTOR_WORDS) {
        match shape::of_sector(sector, end) {
            None => return Ok(None),
            Some(shape) => extended |= shape == Shape::Extended,
        }
    }
    if extended && geometry.cluster_bits() < MIN_EXTENDED_L2_CLUSTER_BITS {
        return Ok(None);
    }
    Ok(Some(extended))
}
