//! One walk through all data of the file, in which structures are sighted whatever the cluster
//! size.

use std::io;
use std::ops::Range;

use super::basis::Search;
use super::shape::{self, SECTOR_BYTES, SECTOR_WORDS, Shape};
use crate::check::lost::reftable::Reftable;
use crate::check::parallel;
use crate::error::{Error, Result};
use crate::format::geometry::{MAX_CLUSTER_BITS, MAX_REFCOUNT_ORDER, MIN_CLUSTER_BITS};
use crate::format::l1::OFFSET_MASK;
use crate::format::refcount::get_refcount;
use crate::format::{Geometry, HostOffset, decode_entries};
use crate::progress::Progress;
use crate::storage::ReadAt;

/// Bytes that are read in one go.
const READ_BYTES: u64 = 1 << 20;
/// Parts into which the walk is divided, about.
const PARTS: u64 = 1 << 14;
/// So many sightings of a kind are kept in each part of the file.
const MAX_PER_PART: usize = 1 << 12;
/// A sector whose first pointers refer to so many empty ranges belongs to a table that maps data
/// without content.
const MAX_EMPTY: usize = 8;
/// So many tables in a row may be damaged.
const MAX_DAMAGED: usize = 2;
/// Bytes of a table's beginning that are looked at.
const HEAD_BYTES: u64 = 64 << 10;

/// What was sighted, in file order.
#[derive(Debug, Default)]
pub struct Sightings {
    /// Refcount tables that describe themselves, for each geometry for which they do.
    pub reftables: Vec<Reftable>,
    /// Sectors whose entries point to tables: of L1 tables.
    pub l1_sectors: Vec<u64>,
    /// Sectors with which a snapshot table can begin.
    pub snapshot_tables: Vec<u64>,
    /// LUKS headers.
    pub luks: Vec<u64>,
}

impl Sightings {
    fn append(&mut self, mut other: Self) {
        self.reftables.append(&mut other.reftables);
        self.l1_sectors.append(&mut other.l1_sectors);
        self.snapshot_tables.append(&mut other.snapshot_tables);
        self.luks.append(&mut other.luks);
    }
}

/// Walks through the file; clusters are of a size in `sizes`, given as a power of two.
pub fn scan(
    search: &Search,
    sizes: Range<u32>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Sightings> {
    let source = search.source;
    let failed = |offset| move |e| Error::io("search the file", offset, e);
    let end = source.len().map_err(failed(0))?;
    progress.stage("search", end);
    let part_bytes = (end / PARTS).next_multiple_of(READ_BYTES).max(READ_BYTES);
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut from = 0;
    while let Some(data) = source.next_data(from).map_err(failed(from))? {
        let mut at = data.start / SECTOR_BYTES * SECTOR_BYTES;
        while at < data.end {
            let stop = (at + part_bytes).min(data.end);
            parts.push(at..stop);
            at = stop.next_multiple_of(SECTOR_BYTES);
        }
        from = data.end;
    }
    let end = end.next_multiple_of(SECTOR_BYTES);
    let data_end = search.data_end().unwrap_or(end);
    let walker = Walker { source, data: &parts, end, data_end, sizes };
    let results = parallel::map(parallel::threads(threads), parts.len(), Vec::new, |buffer, n| {
        let found = walker.part(&parts[n], buffer);
        progress.advance(parts[n].end - parts[n].start);
        found
    });
    let mut sightings = Sightings::default();
    for (part, result) in parts.iter().zip(results) {
        sightings.append(result.map_err(failed(part.start))?);
    }
    Ok(sightings)
}

struct Walker<'a> {
    source: &'a dyn ReadAt,
    /// Where the file is not a hole, in its order.
    data: &'a [Range<u64>],
    end: u64,
    /// Where offsets in L2 tables end.
    data_end: u64,
    sizes: Range<u32>,
}

impl Walker<'_> {
    fn part(&self, part: &Range<u64>, buffer: &mut Vec<u8>) -> io::Result<Sightings> {
        let mut found = Sightings::default();
        let mut at = part.start;
        while at < part.end {
            let bytes = (part.end - at).min(READ_BYTES).next_multiple_of(SECTOR_BYTES);
            buffer.resize(usize::try_from(bytes).map_err(io::Error::other)?, 0);
            self.source.read_padded_at(at, buffer)?;
            let words = decode_entries(buffer);
            for (number, sector) in (0u64..).zip(words.chunks_exact(SECTOR_WORDS)) {
                // The header's own sector is not a table.
                let offset = at + number * SECTOR_BYTES;
                if offset > 0 {
                    self.sector(offset, sector, &mut found)?;
                }
            }
            at += bytes;
        }
        Ok(found)
    }

    fn sector(&self, offset: u64, words: &[u64], found: &mut Sightings) -> io::Result<()> {
        if shape::is_luks(words) && found.luks.len() < MAX_PER_PART {
            found.luks.push(offset);
        }
        if shape::is_snapshot_table(words, self.end) && found.snapshot_tables.len() < MAX_PER_PART {
            found.snapshot_tables.push(offset);
        }
        let shape = shape::of_sector(words, self.end);
        if shape == Some(Shape::Offsets) && words[0] != 0 && found.reftables.len() < MAX_PER_PART {
            self.reftables(HostOffset::new(offset), HostOffset::new(words[0]), found)?;
        }
        if matches!(shape, Some(Shape::Offsets | Shape::Pointers))
            && found.l1_sectors.len() < MAX_PER_PART
            && self.leads_to_tables(words)?
        {
            found.l1_sectors.push(offset);
        }
        Ok(())
    }

    /// Every geometry for which a refcount table here, whose first block is at `block`, describes
    /// itself.
    fn reftables(
        &self,
        offset: HostOffset,
        block: HostOffset,
        found: &mut Sightings,
    ) -> io::Result<()> {
        let mut head = [0; 8];
        self.source.read_padded_at(block.get(), &mut head)?;
        for order in (0..=MAX_REFCOUNT_ORDER).filter(|&order| get_refcount(&head, order, 0) == 1) {
            for bits in self.sizes.clone() {
                if let Ok(geometry) = Geometry::new(bits, order, false, 0) {
                    if geometry.is_aligned(block) {
                        found.reftables.extend(Reftable::at(self.source, offset, geometry)?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the entries point to what begins like a table, or like nothing; at least one to a
    /// table. Tables can be damaged too, but not most of them.
    fn leads_to_tables(&self, words: &[u64]) -> io::Result<bool> {
        let (mut tables, mut empty, mut other) = (0, 0, 0);
        for &word in words.iter().filter(|&&word| word != 0) {
            match self.begins_like(word & OFFSET_MASK)? {
                Some(Shape::Empty) => empty += 1,
                Some(_) => tables += 1,
                None => other += 1,
            }
            if tables == 0 && empty > MAX_EMPTY || other > tables + MAX_DAMAGED {
                return Ok(false);
            }
        }
        Ok(tables > 0 && tables >= other)
    }

    /// Whether there is nothing but a hole.
    fn is_hole(&self, range: Range<u64>) -> bool {
        let next = self.data.partition_point(|data| data.end <= range.start);
        self.data.get(next).is_none_or(|data| data.start >= range.end)
    }

    /// The shape of the first sector that is not empty, as far as the smallest possible cluster
    /// goes and a little further where the offset allows larger ones.
    fn begins_like(&self, offset: u64) -> io::Result<Option<Shape>> {
        let aligned = 1u64 << offset.trailing_zeros().clamp(MIN_CLUSTER_BITS, MAX_CLUSTER_BITS);
        let largest = 1u64 << (self.sizes.end - 1).max(MIN_CLUSTER_BITS);
        let mut bytes = [0; 4096];
        let mut at = offset;
        let end = offset.saturating_add(aligned.min(largest).min(HEAD_BYTES));
        if self.is_hole(offset..end) {
            return Ok(Some(Shape::Empty));
        }
        while at < end {
            self.source.read_padded_at(at, &mut bytes)?;
            for sector in decode_entries(&bytes).chunks_exact(SECTOR_WORDS) {
                match shape::of_sector(sector, self.data_end) {
                    Some(Shape::Empty) => {}
                    shape => return Ok(shape),
                }
            }
            at += bytes.len() as u64;
        }
        Ok(Some(Shape::Empty))
    }
}
