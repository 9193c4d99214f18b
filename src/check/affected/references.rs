//! Which L2 entries point to given clusters: a second, targeted walk, for suspicious clusters only.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check::survey::mapping::MANY_BYTES;
use crate::check::{Survey, parallel};
use crate::format::l2::{L2Entry, Meaning};
use crate::format::{ClusterCount, HostCluster, HostOffset, L2Index};
use crate::storage::ReadAt;

/// An L2 entry that points to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The position of its table.
    pub table: HostOffset,
    /// L1 entries that point to the table.
    pub times: u64,
    /// Which entry.
    pub index: L2Index,
    /// The entry.
    pub entry: L2Entry,
    /// The first cluster that it points to.
    pub first: HostCluster,
    /// How many clusters: more than one where compressed data crosses a border.
    pub count: ClusterCount,
}

/// The entries of all tables that point to one of these clusters, by table and entry.
/// Tables that cannot be read, are past the end or do not begin at a cluster have none.
pub fn find(source: &dyn ReadAt, survey: &Survey, wanted: &HashSet<HostCluster>) -> Vec<Owner> {
    find_first(source, survey, wanted, usize::MAX)
}

/// The first of these, at most so many.
pub fn find_first(
    source: &dyn ReadAt,
    survey: &Survey,
    wanted: &HashSet<HostCluster>,
    most: usize,
) -> Vec<Owner> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let geometry = &survey.area.geometry;
    let is_read =
        |table: &HostOffset| geometry.is_aligned(*table) && table.get() < survey.file_bytes;
    let tables = survey.visits.iter().map(|visit| visit.entry.offset());
    let mut tables: Vec<HostOffset> = tables.filter(is_read).collect();
    tables.sort_unstable();
    let tables: Vec<(HostOffset, u64)> =
        tables.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64)).collect();
    let bytes = geometry.cluster_bytes();
    let many = tables.len() as u64 * bytes > MANY_BYTES;
    let is_full = AtomicBool::new(false);
    let look = |buffer: &mut Vec<u8>, number: usize| {
        let (table, times) = tables[number];
        if is_full.load(Ordering::Relaxed) || many && source.is_hole(table.get(), bytes) {
            return Vec::new();
        }
        buffer.resize(geometry.cluster_len(), 0);
        match source.read_padded_at(table.get(), buffer) {
            Ok(()) => in_table(survey, buffer, table, times, wanted),
            Err(_) => Vec::new(),
        }
    };
    let mut found = Vec::new();
    parallel::for_each(parallel::threads(0), tables.len(), Vec::new, look, |owners| {
        found.extend(owners.into_iter().take(most - found.len()));
        is_full.store(found.len() == most, Ordering::Relaxed);
    });
    found
}

fn in_table(
    survey: &Survey,
    bytes: &[u8],
    table: HostOffset,
    times: u64,
    wanted: &HashSet<HostCluster>,
) -> Vec<Owner> {
    let geometry = &survey.area.geometry;
    let data_file = survey.area.header.has_data_file();
    let entries = (0u32..).zip(bytes.chunks_exact(geometry.l2_entry_bytes()));
    let owner = |(index, bytes): (u32, &[u8])| {
        let entry = L2Entry::decode(bytes);
        let (first, count) = match entry.meaning(geometry, data_file) {
            Meaning::Data(at) | Meaning::ZeroAllocated(at) => {
                (geometry.cluster_exact(at)?, ClusterCount::new(1))
            }
            Meaning::Compressed(extent) => geometry.span(extent.offset, extent.bytes),
            Meaning::Unallocated | Meaning::Zero => return None,
        };
        let points_there = |n| wanted.contains(&(first + ClusterCount::new(n)));
        let index = L2Index::new(index);
        (0..count.get()).any(points_there).then_some(Owner {
            table,
            times,
            index,
            entry,
            first,
            count,
        })
    };
    if data_file { Vec::new() } else { entries.filter_map(owner).collect() }
}
