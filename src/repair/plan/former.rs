//! Refcount structures to which nothing points any more: they are rebuilt, so that nothing is lost
//! with them.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::check::Survey;
use crate::check::lost::reftable::Reftable;
use crate::check::survey::refcount_map::RefcountMap;
use crate::error::{Error, Result};
use crate::format::refcount::{ReftableEntry, counted_in_either};
use crate::format::{ClusterCount, HostOffset, ReftableIndex, decode_entries};
use crate::sector::SECTOR_LEN;
use crate::storage::{Storage, is_zero};

/// Blocks that are compared refcount by refcount with what they should be, at most, beside the one
/// that describes a cluster itself.
const MAX_COMPARED: usize = 16;

/// A refcount structure without a pointer.
pub enum Former {
    /// A refcount block.
    Block,
    /// A refcount table that describes itself.
    Table(Reftable),
}

/// How refcount structures without a pointer are recognised.
pub struct FormerStructures<'a> {
    survey: &'a Survey,
    /// What a rebuild counts, without what no refcount shows to be in use.
    counted: Arc<RefcountMap>,
    /// The sectors, as they should be, of the blocks that describe clusters of which no refcount
    /// can be relied on: which sector of the block, and its hash.
    sectors: HashSet<(usize, u64)>,
    /// Some of these blocks.
    blocks: Vec<(ReftableIndex, Vec<u8>)>,
}

impl<'a> FormerStructures<'a> {
    /// Those of an image.
    pub fn of(survey: &'a Survey) -> Self {
        let geometry = &survey.area.geometry;
        let counted = survey.claimed(true);
        let mut found = Self { survey, counted, sectors: HashSet::new(), blocks: Vec::new() };
        let mut next = 0;
        for range in &survey.uncounted {
            let (low, _) = geometry.refcount_place(range.start);
            let (high, _) = geometry.refcount_place(range.end);
            for index in low.get().max(next)..=high.get() {
                let at = ReftableIndex::new(index);
                let block = found.expected(at);
                let sectors =
                    block.chunks(SECTOR_LEN).enumerate().filter(|(_, sector)| !is_zero(sector));
                found.sectors.extend(sectors.map(|(number, sector)| (number, hash(sector))));
                if found.blocks.len() < MAX_COMPARED {
                    found.blocks.push((at, block));
                }
                next = index + 1;
            }
        }
        found
    }

    /// A block as it should be.
    fn expected(&self, index: ReftableIndex) -> Vec<u8> {
        let geometry = &self.survey.area.geometry;
        let mut block = vec![0; geometry.cluster_len()];
        self.counted.encode_block(index, geometry, &mut block);
        block
    }

    /// What the cluster there was, if it was one of them.
    pub fn kind(&self, source: &dyn Storage, at: HostOffset) -> Result<Option<Former>> {
        let geometry = self.survey.area.geometry;
        let mut bytes = vec![0; geometry.cluster_len()];
        let failed = |e| Error::io("look for refcount structures", at.get(), e);
        source.read_padded_at(at.get(), &mut bytes).map_err(failed)?;
        let (index, _) = geometry.refcount_place(geometry.cluster_floor(at));
        let own = (index, self.expected(index));
        let mut blocks = std::iter::once(&own).chain(&self.blocks);
        let block = self.has_sectors_of_a_block(&bytes)
            || blocks.any(|(index, block)| self.is_much_like(*index, block, &bytes));
        Ok(match Reftable::at(&source, at, geometry).map_err(failed)? {
            Some(table) if self.points_to_blocks(&bytes[..SECTOR_LEN]) => {
                Some(Former::Table(table))
            }
            _ => block.then_some(Former::Block),
        })
    }

    /// Whether each word is zero or could point to a refcount block. Of a table that was written in
    /// part the first sector is one.
    fn points_to_blocks(&self, bytes: &[u8]) -> bool {
        let geometry = &self.survey.area.geometry;
        decode_entries(bytes).into_iter().map(ReftableEntry).all(|entry| {
            let at = entry.offset();
            let inside = at.get() < self.survey.file_bytes;
            !entry.has_reserved_bits() && geometry.is_aligned(at) && inside
        })
    }

    /// Whether most sectors are those of a block.
    fn has_sectors_of_a_block(&self, bytes: &[u8]) -> bool {
        let (mut used, mut alike) = (0, 0);
        for (number, sector) in bytes.chunks(SECTOR_LEN).enumerate().filter(|(_, s)| !is_zero(s)) {
            used += 1;
            alike += usize::from(self.sectors.contains(&(number, hash(sector))));
        }
        2 * alike > used
    }

    /// Whether most refcounts in two blocks are alike, in the sectors that have any: a write may
    /// have arrived in part.
    fn is_much_like(&self, index: ReftableIndex, block: &[u8], other: &[u8]) -> bool {
        const FEWEST: u64 = 4;
        let geometry = &self.survey.area.geometry;
        let order = geometry.refcount_order();
        let per_sector = (SECTOR_LEN * 8) >> order;
        let first = geometry.first_cluster_of_block(index);
        let (mut used, mut alike) = (0u64, 0u64);
        let sectors = block.chunks(SECTOR_LEN).zip(other.chunks(SECTOR_LEN)).enumerate();
        for (number, (block, other)) in sectors.filter(|(_, (_, other))| !is_zero(other)) {
            for (entry, a, b) in counted_in_either((block, other), order, 0..per_sector) {
                let cluster = first + ClusterCount::new((number * per_sector + entry) as u64);
                // What nothing references may have been counted once, as it holds something.
                let counted = a == 0 && b == 1 && self.survey.has(cluster);
                used += u64::from(!counted);
                alike += u64::from(a == b);
            }
        }
        2 * alike > used && alike >= FEWEST
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
