//! The headers that are tried: the old one with other sizes, and those that point to what was
//! sighted.

use super::basis::{Names, Search, Sizes};
use super::candidate::{Candidate, blank};
use super::judge::Judge;
use super::l1::{self, L1Table};
use super::remains::{settle, with_version};
use super::scan::{self, Sightings};
use crate::check::CheckOptions;
use crate::check::lost::reftable::{self, Reftable};
use crate::error::{Error, Result};
use crate::format::crypto::{CryptMethod, CryptoHeader};
use crate::format::feature::{autoclear, incompatible};
use crate::format::header::Header;
use crate::format::l1::MAX_L1_BYTES;
use crate::format::luks::{LUKS_BYTES, LuksHeader};
use crate::format::{Geometry, HostOffset};
use crate::progress::Progress;
use crate::tables::SnapshotTable;

/// So many of each are tried together.
const MAX_REFTABLES: usize = 6;
const MAX_L1_TABLES: usize = 12;
const MAX_SNAPSHOT_TABLES: usize = 3;
const MAX_LUKS: usize = 4;

/// Tries what is left of the old header, with every cluster size and refcount width for which the
/// refcount table that it names describes itself. With half the cluster size and half the width
/// counts read much the same: where the old sizes fit, only much better ones are taken.
pub fn of_kept(search: &Search, judge: &mut Judge) -> Result<()> {
    let Some(old) = &search.remains.header else { return Ok(()) };
    if search.sizes == Sizes::Right {
        return judge.try_one(&kept(old.clone()));
    }
    let own = of_header(search, old).map(|table| sizes_of(&table.geometry));
    let mut versions = vec![old.clone()];
    versions.extend(with_version(&search.remains.bytes, if old.version == 2 { 3 } else { 2 }));
    let mut sizes: Vec<u32> = search.hints.sizes().collect();
    sizes.sort_by_key(|&bits| bits != old.cluster_bits);
    for mut header in versions {
        for &bits in &sizes {
            header.cluster_bits = bits;
            let mut header = header.clone();
            settle(&mut header);
            let failed = |e| Error::io("read the refcounts", header.reftable.get(), e);
            for order in reftable::widths(search.source, &header).map_err(failed)? {
                let mut header = Header { refcount_order: order, ..header.clone() };
                if let Some(size) = search.hints.size {
                    header.size = size;
                }
                let is_open = search.sizes == Sizes::Doubtful;
                if is_open || own.is_none_or(|own| own == (bits, order)) {
                    judge.try_one(&kept(header))?;
                } else {
                    judge.try_doubtful(&kept(header))?;
                }
            }
        }
    }
    Ok(())
}

/// log2 of the cluster size and of the refcount width.
const fn sizes_of(geometry: &Geometry) -> (u32, u32) {
    (geometry.cluster_bits(), geometry.refcount_order())
}

fn kept(header: Header) -> Candidate {
    let names = Names::default();
    Candidate { header, crypto: None, bitmaps: None, names, kept: true, least_bytes: 0 }
}

/// Walks through the file, and tries what points to what was sighted there.
pub fn of_found(
    search: &Search,
    judge: &mut Judge,
    options: &CheckOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let old = search.remains.header.as_ref();
    let own = old.and_then(|old| of_header(search, old));
    let sizes = match (search.hints.cluster_bits, &own) {
        (None, Some(own)) => own.geometry.cluster_bits()..own.geometry.cluster_bits() + 1,
        _ => search.hints.sizes(),
    };
    let sightings = scan::scan(search, sizes, options.threads, progress)?;
    let mut reftables = match own {
        Some(own) => vec![own],
        None => sightings.reftables.clone(),
    };
    reftables.sort_by_key(|table| std::cmp::Reverse(table.covered));
    for table in reftables.iter().take(MAX_REFTABLES) {
        with_refcounts(search, judge, &sightings, &table.geometry, Some(table))?;
    }
    if reftables.is_empty() {
        for bits in without_refcounts(search, old) {
            if let Ok(geometry) = Geometry::new(bits, 4, false, 0) {
                with_refcounts(search, judge, &sightings, &geometry, None)?;
            }
        }
    }
    Ok(())
}

/// The cluster sizes to try where no refcount table shows it: the old header's, if there is one.
fn without_refcounts(search: &Search, old: Option<&Header>) -> Vec<u32> {
    let possible = search.hints.sizes();
    match old.map(|old| old.cluster_bits).filter(|bits| possible.contains(bits)) {
        Some(bits) => vec![bits],
        None => possible.collect(),
    }
}

/// The refcount table that the old header names, where it describes itself.
fn of_header(search: &Search, old: &Header) -> Option<Reftable> {
    let geometry = old.geometry().ok()?;
    Reftable::at(search.source, old.reftable, geometry).ok().flatten()
}

/// Tries all that was sighted with one cluster size.
fn with_refcounts(
    search: &Search,
    judge: &mut Judge,
    sightings: &Sightings,
    geometry: &Geometry,
    counts: Option<&Reftable>,
) -> Result<()> {
    let failed = |e| Error::io("search the file", 0, e);
    let mut tables = l1::tables(search, geometry, sightings, counts).map_err(failed)?;
    tables.truncate(MAX_L1_TABLES);
    let mut snapshots = snapshot_tables(search, geometry, sightings, counts)?;
    snapshots.push((HostOffset::new(0), SnapshotTable::default()));
    let base = base(search, geometry, counts);
    for (at, snapshots) in &snapshots {
        let header = with_snapshots(&base, *at, snapshots);
        // Offsets of refcount blocks look like those of a snapshot's L2 tables.
        let taken = |table: &L1Table| {
            table.offset == base.reftable
                || snapshots.entries.iter().any(|entry| entry.header.l1_table == table.offset)
        };
        for table in tables.iter().filter(|table| !taken(table)) {
            for candidate in with_l1(search, &header, geometry, table, snapshots) {
                judge.try_one(&candidate)?;
                with_extensions(search, judge, sightings, &candidate, geometry)?;
            }
        }
        for candidate in without_l1(search, &header, geometry)? {
            judge.try_one(&candidate)?;
            with_extensions(search, judge, sightings, &candidate, geometry)?;
        }
    }
    Ok(())
}

/// The fields that do not depend on tables of the mapping.
fn base(search: &Search, geometry: &Geometry, counts: Option<&Reftable>) -> Header {
    let mut header = search.remains.header.clone().unwrap_or_else(|| {
        let (offset, length) = search.remains.backing.unwrap_or((0, 0));
        let inside = offset + u64::from(length) <= geometry.cluster_bytes();
        let (backing_name_offset, backing_name_len) =
            if inside { (offset, length) } else { (0, 0) };
        let data_file = search.hints.names.data_file.as_ref();
        let incompatible = data_file.map_or(0, |_| incompatible::DATA_FILE);
        Header { backing_name_offset, backing_name_len, incompatible, ..blank() }
    });
    header.cluster_bits = geometry.cluster_bits();
    if geometry.refcount_order() != 4 && header.version < 3 {
        header = Header { version: 3, header_length: 104, ..header };
    }
    header.refcount_order = geometry.refcount_order();
    settle(&mut header);
    match counts {
        Some(table) if table.offset == header.reftable && header.reftable_clusters > 0 => {}
        Some(table) => {
            header.reftable = table.offset;
            header.reftable_clusters = table.clusters;
        }
        None => {
            header.reftable = HostOffset::new(0);
            header.reftable_clusters = 0;
        }
    }
    header
}

/// Snapshot tables in clusters that are in use, the longest first.
fn snapshot_tables(
    search: &Search,
    geometry: &Geometry,
    sightings: &Sightings,
    counts: Option<&Reftable>,
) -> Result<Vec<(HostOffset, SnapshotTable)>> {
    let mut found = Vec::new();
    for at in sightings.snapshot_tables.iter().map(|&at| HostOffset::new(at)) {
        let failed = |e| Error::io("read a snapshot table", at.get(), e);
        let Some(cluster) = geometry.cluster_exact(at) else { continue };
        let used = match counts {
            Some(counts) => counts.count(search.source, cluster).map_err(failed)? > 0,
            None => true,
        };
        if used {
            let end = search.source.len().map_err(failed)?;
            let table = as_far_as_sound(search, geometry, at, end);
            if !table.entries.is_empty() {
                found.push((at, table));
            }
        }
    }
    found.sort_by_key(|(_, table)| std::cmp::Reverse(table.entries.len()));
    found.truncate(MAX_SNAPSHOT_TABLES);
    Ok(found)
}

/// The entries up to the first one whose L1 table has no valid offset.
fn as_far_as_sound(
    search: &Search,
    geometry: &Geometry,
    at: HostOffset,
    end: u64,
) -> SnapshotTable {
    let mut count = 1;
    loop {
        let table = SnapshotTable::load(search.source, at, count);
        let sound = table.entries.iter().all(|entry| {
            let header = &entry.header;
            let bytes = u64::from(header.l1_entries) * 8;
            let inside = header.l1_table.saturating_add(bytes).get() <= end.next_multiple_of(512);
            geometry.is_aligned(header.l1_table)
                && header.l1_table.get() > 0
                && inside
                && !entry.id.is_empty()
                && entry.id.iter().all(|byte| byte.is_ascii_graphic())
        });
        if !sound || table.problem.is_some() || count > 4096 {
            return SnapshotTable::load(search.source, at, count - 1);
        }
        count += 1;
    }
}

/// The header with these snapshots; those that an old header names stay where none were sighted.
fn with_snapshots(base: &Header, at: HostOffset, table: &SnapshotTable) -> Header {
    let count = u32::try_from(table.entries.len()).unwrap_or(0);
    Header { snapshot_table: at, snapshot_count: count, ..base.clone() }
}

/// Headers that point to an L1 table: with the size that is known, and with the one that it shows.
fn with_l1(
    search: &Search,
    base: &Header,
    geometry: &Geometry,
    table: &L1Table,
    snapshots: &SnapshotTable,
) -> Vec<Candidate> {
    let mut header = Header { l1_table: table.offset, ..base.clone() };
    if table.extended {
        header.version = 3;
        header.incompatible |= incompatible::EXTENDED_L2;
    } else {
        header.incompatible &= !incompatible::EXTENDED_L2;
    }
    let Ok(geometry) =
        Geometry::new(geometry.cluster_bits(), geometry.refcount_order(), table.extended, 0)
    else {
        return Vec::new();
    };
    let used = u64::from(table.used);
    let same = |size: &u64| geometry.l1_entries_for(*size) == used;
    let disks = snapshots.entries.iter().rev().filter_map(|entry| entry.disk_bytes());
    let told = disks.into_iter().find(same).unwrap_or(used * geometry.bytes_per_l2_table());
    let mut sizes = match (search.hints.size, &search.remains.header) {
        (Some(size), _) => vec![size],
        (None, Some(old)) if old.size != told => vec![old.size, told],
        (None, _) => vec![told],
    };
    sizes.retain(|&size| size > 0 && geometry.l1_entries_for(size) * 8 <= MAX_L1_BYTES);
    let candidate = |size: u64| {
        let needed = geometry.l1_entries_for(size).max(used);
        let entries = u32::try_from(needed).unwrap_or(u32::MAX);
        let clusters = |entries: u32| geometry.clusters_for(u64::from(entries) * 8);
        let old = search.remains.header.as_ref().map_or(0, |old| old.l1_entries);
        let l1_entries =
            if old > entries && clusters(old) == clusters(entries) { old } else { entries };
        candidate(search, Header { size, l1_entries, ..header.clone() })
    };
    sizes.into_iter().map(candidate).collect()
}

fn candidate(search: &Search, header: Header) -> Candidate {
    let kept = search.remains.header.is_some();
    let names = search.hints.names.clone();
    Candidate { header, crypto: None, bitmaps: None, names, kept, least_bytes: 0 }
}

/// Headers of a disk with nothing in it, where the size is known: with the old table if it can be
/// one, and with one of zeroes after the end of the file.
fn without_l1(search: &Search, base: &Header, geometry: &Geometry) -> Result<Vec<Candidate>> {
    let old = search.remains.header.as_ref();
    let extended = base.incompatible & incompatible::EXTENDED_L2 != 0;
    let order = geometry.refcount_order();
    let Ok(geometry) = Geometry::new(geometry.cluster_bits(), order, extended, 0) else {
        return Ok(Vec::new());
    };
    let Some(size) = search.hints.size.or(old.map(|old| old.size)) else { return Ok(Vec::new()) };
    let entries = geometry.l1_entries_for(size).max(1);
    let bytes = entries.saturating_mul(8);
    let end = search.source.len().map_err(|e| Error::file("determine the file's length", e))?;
    if bytes > MAX_L1_BYTES || size == 0 {
        return Ok(Vec::new());
    }
    let l1_entries = u32::try_from(entries).unwrap_or(u32::MAX);
    let header = Header { size, l1_entries, ..base.clone() };
    let mut found = Vec::new();
    let inside = |old: &&Header| {
        let at = old.l1_table;
        geometry.is_aligned(at) && at.get() > 0 && at.saturating_add(bytes).get() <= end
    };
    if let Some(old) = old.filter(inside) {
        found.push(candidate(search, Header { l1_table: old.l1_table, ..header.clone() }));
    }
    if search.growable {
        let at = end.max(1).next_multiple_of(geometry.cluster_bytes());
        let least_bytes = at + bytes.next_multiple_of(geometry.cluster_bytes());
        let header = Header { l1_table: HostOffset::new(at), ..header };
        found.push(Candidate { least_bytes, ..candidate(search, header) });
    }
    Ok(found)
}

/// Tries a candidate with what extensions point to, where they are lost.
fn with_extensions(
    search: &Search,
    judge: &mut Judge,
    sightings: &Sightings,
    candidate: &Candidate,
    geometry: &Geometry,
) -> Result<()> {
    if candidate.kept {
        return Ok(());
    }
    let mut plain = candidate.clone();
    if let Some(bitmaps) = &search.remains.bitmaps {
        plain.bitmaps = Some(*bitmaps);
        plain.header.autoclear |= autoclear::BITMAPS;
        judge.try_one(&plain)?;
    }
    for &at in sightings.luks.iter().take(MAX_LUKS) {
        let offset = HostOffset::new(at);
        let mut bytes = vec![0; LUKS_BYTES];
        let failed = |e| Error::io("read an encryption header", at, e);
        search.source.read_padded_at(at, &mut bytes).map_err(failed)?;
        if let (true, Some(luks)) = (geometry.is_aligned(offset), LuksHeader::decode(&bytes)) {
            let mut with = plain.clone();
            with.crypto = Some(CryptoHeader { offset, length: luks.payload_offset });
            with.header.crypt_method = CryptMethod::Luks;
            judge.try_one(&with)?;
        }
    }
    Ok(())
}
