//! The refcount table and where its blocks lie. Comes after everything else is counted, as what it
//! says of a block depends on who else uses the cluster.

use super::context::Context;
use super::finding::{Kind, Place, RegionKind};
use crate::format::geometry::TABLE_ENTRY_BYTES;
use crate::format::refcount::{MAX_REFTABLE_BYTES, ReftableEntry};
use crate::format::{HostCluster, HostOffset, ReftableIndex};
use crate::tables::load_entries;

/// A refcount table entry that points to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its position in the table.
    pub index: ReftableIndex,
    /// Where the block is said to lie.
    pub offset: HostOffset,
    /// Whether the pointer is sound and the cluster its own.
    pub sound: bool,
}

/// The refcount structures as they stand.
#[derive(Debug, Default)]
pub struct Refcounts {
    /// The entries of the refcount table.
    pub entries: Vec<u64>,
    /// The entries that point to something, in order.
    pub blocks: Vec<Block>,
    /// The table's own place is wrong, so no count can be read.
    pub unreadable: bool,
}

impl Refcounts {
    /// The block that describes this part of the file.
    pub fn block(&self, index: ReftableIndex) -> Option<Block> {
        let found = self.blocks.binary_search_by_key(&index, |b| b.index);
        found.ok().map(|at| self.blocks[at])
    }

    /// Whether the structure cannot be mended by changing counts in its blocks.
    pub fn is_broken(&self) -> bool {
        self.unreadable || self.blocks.iter().any(|b| !b.sound)
    }
}

/// Loads the table, claims it and its blocks.
pub fn run(ctx: &mut Context) -> Refcounts {
    let header = &ctx.area.header;
    let (offset, clusters) = (header.reftable, header.reftable_clusters);
    let bytes = u64::from(clusters) * ctx.geometry.cluster_bytes();
    let mut refcounts = Refcounts::default();
    if clusters == 0 {
        return refcounts;
    }
    let limit = MAX_REFTABLE_BYTES.max(ctx.geometry.cluster_bytes());
    if !ctx.geometry.is_aligned(offset) || offset.get() == 0 || bytes > limit {
        refcounts.unreadable = true;
        return refcounts;
    }
    ctx.claim(RegionKind::Reftable, offset, bytes, Place::Reftable);
    match load_entries(ctx.source, offset, bytes / TABLE_ENTRY_BYTES) {
        Ok(entries) => refcounts.entries = entries,
        Err(error) => {
            let kind =
                Kind::Unreadable { what: "refcount table", offset, error: error.to_string() };
            ctx.find(kind, Place::Reftable);
            refcounts.unreadable = true;
        }
    }
    for (index, &bits) in (0u64..).zip(&refcounts.entries) {
        if bits != 0 {
            let block = block(ctx, ReftableIndex::new(index), ReftableEntry(bits));
            refcounts.blocks.push(block);
        }
    }
    refcounts
}

fn block(ctx: &mut Context, index: ReftableIndex, entry: ReftableEntry) -> Block {
    let offset = entry.offset();
    let place = Place::Refblock(index);
    let mut sound = offset.get() != 0;
    let cluster = ctx.geometry.cluster_floor(offset);
    if entry.has_reserved_bits() {
        ctx.find(Kind::ReftableReserved, place);
        sound = false;
    }
    if !ctx.geometry.is_aligned(offset) {
        ctx.find(Kind::RefblockUnaligned, place);
        sound = false;
    } else if cluster >= HostCluster::new(ctx.file_clusters().get()) {
        ctx.find(Kind::RefblockOutside, place);
        sound = false;
    } else if offset.get() != 0 {
        ctx.claim(RegionKind::Refblock, offset, ctx.geometry.cluster_bytes(), place);
        let references = ctx.map.get(cluster);
        sound &= references == 1;
        // More than can be counted is told as such.
        let references = references.min(ctx.geometry.refcount_max());
        if references != 1 {
            ctx.find(Kind::RefblockShared { references }, place);
        }
    }
    Block { index, offset, sound }
}
